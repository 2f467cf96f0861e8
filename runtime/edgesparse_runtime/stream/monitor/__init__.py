"""Notices that a line has changed, at a stated rate of false alarms (docs/guides/operate.md)."""
