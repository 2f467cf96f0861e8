"""A new model tried beside or in place of the one that runs, and taken back by itself (docs/operate.md)."""
