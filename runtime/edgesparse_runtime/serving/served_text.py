"""A loaded bundle of the server that takes text and answers embeddings; `load_any` loads either kind.

Texts of one length share a run, and nothing is padded: an embedding does not depend on other requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnxruntime

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.sensors.input_check import input_check_of
from edgesparse_runtime.data.tensors.batch import TensorBatch
from edgesparse_runtime.data.tensors.embedding import tokenizer_of
from edgesparse_runtime.data.tensors.text import IDS, MASK, Tokens
from edgesparse_runtime.errors import BundleError
from edgesparse_runtime.serving.addresses import Address
from edgesparse_runtime.serving.protocol.refusal import Refusal
from edgesparse_runtime.serving.protocol.texts import DATATYPE, NAME, TextBounds
from edgesparse_runtime.serving.served_model import ServedModel, open_session, serve_windows
from edgesparse_runtime.serving.settings import Settings

OUTPUT = "embedding"


@dataclass(frozen=True, eq=False)
class ServedText(ServedModel):
    """As `ServedModel`; its windows [n, 2, tokens] are ids and padding masks of texts of one length."""

    def output_names(self, operation: str) -> tuple[str, ...]:
        return (OUTPUT,)

    def explain_bounds(self) -> TextBounds:
        raise Refusal(400, f"Model {self.address.name} takes text, which `explain` does not. Use `infer`.")

    def scores(self, window: FloatArray, options: onnxruntime.RunOptions | None = None) -> FloatArray:
        batch = TensorBatch({IDS: window[:, 0], MASK: window[:, 1]})
        return self.session.predict(batch, batch_size=max(1, len(window)), options=options)

    def outputs(self, found: FloatArray) -> dict[str, Any]:
        return {OUTPUT: found}

    def tokenize(self, texts: tuple[str, ...], prompt: str | None) -> list[Tokens]:
        """The tokens of each text of a request."""
        return tokenizer_of(self.session).encode(texts, prompt)

    async def embed(
        self,
        texts: tuple[str, ...],
        prompt: str | None,
        run: Callable[[ServedModel, FloatArray], Coroutine[Any, Any, FloatArray]],
    ) -> tuple[FloatArray, dict[str, Any]]:
        """Embeddings [n, size] and what to say of them.

        Args:
            run: computes windows of one length.
        """
        # A long text takes a while, and the tokenizer lets other threads run.
        tokens = await asyncio.to_thread(self.tokenize, texts, prompt)
        rows = {n: [i for i, x in enumerate(tokens) if len(x) == n] for n in sorted({len(x) for x in tokens})}
        parts = [
            np.stack([np.stack([tokens[i].ids, np.ones(n, np.int64)]) for i in r]) for n, r in rows.items()
        ]
        # Ids are whole numbers; what carries them to the runner does not look at them.
        found = await asyncio.gather(*(run(self, cast("FloatArray", part)) for part in parts))
        vectors: FloatArray = np.concatenate(found)
        vectors[np.concatenate([*rows.values()])] = vectors.copy()
        cut = ", ".join(str(i) for i, x in enumerate(tokens) if x.is_truncated)
        return vectors, {"truncated": cut} if cut else {}

    def metadata(self, versions: list[str]) -> dict[str, Any]:
        tokenizer = tokenizer_of(self.session)
        return {
            "name": self.address.name,
            "versions": versions,
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": NAME, "datatype": DATATYPE, "shape": [-1]}],
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, self.session.score_count or -1]}],
            "parameters": self.parameters()
            | {
                "task": self.bundle.task,
                "precision": self.session.precision,
                "engine": self.session.engine,
                "max_tokens": tokenizer.max_tokens,
                "prompts": list(tokenizer.prompts),
            },
        }


def load_any(address: Address, settings: Settings, rehearsed: str | None = None) -> ServedModel:
    """As `served_model.load`, and bundles that take text.

    Raises:
        EdgeSparseError: as there; or the package `tokenizers` is missing.
    """
    session, bundle_hash = open_session(address, settings, rehearsed)
    if session.bundle is None or "text" not in session.bundle.manifest:
        return serve_windows(address, session, bundle_hash, settings)
    tokenizer = tokenizer_of(session)
    bounds = TextBounds(2, 1, tokenizer.max_tokens, settings.max_windows, tuple(tokenizer.prompts))
    max_rows = 1 if session.precision == "int8" else None
    model = ServedText(address, bundle_hash, session, bounds, max_rows, input_check_of(session))
    if not np.isfinite(session.embed(["a"])).all():
        raise BundleError(f"{address.path} outputs an embedding that is not finite for the text `a`.")
    return model
