"""Data with a planted truth, and other methods to compare with, for the proof of `explain`."""
