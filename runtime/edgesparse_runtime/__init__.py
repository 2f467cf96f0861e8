"""Run exported models with numpy and onnxruntime; nothing here imports torch or onnx.

```python
from edgesparse_runtime import Session, read_dataset

session = Session("pump.edgesparse")
scores = session.predict(read_dataset("pump_TEST.csv"))
```
"""

from __future__ import annotations

import os

# Official onnxruntime builds send telemetry unless told not to before they load (docs/Privacy.md there).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")

from edgesparse_runtime.bundle.read import Bundle as Bundle
from edgesparse_runtime.bundle.read import open_bundle as open_bundle
from edgesparse_runtime.data.readers import ReadOptions as ReadOptions
from edgesparse_runtime.data.readers import read_dataset as read_dataset
from edgesparse_runtime.data.series_set import SeriesSet as SeriesSet
from edgesparse_runtime.errors import BundleError as BundleError
from edgesparse_runtime.errors import EdgeSparseError as EdgeSparseError
from edgesparse_runtime.errors import GateError as GateError
from edgesparse_runtime.errors import InputError as InputError
from edgesparse_runtime.errors import LibraryError as LibraryError
from edgesparse_runtime.errors import MissingExtraError as MissingExtraError
from edgesparse_runtime.session import Session as Session

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
    "open_bundle",
    "read_dataset",
]
