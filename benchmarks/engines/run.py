"""`make engines`: which engines open a bundle's model, and whether their scores are the golden ones.

Prints a table: engine and version, largest difference, decisions that differ. An engine that refuses the
model is listed with its words; one that answers wrongly without a word is called WRONG, and the exit code is
1. BUNDLE on the command line takes another bundle than the tests' small one.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.engines.engines import ENGINES, Missing, install_npm
from edgesparse.training.train import train
from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_export.run_bundle import export_run
from edgesparse_runtime.bundle.read import Bundle, open_bundle
from tests.support.paths import ROOT
from tests.support.synthetic import make_series, tiny_config
from tests.support.tolerances import ENGINES as TOLERANCE

PACKAGES = ROOT / "build" / "engines"
# int8: engines round differently, and one step of a scale moves a score this far.
INT8_ABSOLUTE = 5e-3
_LONGEST = 110


@dataclass(frozen=True)
class Opened:
    """What one engine did with one model.

    Attributes:
        verdict: right, WRONG, refused, or left out.
    """

    engine: str
    precision: str
    verdict: str
    detail: str


def open_in(name: str, bundle: Bundle, precision: str, packages: Path | Missing) -> Opened:
    """Score the golden windows in an engine."""
    golden = bundle.golden()[f"scores_{precision}"]
    try:
        if isinstance(packages, Missing) and name.startswith("onnxruntime"):
            raise packages
        engine, scores = ENGINES[name](
            bundle, precision, Path() if isinstance(packages, Missing) else packages
        )
    except Missing as error:
        return Opened(name, precision, "left out", str(error))
    except Exception as error:
        # Engines raise what they like; their last or first telling line is shown.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        return Opened(name, precision, "refused", " ".join(lines)[:_LONGEST])
    is_int8 = precision == "int8"
    relative, absolute = (0.0, INT8_ABSOLUTE) if is_int8 else (TOLERANCE.relative, TOLERANCE.absolute)
    is_right = scores.shape == golden.shape and np.allclose(scores, golden, rtol=relative, atol=absolute)
    difference = float(np.abs(scores - golden).max()) if scores.shape == golden.shape else float("nan")
    flips = (
        int((scores.argmax(-1) != golden.argmax(-1)).sum()) if scores.shape == golden.shape else len(golden)
    )
    detail = f"largest difference {difference:.1e}, {flips} of {len(golden)} decisions differ"
    return Opened(engine, precision, "right" if is_right and not flips else "WRONG", detail)


def open_everywhere(bundle: Bundle, names: tuple[str, ...] = tuple(ENGINES)) -> list[Opened]:
    """Every engine, float32 and int8."""
    packages: Path | Missing
    try:
        packages = install_npm(PACKAGES)
    except Missing as error:
        packages = error
    return [open_in(name, bundle, precision, packages) for name in names for precision in ("float32", "int8")]


def make_bundle(folder: Path) -> Bundle:
    """The small bundle of the tests, with its int8 model."""
    series = make_series()
    run = train(series, tiny_config(), folder / "run", quiet=True)
    bundle, _ = export_run(run, folder / "tiny.edgesparse", data=series)
    quantize_bundle(bundle, data=series, max_drop=0.5)
    return open_bundle(bundle.path)


def main() -> int:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = open_bundle(Path(sys.argv[1])) if len(sys.argv) > 1 else make_bundle(Path(folder))
        found = open_everywhere(bundle)
    print("| engine | model | answer | |\n|---|---|---|---|")
    for one in found:
        print(f"| {one.engine} | {one.precision} | {one.verdict} | {one.detail} |")
    return int(any(one.verdict == "WRONG" for one in found))


if __name__ == "__main__":
    sys.exit(main())
