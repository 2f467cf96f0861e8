"""A new model beside or in place of the current one, taken back by itself (docs/guides/operate.md)."""
