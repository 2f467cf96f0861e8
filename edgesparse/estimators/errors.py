"""One error for two readers: EdgeSparse's `InputError`, and the ValueError that scikit-learn expects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgesparse_runtime.errors import InputError


class InvalidInputError(InputError, ValueError):
    """A value or an argument of an estimator does not fit."""


@contextmanager
def as_value_errors() -> Iterator[None]:
    """An `InputError` from inside leaves as an `InvalidInputError`, in the words of Python."""
    try:
        yield
    except InvalidInputError:
        raise
    except InputError as error:
        raise InvalidInputError(str(error).replace("--set", "`settings`")) from None
