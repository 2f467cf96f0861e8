"""Data as a model was trained on them: its window, stride, period, zone and channels hold in every verb.

docs/guides/data.md, "The grid". `read_for_model` is what `run`, `evaluate`, `quantize`, `export` and
`profile` read their data with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgesparse_runtime.data.readers import ReadOptions, read_dataset
from edgesparse_runtime.data.readers.options import known_task
from edgesparse_runtime.data.series_set import Grid, SeriesSet


def grid_of(manifest: Mapping[str, Any]) -> Grid:
    """The grid that a bundle's manifest states; all unknown in older bundles."""
    facts = manifest.get("input") or {}
    window, stride, period, zone = (facts.get(key) for key in ("window", "stride", "period", "zone"))
    return Grid(
        window if isinstance(window, int) and window > 0 else None,
        stride if isinstance(stride, int) and stride > 0 else None,
        float(period) if isinstance(period, (int, float)) and period > 0 else None,
        zone if isinstance(zone, str) and zone else None,
    )


def options_for(
    grid: Grid,
    channels: tuple[str, ...],
    task: str,
    options: ReadOptions | None = None,
    *,
    horizon: int = 0,
    needs_labels: bool = True,
) -> ReadOptions:
    """What `options` leaves open, as the model has it.

    Args:
        grid: of the model.
        channels: of the model, by name.
        task: of the model.
        options: what the user stated goes before what the model has.
        horizon: steps that a forecaster predicts.
        needs_labels: False = the data are predicted only.
    """
    options = options or ReadOptions()
    window, last_only = options.window or (None if options.window_time else grid.window), False
    stride = options.stride
    if stride is None and options.stride_time is None and window is not None and window == grid.window:
        stride = grid.stride
    if horizon and window is not None and not needs_labels and options.window is None:
        # What follows the end of the data is forecast, from as many steps as a training window had before it.
        window, last_only = max(1, window - horizon), True
    return replace(
        options,
        task=known_task(task),
        window=window,
        stride=stride,
        period=options.period or grid.period,
        zone=options.zone or grid.zone,
        model_channels=options.model_channels or channels,
        needs_labels=needs_labels,
        # Nothing that was handed in is dropped.
        keeps_short=True,
        last_only=last_only,
    )


def read_for_model(
    path: str | Path,
    manifest: Mapping[str, Any],
    options: ReadOptions | None = None,
    *,
    needs_labels: bool = True,
) -> SeriesSet:
    """Read a data file for a bundle's model: cut into its windows, in its channels' order, at its rate.

    Args:
        manifest: of the bundle; {} for a bare .onnx file.
        options: what the user stated; it goes before what the model has.
        needs_labels: False = the data are predicted only, and labels are not looked for.

    Raises:
        InputError: as `read_dataset`; the data have another sampling rate than the model's.
    """
    channels = tuple(str(channel["name"]) for channel in manifest.get("channels", ()))
    forecast = manifest.get("forecast") or {}
    task = "forecasting" if forecast else str(manifest.get("task", "classification"))
    chosen = options_for(
        grid_of(manifest),
        channels,
        task,
        options,
        horizon=int(forecast.get("horizon", 0)),
        needs_labels=needs_labels,
    )
    return read_dataset(path, chosen)
