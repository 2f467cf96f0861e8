"""What the three estimators share: fitting in memory, scores, and the way to and from a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from edgesparse.estimators.errors import InvalidInputError, as_value_errors
from edgesparse.estimators.fitted import FromBundle, Trained, fit_in_memory
from edgesparse.estimators.options import Options, to_run_config
from edgesparse.estimators.panel import to_series_set
from edgesparse_runtime.arrays import FloatArray
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.session import Session


class SequenceEstimator(Options, BaseEstimator):  # type: ignore[misc]
    """Fits, predicts and saves.

    Attributes:
        fitted_: what it predicts with.
    """

    task: ClassVar[str]
    fitted_: Trained | FromBundle

    @property
    def channels_(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self._fitted().channels

    @property
    def report_(self) -> Mapping[str, Any]:
        """What training measured, as `run.json` holds it; empty for a model from a bundle."""
        return self._fitted().report

    @property
    def history_(self) -> list[dict[str, Any]]:
        """One entry per epoch; the small model has one."""
        return self._fitted().history

    def save(self, bundle: str | PathLike[str], X: Any = None) -> None:
        """Write the model as a bundle, which every `edgesparse` command takes.

        Args:
            bundle: NAME.edgesparse; one that is there is replaced, once the new one is complete.
            X: real series to compare the bundle's scores with the model's on, and to monitor against; None =
                synthetic ones.

        Raises:
            GateError: the scores differ; nothing is written.
        """
        fitted = self._fitted()
        with as_value_errors():
            fitted.save(bundle, None if X is None else to_series_set(X))

    @classmethod
    def _from_bundle(cls, bundle: str | PathLike[str]) -> Self:
        with as_value_errors():
            fitted = FromBundle(Path(bundle).absolute(), Session(Path(bundle)))
            if fitted.task != cls.task:
                raise InvalidInputError(f"{bundle} must be a model for {cls.task}; it is for {fitted.task}.")
        estimator = cls()
        estimator.fitted_ = fitted
        return estimator

    def _fitted(self) -> Trained | FromBundle:
        check_is_fitted(self, "fitted_")
        return self.fitted_

    def _train(self, data: SeriesSet, **settings: object) -> Trained:
        return fit_in_memory(
            data,
            to_run_config(self, self.task, **settings),
            is_choosing=self.model == "auto",
            n_jobs=self.n_jobs,
            quiet=not self.verbose,
        )

    def _scores(self, X: Any) -> FloatArray:
        fitted = self._fitted()
        with as_value_errors():
            return fitted.scores(to_series_set(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags


def check_lengths(X: SeriesSet, values: Any, name: str) -> None:
    """One entry per series.

    Raises:
        InvalidInputError: more or fewer.
    """
    if np.shape(values)[:1] != (len(X),):
        raise InvalidInputError(
            f"`{name}` must hold one entry per series ({len(X)}); got shape {list(np.shape(values))}."
        )
