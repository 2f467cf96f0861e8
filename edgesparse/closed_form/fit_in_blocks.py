"""Fits a skip to windows that stay in their file: what `fit_skip` does, a few windows at a time.

The map of all windows needs only sums over them: of features, of their products, and of their products with
the targets. These are added up block by block. The features' spread, and the leave-one-out loss that chooses
the shrinkage, are those of `SAMPLE` evenly spaced windows, each left out of the map of all. Of many windows
`NOISY` evenly spaced ones count with noise, by so much more that noise weighs as it does where all do.

Shapes: `n` windows, `b` of a block, `F` features, `K` outputs, `R` the rank of the features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgesparse.closed_form.fit_skip import NOISE_WEIGHT, standardize
from edgesparse.closed_form.ridge import Ridge, Rows, Spectrum, choose, columns, has_company
from edgesparse.model.skip import Skip

BLOCK = 256
SAMPLE, NOISY = 2048, 16384
# Raw features [b, F] of windows by their numbers, as they are or with noise.
Features = Callable[[Tensor, bool], Tensor]


class BlockFit:
    """Fits the map of a skip whose stem is fitted.

    Args:
        features: the same for a window however often and with whichever others it is asked for.
        targets_n: class numbers, or with `classes` 0 numbers.
        advance: is told how many windows' features were computed, of `steps`.
    """

    def __init__(
        self,
        skip: Skip,
        features: Features,
        targets_n: Tensor,
        classes: int,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.skip, self.features, self.advance = skip, features, advance
        self.targets_n, self.classes = targets_n, classes
        self.noisy = _evenly_spaced(len(targets_n), NOISY)
        self.sample = self.noisy[_evenly_spaced(len(self.noisy), SAMPLE)]
        self.noise_weight = NOISE_WEIGHT * len(targets_n) / len(self.noisy)
        self._fitted: tuple[Spectrum, Ridge] | None = None

    @property
    def steps(self) -> int:
        """Windows whose features `fit` computes, counted each time."""
        return len(self.targets_n) + len(self.noisy) + 2 * len(self.sample)

    @torch.no_grad()
    def fit(self) -> Ridge:
        """Set the map; what is left out are the windows of `sample`."""
        versions = torch.stack([self._raw(self.sample, is_noisy) for is_noisy in (False, True)])
        x = standardize(self.skip, versions).flatten(0, 1)
        del versions
        spectrum = self._add_up()
        targets = self.targets_n[self.sample].repeat(2)
        weight = torch.tensor([1.0, NOISE_WEIGHT], dtype=torch.float64).repeat_interleave(len(self.sample))
        counted = has_company(self.targets_n, self.classes)[self.sample].repeat(2)
        rows = self._rows(spectrum, x, targets, 2)
        found = choose(spectrum, rows, targets, weight * counted, self.classes)
        self.skip.weight.copy_(found.weight)
        self.skip.bias.copy_(found.bias)
        self._fitted = spectrum, found
        return found

    @torch.no_grad()
    def left_out(self) -> Tensor:
        """Outputs [n, K] of every window by the map that all others give; the features are computed again."""
        assert self._fitted is not None
        spectrum, found = self._fitted
        outputs = torch.empty(len(self.targets_n), len(spectrum.mean))
        has_noise = torch.zeros(len(self.targets_n), dtype=torch.bool)
        has_noise[self.noisy] = True
        for numbers, versions in ((self.noisy, 2), (torch.nonzero(~has_noise)[:, 0], 1)):
            for part in torch.split(numbers, BLOCK) if len(numbers) else ():
                x = torch.cat([self._block(part, version > 0) for version in range(versions)])
                rows = self._rows(spectrum, x, self.targets_n[part].repeat(versions), versions)
                predicted = rows.left_out(spectrum, found.shrinkage)[: len(part)]
                outputs[part] = (found.factor * predicted).float()
        return outputs

    def _block(self, numbers: Tensor, is_noisy: bool) -> Tensor:
        return self.skip.standardized(self.features(numbers, is_noisy)).double()

    def _raw(self, numbers: Tensor, is_noisy: bool) -> Tensor:
        parts = []
        for part in torch.split(numbers, BLOCK):
            parts.append(self.features(part, is_noisy))
            self.advance(len(part))
        return torch.cat(parts)

    def _add_up(self) -> Spectrum:
        """Sums over all windows, decomposed."""
        count = self.skip.features
        outputs = max(self.classes, 1)
        first, gram = torch.zeros(count).double(), torch.zeros(count, count).double()
        mean, product = torch.zeros(outputs).double(), torch.zeros(count, outputs).double()
        total = 0.0
        everything = torch.arange(len(self.targets_n))
        for numbers, weight, is_noisy in ((everything, 1.0, False), (self.noisy, self.noise_weight, True)):
            for part in torch.split(numbers, BLOCK):
                x_bF, y_bK = self._block(part, is_noisy), columns(self.targets_n[part], self.classes)
                gram.addmm_(x_bF.mT, x_bF, alpha=weight)
                product.addmm_(x_bF.mT, y_bK, alpha=weight)
                first += weight * x_bF.sum(0)
                mean += weight * y_bK.sum(0)
                total += weight * len(part)
                self.advance(len(part))
        first, mean = first / total, mean / total
        gram.div_(total).addr_(first, first, alpha=-1.0)
        product = product / total - torch.outer(first, mean)
        square, right = torch.linalg.eigh(gram)
        kept = square > square.max() * 1e-12
        square, right = square[kept], right[:, kept]
        projected = (right.mT @ product) / square.sqrt()[:, None]
        return Spectrum(square, right, projected, first, mean, len(self.targets_n))

    def _rows(self, spectrum: Spectrum, x: Tensor, targets: Tensor, versions: int) -> Rows:
        total = len(self.targets_n) * (1.0 + NOISE_WEIGHT)
        weight = torch.tensor([1.0, self.noise_weight][:versions], dtype=torch.float64) / total
        root = weight.repeat_interleave(len(x) // versions).sqrt()[:, None]
        left = ((x.double() - spectrum.middle) * root) @ spectrum.right / spectrum.square.sqrt()
        return Rows(left, root, columns(targets, self.classes), versions)


def _evenly_spaced(n: int, most: int) -> Tensor:
    return torch.arange(n) if n <= most else torch.linspace(0, n - 1, most, dtype=torch.float64).long()
