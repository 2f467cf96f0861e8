"""What a user would pick today, each with the settings of its manual: nothing is tuned per set.

Shapes: `n` series, `C` channels, `T` steps, `P` steps of the past, `H` steps to forecast.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.learning.data import MissingPackage
from benchmarks.regression_forecasting.forecasting_sets import ForecastingSet
from benchmarks.regression_forecasting.regression_sets import Part
from edgesparse_runtime.arrays import DoubleArray

SHRINKAGE = np.logspace(-3, 5, 17)


def _module(name: str) -> Any:
    package = name.split(".")[0]
    if importlib.util.find_spec(package) is None:
        raise MissingPackage(f"needs the package {package} (see `make prove-learning`)")
    return importlib.import_module(name)


def _multirocket_hydra(training: Part, test: Part, seed: int) -> DoubleArray:
    """aeon's regressor: two banks of kernels and ridge regression."""
    module = _module("aeon.regression.convolution_based")
    model = module.MultiRocketHydraRegressor(random_state=seed, n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(model.fit(training.X, training.y).predict(test.X), dtype=np.float64)


def _linear(training: Part, test: Part, seed: int) -> DoubleArray:
    """Ridge regression on all steps of all channels, standardized; shrinkage by leave-one-out."""
    linear, preprocessing = _module("sklearn.linear_model"), _module("sklearn.preprocessing")
    scaler = preprocessing.StandardScaler()
    inputs, tested = (part.X.reshape(len(part.X), -1).astype(np.float64) for part in (training, test))
    model = linear.RidgeCV(SHRINKAGE).fit(scaler.fit_transform(inputs), training.y)
    return np.asarray(model.predict(scaler.transform(tested)), dtype=np.float64)


def _trees(training: Part, test: Part, seed: int) -> DoubleArray:
    """LightGBM on all steps and on mean, spread, least, most and last step of each channel."""

    def features(part: Part) -> DoubleArray:
        X = part.X.astype(np.float64)
        summary = [X.mean(-1), X.std(-1), X.min(-1), X.max(-1), X[..., -1]]
        return np.concatenate([X.reshape(len(X), -1), *summary], axis=1)

    model = _module("lightgbm").LGBMRegressor(random_state=seed, n_jobs=1, verbose=-1)
    model.fit(features(training), training.y)
    return np.asarray(model.booster_.predict(features(test)), dtype=np.float64)


def _mean(training: Part, test: Part, seed: int) -> DoubleArray:
    """The mean of the training targets: the floor."""
    return np.full(len(test.y), training.y.mean())


def _seasonal_naive(data: ForecastingSet, seed: int) -> DoubleArray:
    """The season before."""
    return np.stack([origin.past[-data.season :] for origin in data.origins])


def _auto_ets(data: ForecastingSet, seed: int) -> DoubleArray:
    """statsforecast's exponential smoothing, its form chosen per series by its criterion."""
    model = _module("statsforecast.models").AutoETS(season_length=data.season)
    return np.stack([model.forecast(origin.past, data.horizon)["mean"] for origin in data.origins])


def _linear_forecast(data: ForecastingSet, seed: int) -> DoubleArray:
    """Ridge regression from the past to all steps at once, each window by its own mean and spread."""
    linear = _module("sklearn.linear_model")
    windows, _ = data.windows()

    def level(past: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        return past.mean(1, keepdims=True), past.std(1, keepdims=True) + 1e-9

    past, future = windows[:, : data.past], windows[:, data.past :]
    mean, spread = level(past)
    model = linear.RidgeCV(SHRINKAGE).fit((past - mean) / spread, (future - mean) / spread)
    tested = np.stack([origin.past[-data.past :] for origin in data.origins])
    mean, spread = level(tested)
    return np.asarray(model.predict((tested - mean) / spread) * spread + mean, dtype=np.float64)


def _trees_forecast(data: ForecastingSet, seed: int) -> DoubleArray:
    """mlforecast with LightGBM: a step at a time from lags and means of seasons, series standardized."""
    forecasting = _module("mlforecast")
    transforms = _module("mlforecast.lag_transforms")
    targets = _module("mlforecast.target_transforms")
    season = data.season
    model = forecasting.MLForecast(
        models={"trees": _module("lightgbm").LGBMRegressor(random_state=seed, n_jobs=1, verbose=-1)},
        freq=1,
        lags=[*range(1, season + 1), *(season * k for k in range(2, 8))],
        lag_transforms={1: [transforms.RollingMean(season)], season: [transforms.RollingMean(season)]},
        target_transforms=[targets.LocalStandardScaler()],
    )
    model.fit(_frame({name: x for name, x in data.training.items()}), static_features=[])
    asked = _frame({f"{i:03d}": origin.past for i, origin in enumerate(data.origins)})
    found = model.predict(data.horizon, new_df=asked).sort_values(["unique_id", "ds"])
    return found["trees"].to_numpy(np.float64).reshape(len(data.origins), data.horizon)  # type: ignore[no-any-return]


def _frame(series: dict[str, DoubleArray]) -> pd.DataFrame:
    parts = [pd.DataFrame({"unique_id": name, "ds": np.arange(len(x)), "y": x}) for name, x in series.items()]
    return pd.concat(parts, ignore_index=True)


REGRESSORS: dict[str, Callable[[Part, Part, int], DoubleArray]] = {
    "MultiRocket-Hydra": _multirocket_hydra,
    "LightGBM": _trees,
    "linear": _linear,
    "mean": _mean,
}
FORECASTERS: dict[str, Callable[[ForecastingSet, int], DoubleArray]] = {
    "seasonal naive": _seasonal_naive,
    "AutoETS": _auto_ets,
    "linear": _linear_forecast,
    "LightGBM": _trees_forecast,
}
