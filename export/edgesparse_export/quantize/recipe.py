"""How a model is quantized, as a file: what `edgesparse quantize` found can be edited and run again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import yaml

from edgesparse_export.quantize.int8 import (
    attention_nodes,
    linear_nodes,
    quantize_dynamically,
    quantize_natively,
    quantize_statically,
)
from edgesparse_export.quantize.targets import EVERY_KIND, needs_seven_bits, parse_targets
from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.errors import InputError

CHOICES = {
    "mode": ("dynamic", "static"),
    "method": ("minmax", "entropy", "percentile"),
    "linear": ("native", "onnxruntime"),
}


@dataclass(frozen=True)
class Int8Recipe:
    """What to quantize and how.

    Attributes:
        mode: "dynamic" scales activations at run time, "static" by ranges observed on data.
        method: ranges of static mode: "minmax", "entropy" or "percentile".
        linear: "native" puts linear layers into our operator, which gives the same bits on every instruction
            set; "onnxruntime" into onnxruntime's quantized operators, which are fast without our library
            too. Static mode has the latter only.
        per_channel: one scale per output channel.
        targets: instruction sets that the file may run on.
        float32: nodes that stay in float32.
    """

    mode: str = "dynamic"
    method: str = "minmax"
    linear: str = "native"
    per_channel: bool = True
    targets: tuple[str, ...] = EVERY_KIND
    float32: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InputError(f"`{name}` must be {' or '.join(known)}; got {getattr(self, name)}.")
        parse_targets(",".join(self.targets))

    @property
    def is_native(self) -> bool:
        """Linear layers are ours."""
        return self.linear == "native" and self.mode == "dynamic"

    @property
    def seven_bits(self) -> bool:
        """onnxruntime's weights are kept within 7 bits."""
        return not self.is_native and needs_seven_bits(self.targets)

    def nodes(self, model: onnx.ModelProto) -> list[str]:
        """Every node that could be quantized, whether it is or not."""
        return linear_nodes(model) + attention_nodes(model)

    def apply(
        self, model: onnx.ModelProto, windows: Iterable[npt.NDArray[np.float32]] | None = None
    ) -> onnx.ModelProto:
        """The int8 model.

        Args:
            windows: to observe ranges on, each [channels, time]; static mode only.

        Raises:
            InputError: static mode without windows, or a node that the model does not have.
        """
        unknown = sorted(set(self.float32) - set(self.nodes(model)))
        if unknown:
            known = ", ".join(self.nodes(model)[:4])
            raise InputError(
                f"Nodes to keep in float32 must be nodes of the model ({known}, ...); got {unknown[0]}."
            )
        if self.mode == "static":
            if windows is None:
                raise InputError(
                    "`mode` static needs data to observe ranges on. Give `--data FILE` or use dynamic."
                )
            return quantize_statically(
                model,
                windows,
                method=self.method,  # type: ignore[arg-type]
                per_channel=self.per_channel,
                seven_bits=self.seven_bits,
                nodes_to_exclude=self.float32,
            )
        if self.is_native:
            return quantize_natively(
                model,
                per_channel=self.per_channel,
                seven_bits=needs_seven_bits(self.targets),
                nodes_to_exclude=self.float32,
            )
        return quantize_dynamically(
            model, per_channel=self.per_channel, seven_bits=self.seven_bits, nodes_to_exclude=self.float32
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        values = asdict(self)
        return values | {"targets": list(self.targets), "float32": list(self.float32)}


def read_recipe(path: Path) -> Int8Recipe:
    """A recipe from YAML; the ranking in the same file is for people and is not read.

    Raises:
        InputError: no file, no YAML, or a key that a recipe does not have.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark, error.problem or error.context
        raise InputError(f"{path}, line {mark.line + 1 if mark else '?'} must be YAML; {problem}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} must be YAML; {str(error).splitlines()[0]}.") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path} must hold the keys of a quantization config.")
    known = {f.name for f in fields(Int8Recipe)}
    values = {k: v for k, v in content.items() if k != "ranking"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"{path}: unknown key `{unknown[0]}`. Known are {', '.join(sorted(known))}.")
    for name in ("targets", "float32"):
        if name in values:
            listed = values[name] or []
            if not isinstance(listed, list) or not all(isinstance(x, str) for x in listed):
                raise InputError(f"{path}: `{name}` must be a list of names; got {listed!r}.")
            values[name] = tuple(listed)
    if not isinstance(values.get("per_channel", True), bool):
        raise InputError(f"{path}: `per_channel` must be true or false; got {values['per_channel']!r}.")
    return Int8Recipe(**values)


def write_recipe(path: Path, recipe: Int8Recipe, ranking: list[dict[str, Any]]) -> None:
    """Write the recipe and, for the reader, what each node costs and gains."""
    head = (
        "# Written by `edgesparse quantize`. Edit it and run:\n"
        f"#   edgesparse quantize BUNDLE --data DATA --config {path.name}\n"
        "# float32: nodes that stay in float32. ranking: what was measured; it is not read.\n"
    )
    content = recipe.to_dict() | ({"ranking": ranking} if ranking else {})
    write_output(path, head + yaml.safe_dump(content, sort_keys=False))
