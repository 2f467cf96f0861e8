"""Scores to decisions: k of n windows, hysteresis, refractory time per class (docs/guides/operate.md)."""
