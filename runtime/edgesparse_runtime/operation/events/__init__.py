"""From scores to decisions: k of n windows, hysteresis and refractory time per class (docs/operate.md)."""
