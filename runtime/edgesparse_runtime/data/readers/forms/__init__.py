"""Recordings that are no text, as tables: WAV and MATLAB files, and data frames in memory."""
