"""Runs the scripts in `examples/` and compares what they print with their tables."""
