"""A folder of recordings: its files as one table, with label and group from where they are (docs/data.md)."""
