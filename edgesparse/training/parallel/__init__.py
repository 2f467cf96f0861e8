"""Training in several processes: what the loop asks of them, and how accelerate provides it."""
