"""A causal model advanced token by token: its state, its two files and the memory that they share."""
