"""Recordings that are no tables, as tables: WAV and MATLAB files."""
