"""The estimators among those of scikit-learn, sktime and aeon: their checks, and one cross-validation."""
