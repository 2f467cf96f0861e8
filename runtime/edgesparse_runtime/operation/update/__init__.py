"""A model changed by new data, on the device where its head is enough (docs/guides/operate.md)."""
