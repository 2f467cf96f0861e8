"""A rollout's shadow beside a served model: the same windows, in a process of its own."""
