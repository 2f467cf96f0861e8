"""Train small transformers with adaptively sparse attention (PyTorch).

```python
from edgesparse import RunConfig
from edgesparse.training.loop import train
from edgesparse_runtime import read_dataset

run = train(read_dataset("pump_TRAIN.csv"), RunConfig(), Path("runs/pump"))
```
"""

from __future__ import annotations

from edgesparse.attention.layer import AttentionConfig as AttentionConfig
from edgesparse.attention.layer import SparseAttention as SparseAttention
from edgesparse.config import ModelConfig as ModelConfig
from edgesparse.config import RunConfig as RunConfig
from edgesparse.config import TrainingConfig as TrainingConfig
from edgesparse.dropin.sparsify import sparsify as sparsify
from edgesparse.model.transformer import SequenceTransformer as SequenceTransformer
from edgesparse.presets import PRESETS as PRESETS
from edgesparse.training.budget import calibrate as calibrate
from edgesparse.training.budget import measure as measure
from edgesparse.training.run_folder import Run as Run
from edgesparse.training.run_folder import load_run as load_run

__all__ = [
    "PRESETS",
    "AttentionConfig",
    "ModelConfig",
    "Run",
    "RunConfig",
    "SequenceTransformer",
    "SparseAttention",
    "TrainingConfig",
    "calibrate",
    "load_run",
    "measure",
    "sparsify",
]
