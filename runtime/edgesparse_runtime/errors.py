"""What can go wrong, sorted by what the caller can do about it.

```
EdgeSparseError
├── InputError          the data or an argument does not fit         exit 2
├── BundleError         a model file or bundle is damaged or unknown exit 2
├── MissingExtraError   an optional package is not installed         exit 4
├── LibraryError        the native operator library does not load    exit 4
├── GateError           an accuracy, parity or latency gate failed   exit 3
└── Interrupted         Ctrl-C, where there is more to say           exit 130
```

Each message is one sentence: what must hold, what was found, what to do next.
"""

from __future__ import annotations


class EdgeSparseError(Exception):
    """Something the user can understand and act on; the command line prints it as one line."""

    exit_code = 1


class Interrupted(EdgeSparseError):
    """The user stopped it; says what that leaves behind."""

    exit_code = 130


class InputError(EdgeSparseError):
    """A file, a value or an argument does not fit."""

    exit_code = 2


class BundleError(EdgeSparseError):
    """A bundle or a model file is missing, damaged, or of an unknown version."""

    exit_code = 2


class MissingExtraError(EdgeSparseError):
    """An optional package is needed and not installed."""

    exit_code = 4

    def __init__(self, what: str, packages: str, extra: str) -> None:
        super().__init__(f"{what} needs {packages}. Install with: pip install 'edgesparse[{extra}]'")


class LibraryError(EdgeSparseError):
    """The native operator library is present and does not load."""

    exit_code = 4


class GateError(EdgeSparseError):
    """A stated bound (accuracy, parity, latency) does not hold."""

    exit_code = 3
