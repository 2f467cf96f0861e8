"""Run exported models with numpy and onnxruntime; nothing here imports torch or onnx.

```python
from edgesparse_runtime import Session, read_dataset

session = Session("pump.edgesparse")
scores = session.predict(read_dataset("pump_TEST.csv"))
```

Only the names listed here are stable; any module behind them may move. What opening a model does not need
(the readers, `verify`, `evaluate`, `profile`, `compare`, `stream_scores` and the room `stream`) loads when
first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Official onnxruntime builds send telemetry unless told not to before they load (docs/Privacy.md there).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")

from edgesparse_runtime.bundle.read import Bundle as Bundle
from edgesparse_runtime.bundle.read import open_bundle as open_bundle
from edgesparse_runtime.data.series_set import SeriesSet as SeriesSet
from edgesparse_runtime.errors import BundleError as BundleError
from edgesparse_runtime.errors import EdgeSparseError as EdgeSparseError
from edgesparse_runtime.errors import GateError as GateError
from edgesparse_runtime.errors import InputError as InputError
from edgesparse_runtime.errors import LibraryError as LibraryError
from edgesparse_runtime.errors import MissingExtraError as MissingExtraError
from edgesparse_runtime.session import Session as Session

if TYPE_CHECKING:
    from edgesparse_runtime.data.readers import ReadOptions as ReadOptions
    from edgesparse_runtime.data.readers import read_dataset as read_dataset
    from edgesparse_runtime.evaluation.evaluate import evaluate as evaluate
    from edgesparse_runtime.evaluation.verify import verify as verify
    from edgesparse_runtime.measure.compare import compare as compare
    from edgesparse_runtime.measure.profile import profile as profile
    from edgesparse_runtime.stream import stream_scores as stream_scores

__all__ = [
    "Bundle",
    "BundleError",
    "EdgeSparseError",
    "GateError",
    "InputError",
    "LibraryError",
    "MissingExtraError",
    "ReadOptions",
    "SeriesSet",
    "Session",
    "compare",
    "evaluate",
    "open_bundle",
    "profile",
    "read_dataset",
    "stream_scores",
    "verify",
]

# Where the rest is; each module brings more along than predictions need.
_LAZY = {
    "ReadOptions": "data.readers",
    "read_dataset": "data.readers",
    "compare": "measure.compare",
    "evaluate": "evaluation.evaluate",
    "profile": "measure.profile",
    "stream_scores": "stream",
    "verify": "evaluation.verify",
}


def __getattr__(name: str) -> Any:
    if name == "stream":
        return importlib.import_module(f"{__name__}.stream")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
