"""`edgesparse data inspect`: what was understood of data, and what looks wrong, before a model is trained."""
