"""Does a bundle still give on this machine the answers it gave where it was made, and where does it break?

The boundaries, in the order in which a result crosses them: the files' hashes (and signature, where one is
required), loading each model, its scores and block choices on the golden vectors, in float32 the two
engines that can run sparse attention, native kernel and function body, against each other, and for causal
models the step model, fed the golden windows sample by sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.data.tensors.batch import TensorBatch, golden_inputs
from edgesparse_runtime.data.tensors.generation import next_tokens
from edgesparse_runtime.dense_twin.lookup import twin_file
from edgesparse_runtime.errors import BundleError, EdgeSparseError
from edgesparse_runtime.session import Session
from edgesparse_runtime.stream.step.replay import run_tokens, without_padding
from edgesparse_runtime.stream.step.token_stream import StepModel, has_step_model

# docs/reference/numerics.md: float32 as between engines; int8 rounds to steps, so bounded in score units.
TOLERANCES = {"float32": (1e-4, 1e-5), "int8": (0.0, 0.02)}
# A block whose share lies within rounding of `top_p` may fall on either side (docs/reference/numerics.md).
LEAST_AGREEMENT, TIE_DIFFERENCE = 0.999, 1e-6
# Tokens that a language model writes here; more would only take longer.
_MOST_WRITTEN = 64


@dataclass(frozen=True)
class Check:
    """One boundary.

    Attributes:
        boundary: "hashes", "signature", or a precision (or "step") and one of load, scores,
            selection, engine, dense twin.
        holds: it does.
        detail: the figures, or what is wrong.
        largest_difference: from the golden scores, where scores are compared.
        decisions_flipped: golden windows that are decided differently; 0 for regression.
        agreement: share of block choices that are equal, where they are compared.
        engine: what ran the sparse operator.
    """

    boundary: str
    holds: bool
    detail: str = ""
    largest_difference: float | None = None
    decisions_flipped: int | None = None
    agreement: float | None = None
    engine: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify_path(path: Path, *, threads: int | None = None, trusted_keys: Sequence[Path] = ()) -> list[Check]:
    """Open the bundle at `path` and check every boundary; the first broken file or signature ends it.

    Raises:
        InputError: there is nothing at `path`, or a key cannot be read.
    """
    try:
        bundle = open_bundle(path)
    except BundleError as error:
        return [Check("hashes", False, str(error))]
    checks = [Check("hashes", True, f"{len(bundle.manifest['files'])} files")]
    if trusted_keys:
        try:
            open_bundle(path, trusted_keys=trusted_keys)
        except BundleError as error:
            return [*checks, Check("signature", False, str(error))]
        checks.append(Check("signature", True, "by " + " or ".join(str(key) for key in trusted_keys)))
    return checks + verify(bundle, threads=threads)


def verify(bundle: Bundle, *, threads: int | None = None) -> list[Check]:
    """Run the golden vectors through every model of the bundle (hashes were checked on opening)."""
    try:
        golden = bundle.golden()
        if golden_inputs(golden) is None:
            raise BundleError(f"{bundle.path}: golden.npz must hold inputs. Export the bundle again.")
    except BundleError as error:
        return [Check("golden vectors", False, str(error))]
    checks: list[Check] = []
    for precision in bundle.precisions:
        checks += _verify_model(bundle, precision, golden, threads)
    if has_step_model(bundle):
        checks += _verify_step(bundle, golden)
    return checks


def check_scores(session: Session) -> Check:
    """Run the golden vectors of its bundle through a session that is open already."""
    bundle, boundary = session.bundle, f"{session.precision} scores"
    assert bundle is not None
    golden = bundle.golden()
    expected = golden.get(f"scores_{session.precision}")
    inputs = golden_inputs(golden)
    if inputs is None or expected is None:
        return Check(boundary, False, "golden.npz holds none; quantize or export again")
    # The golden scores are the sparse model's, also where its dense twin is faster here.
    actual = _golden_scores(session, inputs, expected)
    return _compare_scores(boundary, bundle, session.precision, actual, expected, session.engine)


def _golden_scores(
    session: Session, inputs: FloatArray | TensorBatch, expected: npt.NDArray[Any]
) -> FloatArray:
    """Scores of the golden inputs, in the way in which those recorded were made.

    Bundles from before version 0.2 may hold padded windows of a model that takes padding for missing values.
    """
    scores = session.predict(inputs, may_switch=False)
    if isinstance(inputs, TensorBatch) or scores.shape != expected.shape:
        return scores
    if not np.isnan(inputs[:, :, -1:]).all(axis=1).any():
        return scores
    padded = session.run_padded(inputs)
    is_nearer = np.abs(padded - expected).max(initial=0) < np.abs(scores - expected).max(initial=0)
    return padded if is_nearer else scores


def _verify_model(
    bundle: Bundle, precision: str, golden: dict[str, npt.NDArray[Any]], threads: int | None
) -> list[Check]:
    try:
        session = Session(bundle, precision=precision, threads=threads, attention="sparse")
    except EdgeSparseError as error:
        return [Check(f"{precision} load", False, str(error))]
    checks = [Check(f"{precision} load", True, engine=session.engine)]
    expected = golden.get(f"scores_{precision}")
    if expected is None:
        return [
            *checks,
            Check(f"{precision} scores", False, "golden.npz holds none; quantize or export again"),
        ]
    try:
        inputs = golden_inputs(golden)
        assert inputs is not None
        actual = _golden_scores(session, inputs, expected)
        choices = session.selections(inputs) if session.is_sparse else []
    except EdgeSparseError as error:
        return [*checks, Check(f"{precision} scores", False, str(error), engine=session.engine)]
    scores = _compare_scores(f"{precision} scores", bundle, precision, actual, expected, session.engine)
    checks.append(scores)
    stored = [golden.get(f"selection_{precision}.{i}") for i in range(len(choices))]
    if choices and all(s is not None for s in stored):
        checks.append(_compare_choices(f"{precision} selection", choices, stored, scores, session.engine))
    # int8 kernels and the function body's float32 arithmetic differ by design; float32 tells of the kernel.
    if session.engine.startswith("native") and precision == "float32":
        checks.append(_compare_engines(bundle, precision, inputs, actual, threads, session.engine))
    if twin_file(bundle.manifest, precision) is not None:
        checks.append(_check_twin(bundle, precision, inputs, threads))
    if "generation" in bundle.manifest:
        checks.append(_check_written(session, golden, inputs))
    return checks


def _check_written(
    session: Session, golden: dict[str, npt.NDArray[Any]], inputs: FloatArray | TensorBatch
) -> Check:
    """The tokens that a language model writes after the golden prompt, one run each over its cache."""
    boundary = f"{session.precision} written tokens"
    wanted = golden.get(f"generated_{session.precision}")
    if wanted is None or not isinstance(inputs, TensorBatch) or "input_ids" not in inputs.arrays:
        return Check(boundary, False, "golden.npz holds none; export again")
    if wanted.ndim != 1 or wanted.dtype.kind not in "iu" or not 0 < len(wanted) <= _MOST_WRITTEN:
        return Check(boundary, False, f"golden.npz must hold 1 to {_MOST_WRITTEN} of them; export again")
    try:
        found = list(next_tokens(session, inputs.arrays["input_ids"][0].tolist(), len(wanted)))
    except EdgeSparseError as error:
        return Check(boundary, False, str(error))
    equal = sum(a == b for a, b in zip(found, wanted.tolist(), strict=True))
    detail = f"{equal} of {len(found)} as recorded, {session.engine}"
    return Check(boundary, equal == len(found), detail, engine=session.engine)


def _check_twin(
    bundle: Bundle, precision: str, inputs: FloatArray | TensorBatch, threads: int | None
) -> Check:
    """The dense twin against the sparse model with every block kept: the same sums in another order."""
    boundary = f"{precision} dense twin"
    try:
        twin = Session(bundle, precision=precision, threads=threads, attention="dense").predict(inputs)
        full = Session(
            bundle, precision=precision, threads=threads, attention="sparse", top_p=1.0, max_blocks=1 << 30
        )
        expected = full.predict(inputs)
    except EdgeSparseError as error:
        return Check(boundary, False, str(error))
    return _compare_scores(boundary, bundle, precision, twin, expected, "against every block kept")


def _verify_step(bundle: Bundle, golden: dict[str, npt.NDArray[Any]]) -> list[Check]:
    """The step model after each golden window's last sample, against the whole model on the window.

    Its state goes through every sample and block before, so an error anywhere in the window shows here.
    """
    try:
        model = StepModel.open(bundle)
    except EdgeSparseError as error:
        return [Check("step load", False, str(error))]
    checks = [Check("step load", True)]
    expected, windows = golden.get("scores_float32"), golden.get("windows")
    if expected is None or windows is None or windows.ndim != 3 or 0 in windows.shape:
        return [*checks, Check("step scores", False, "golden.npz holds no windows with scores; export again")]
    try:
        last = [run_tokens(model, without_padding(window))[-1] for window in windows]
    except EdgeSparseError as error:
        return [*checks, Check("step scores", False, str(error))]
    engine = "sample by sample"
    actual = np.stack(last)
    return [*checks, _compare_scores("step scores", bundle, "float32", actual, expected, engine)]


def _compare_scores(
    boundary: str, bundle: Bundle, precision: str, actual: FloatArray, expected: FloatArray, engine: str
) -> Check:
    if actual.shape != expected.shape:
        return Check(boundary, False, f"shape {actual.shape} where {expected.shape} was recorded")
    relative, absolute = TOLERANCES[precision]
    difference = np.abs(actual - expected)
    largest = float(difference.max(initial=0.0))
    flipped = int((actual.argmax(-1) != expected.argmax(-1)).sum()) if bundle.classes else 0
    size = np.abs(expected)
    if bundle.manifest["input"].get("tensors"):
        # States of an encoder are vectors: an error is measured by its token's largest entry.
        size = size.max(axis=-1, keepdims=True, initial=0.0)
        relative = relative or absolute
    near = bool((difference <= absolute + relative * size).all())
    detail = f"largest difference {largest:.1e}, {flipped} decisions flipped, {engine}"
    return Check(boundary, near and not flipped, detail, largest, flipped, engine=engine)


def _compare_choices(
    boundary: str,
    actual: Sequence[npt.NDArray[Any]],
    expected: Sequence[npt.NDArray[Any] | None],
    scores: Check,
    engine: str,
) -> Check:
    equal = total = 0
    for a, b in zip(actual, expected, strict=True):
        assert b is not None
        if a.shape != b.shape:
            return Check(boundary, False, f"shape {a.shape} where {b.shape} was recorded", engine=engine)
        equal, total = equal + int((a == b.astype(bool)).sum()), total + a.size
    agreement = equal / max(total, 1)
    # Equal blocks tie, and engines that round differently break the tie differently: no score moves.
    same_scores = scores.largest_difference is not None and scores.largest_difference <= TIE_DIFFERENCE
    holds = agreement >= LEAST_AGREEMENT or same_scores
    return Check(
        boundary, holds, f"{agreement:.2%} of block choices equal", agreement=agreement, engine=engine
    )


def _compare_engines(
    bundle: Bundle,
    precision: str,
    windows: FloatArray | TensorBatch,
    native: FloatArray,
    threads: int | None,
    engine: str,
) -> Check:
    """The function body on the same windows: the file's own definition of its operator."""
    boundary = f"{precision} engine"
    try:
        body = Session(
            bundle, precision=precision, threads=threads, engine="body", attention="sparse"
        ).predict(windows)
    except EdgeSparseError as error:
        return Check(boundary, False, f"function body: {error}", engine=engine)
    return _compare_scores(boundary, bundle, precision, native, body, f"{engine} against the function body")
