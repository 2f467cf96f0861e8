"""Drop-in: make the attention of an existing, trained transformer sparse (docs/guides/dropin.md)."""

from __future__ import annotations

from edgesparse.dropin.attention import DropinAttention as DropinAttention
from edgesparse.dropin.calibration import Calibration as Calibration
from edgesparse.dropin.calibration import calibrate as calibrate
from edgesparse.dropin.config import DropinConfig as DropinConfig
from edgesparse.dropin.layers import attention_mode as attention_mode
from edgesparse.dropin.layers import counted_density as counted_density
from edgesparse.dropin.layers import dropin_layers as dropin_layers
from edgesparse.dropin.pytorch import attach_pytorch as attach_pytorch
from edgesparse.dropin.store import from_pretrained as from_pretrained
from edgesparse.dropin.store import load_layers as load_layers
from edgesparse.dropin.store import save_layers as save_layers

__all__ = [
    "Calibration",
    "DropinAttention",
    "DropinConfig",
    "attach_pytorch",
    "attention_mode",
    "calibrate",
    "counted_density",
    "dropin_layers",
    "from_pretrained",
    "load_layers",
    "save_layers",
]
