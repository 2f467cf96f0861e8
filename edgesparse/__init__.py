"""Train small transformers with adaptively sparse attention (PyTorch)."""
