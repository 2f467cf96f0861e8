"""Stretching against numpy's interpolation, and what it does next to missing values."""

from __future__ import annotations

import numpy as np
import torch

from edgesparse.model.normalize import real_steps
from edgesparse.model.stretch import stretch


def test_it_is_the_line_between_neighbors() -> None:
    torch.manual_seed(0)
    window = torch.randn(3, 2, 40)
    lengths = (40, 17, 1)
    for row, steps in enumerate(lengths):
        window[row, :, steps:] = torch.nan
    found = stretch(window, real_steps(window), 23).numpy()
    for row, steps in enumerate(lengths):
        places = np.linspace(0, steps - 1, 23)
        for channel in range(2):
            expected = np.interp(places, np.arange(steps), window[row, channel, :steps].numpy())
            np.testing.assert_allclose(found[row, channel], expected, rtol=1e-5, atol=1e-5)


def test_padding_changes_nothing_and_the_full_length_is_kept() -> None:
    window = torch.randn(1, 1, 30, generator=torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(window, (0, 12), value=torch.nan)
    torch.testing.assert_close(stretch(padded, real_steps(padded), 30), window)


def test_next_to_a_missing_value_the_other_neighbor_holds() -> None:
    window = torch.tensor([[[0.0, torch.nan, torch.nan, 3.0, 4.0]]])
    found = stretch(window, real_steps(window), 9)[0, 0]
    expected = [0.0, 0.0, torch.nan, torch.nan, 3.0, 3.0, 3.0, 3.5, 4.0]
    torch.testing.assert_close(found, torch.tensor(expected), equal_nan=True)


def test_a_window_without_values_stays_without() -> None:
    window = torch.full((1, 2, 5), torch.nan)
    assert torch.isnan(stretch(window, real_steps(window), 4)).all()
