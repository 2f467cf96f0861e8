"""Data files and folders of recordings to `SeriesSet`; bad files end in one line."""

from __future__ import annotations

from edgesparse_runtime.data.readers.dataset import read_dataset as read_dataset
from edgesparse_runtime.data.readers.options import ReadOptions as ReadOptions
from edgesparse_runtime.data.readers.write import write_csv as write_csv

__all__ = ["ReadOptions", "read_dataset", "write_csv"]
