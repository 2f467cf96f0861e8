"""Export trained models to ONNX and bundles, and quantize them.

```python
from pathlib import Path

from edgesparse import load_run
from edgesparse_export import export_run, quantize_bundle

bundle, parity = export_run(load_run("runs/pump"), Path("pump.edgesparse"))
bundle, report = quantize_bundle(bundle)
```

Names listed here are public; every other module is private and may change.
"""

from __future__ import annotations

from edgesparse_export.functions.sparse_attention import function_body as function_body
from edgesparse_export.parity import Parity as Parity
from edgesparse_export.program import to_onnx as to_onnx
from edgesparse_export.quantize.bundle import QuantizeReport as QuantizeReport
from edgesparse_export.quantize.bundle import quantize_bundle as quantize_bundle
from edgesparse_export.quantize.gate import Alarms as Alarms
from edgesparse_export.quantize.gate import Change as Change
from edgesparse_export.quantize.recipe import Int8Recipe as Int8Recipe
from edgesparse_export.quantize.recipe import read_recipe as read_recipe
from edgesparse_export.quantize.recipe import write_recipe as write_recipe
from edgesparse_export.quantize.search import NodeEffect as NodeEffect
from edgesparse_export.run_bundle import export_run as export_run
from edgesparse_export.twin_bundle import add_twins as add_twins

__all__ = [
    "Alarms",
    "Change",
    "Int8Recipe",
    "NodeEffect",
    "Parity",
    "QuantizeReport",
    "add_twins",
    "export_run",
    "function_body",
    "quantize_bundle",
    "read_recipe",
    "to_onnx",
    "write_recipe",
]
