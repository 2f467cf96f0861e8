"""Models that are costly to open, and what opening them costs."""
