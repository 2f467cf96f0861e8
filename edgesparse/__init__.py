"""Train small transformers with adaptively sparse attention (PyTorch).

```python
from edgesparse import train

run = train("pump_TRAIN.csv", out="runs/pump")
run = train(X, labels=y, out="runs/other")  # X [n, channels, steps], y [n]
```

Names listed here are public; every other module is private and may change.
"""

from __future__ import annotations

from edgesparse.attention.layer import AttentionConfig as AttentionConfig
from edgesparse.attention.layer import SparseAttention as SparseAttention
from edgesparse.config import ModelConfig as ModelConfig
from edgesparse.config import RunConfig as RunConfig
from edgesparse.config import TrainingConfig as TrainingConfig
from edgesparse.config import resolve_config as resolve_config
from edgesparse.dropin.sparsify import sparsify as sparsify
from edgesparse.model.data_facts import DataFacts as DataFacts
from edgesparse.model.transformer import SequenceTransformer as SequenceTransformer
from edgesparse.presets import PRESETS as PRESETS
from edgesparse.training.budget import ComputeReport as ComputeReport
from edgesparse.training.budget import fit_budget as fit_budget
from edgesparse.training.budget import measure_compute as measure_compute
from edgesparse.training.cross_fit import CrossValidation as CrossValidation
from edgesparse.training.cross_fit import cross_validate as cross_validate
from edgesparse.training.evaluation import evaluate as evaluate
from edgesparse.training.pretrain import Pretraining as Pretraining
from edgesparse.training.pretrain import pretrain as pretrain
from edgesparse.training.pretrain import train_from_unlabeled as train_from_unlabeled
from edgesparse.training.run_folder import Run as Run
from edgesparse.training.run_folder import RunReport as RunReport
from edgesparse.training.run_folder import load_run as load_run
from edgesparse.training.train import train as train

__all__ = [
    "PRESETS",
    "AttentionConfig",
    "ComputeReport",
    "CrossValidation",
    "DataFacts",
    "ModelConfig",
    "Pretraining",
    "Run",
    "RunConfig",
    "RunReport",
    "SequenceTransformer",
    "SparseAttention",
    "TrainingConfig",
    "cross_validate",
    "evaluate",
    "fit_budget",
    "load_run",
    "measure_compute",
    "pretrain",
    "resolve_config",
    "sparsify",
    "train",
    "train_from_unlabeled",
]
