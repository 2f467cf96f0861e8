"""Regression and forecasting by the default models, beside what a user would pick today."""
