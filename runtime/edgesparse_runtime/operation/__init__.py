"""What happens to a model after it was shipped: changes are noticed, new models can go back."""
