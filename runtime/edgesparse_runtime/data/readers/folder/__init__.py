"""A folder of recordings as one table, label and group from where its files are (docs/guides/data.md)."""
