"""The wheels that `make wheels` builds, and where they were run."""
