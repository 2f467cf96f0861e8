"""Latency, memory and where the time goes, through the same `Session` that an application uses."""
