"""The models of the learning benchmark: ours in its variants, and what a user would pick instead.

`fit_and_judge` trains one on one set with one seed and says, a test series, whether it was right. Ours is the
default recipe, trained through the public Python API with one thread; a variant changes what its entry says.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.learning.data import MissingPackage
from benchmarks.learning.disturbances import DISTURBANCES, disturb
from edgesparse.attention.selection import block_count
from edgesparse.config import ModelConfig, RunConfig, resolve_config
from edgesparse.model.build import build_model
from edgesparse.model.transformer import choose_sizes, typical_steps
from edgesparse.training.data import data_facts, to_tensor
from edgesparse.training.run_folder import Run
from edgesparse.training.train import train
from edgesparse_runtime.data.series_set import SeriesSet

Right = npt.NDArray[np.bool_]
BUDGET = 0.25
# Disturbed test series, evenly spread: 21 disturbances of thousands of series would outlast training.
DISTURBED_SERIES = 100


@dataclass(frozen=True)
class Variant:
    """One of our models: what differs from the default recipe at a quarter of attention's compute."""

    overrides: tuple[str, ...] = ()
    is_band: bool = False


VARIANTS: dict[str, Variant] = {
    "dense": Variant(("model.attention=dense",)),
    "sparse": Variant(),
    # The window alone, wide enough for the same compute. Its router still runs, but chooses nothing.
    "band": Variant(("model.summaries=false",), is_band=True),
    "band with summaries": Variant((), is_band=True),
    "untrained router": Variant(("training.router_weight=0.0",)),
    "no summaries": Variant(("model.summaries=false",)),
    "no value convolution": Variant(("model.value_filter=0",)),
    "stem of one kernel": Variant(("model.filters=1", "model.dilations=[1]")),
    "no augmentation": Variant(("training.augment=0.0",)),
    "half augmented": Variant(("training.augment=0.5",)),
    "no annealing": Variant(("training.dense_share=0.0", "training.anneal_share=0.0")),
    "window of one": Variant(("model.window=1",)),
    # Without any transformer, and with it on the same features.
    "small": Variant(("model.layers=0",)),
    "full": Variant(("model.stem=2",)),
}
# Says of each series whether its class was found.
Judge = Callable[[SeriesSet], Right]
# Trains on series with a seed.
RIVALS: dict[str, Callable[[SeriesSet, int], tuple[dict[str, Any], Judge]]] = {}


def fit_and_judge(
    model: str,
    training: SeriesSet,
    test: SeriesSet,
    seed: int,
    overrides: tuple[str, ...] = (),
    *,
    is_disturbed: bool = False,
) -> dict[str, Any]:
    """Train a model and test it.

    Args:
        is_disturbed: test on disturbed series too.

    Returns:
        `right` (a string of 0 and 1, one a test series), `seconds` of the processor that training took,
        `parameters`, if asked for `clean` and `disturbed` (right of some series as they are and disturbed),
        and for ours `attention_share` and `model_share`.
    """
    if model in RIVALS:
        found, decide = RIVALS[model](training, seed)
    else:
        found, decide = _ours(VARIANTS[model], training, seed, overrides)
    found |= {"right": as_text(decide(test))}
    return found | (_disturbed(decide, test) if is_disturbed else {})


def _disturbed(decide: Judge, test: SeriesSet) -> dict[str, Any]:
    rows = np.unique(np.linspace(0, len(test) - 1, min(DISTURBED_SERIES, len(test))).astype(int))
    sample = test.take(rows)
    return {
        "clean": as_text(decide(sample)),
        "disturbed": {
            name: [as_text(decide(disturb(sample, name, strength))) for strength in strengths]
            for name, (_, strengths) in DISTURBANCES.items()
        },
    }


def _ours(
    variant: Variant, training: SeriesSet, seed: int, overrides: tuple[str, ...]
) -> tuple[dict[str, Any], Judge]:
    settings = [f"training.seed={seed}", "training.threads=1", f"training.budget={BUDGET}"]
    config = resolve_config(RunConfig(), None, [*settings, *overrides, *variant.overrides])
    if variant.is_band:
        config = widest_band(config, training)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = train(training, config, Path(folder) / "run", quiet=True)
    seconds = time.process_time() - start
    compute = run.report["compute"]
    return {
        "seconds": seconds,
        "parameters": run.report["parameters"],
        "attention_share": compute["density"] if variant.is_band else compute["attention_share"],
        "model_share": compute["model_share"],
    }, partial(judge, run)


def widest_band(config: RunConfig, training: SeriesSet) -> RunConfig:
    """The widest window whose blocks are at most the budget's share, and no budget for anything else."""
    sizes = choose_sizes(config.model, [x.shape[1] for x in training.series])
    assert sizes.patch is not None and sizes.block_size is not None
    tokens = -(-typical_steps([x.shape[1] for x in training.series]) // sizes.patch)
    blocks = block_count(tokens, sizes.block_size)
    window = 0
    # The first and the last blocks have neighbors on one side only.
    while (2 * window + 3) * blocks - (window + 1) * (window + 2) <= BUDGET * blocks**2:
        window += 1
    model = replace(config.model, window=window)
    return replace(config, model=model, training=replace(config.training, budget=1e-6))


@torch.no_grad()
def judge(run: Run, data: SeriesSet) -> Right:
    """Whether each series' class is the most likely one."""
    assert data.labels is not None
    windows, lengths = to_tensor(data)
    rows = torch.split(torch.arange(len(windows)), 32)
    scores = torch.cat([run.model(windows[r, :, : int(lengths[r].max())]) for r in rows])
    decided = np.array(run.facts.classes)[scores.argmax(-1).numpy()]
    right: Right = decided == data.labels
    return right


def _stem_with_ridge(training: SeriesSet, seed: int) -> tuple[dict[str, Any], Judge]:
    """Our stem's features, averaged over tokens, and a ridge classifier: what attention adds to."""
    start = time.process_time()
    config = replace(RunConfig(), model=choose_sizes(ModelConfig(), [x.shape[1] for x in training.series]))
    torch.manual_seed(seed)
    model = build_model(config, data_facts(training, config.training))
    model.fit_stem(to_tensor(training)[0])

    @torch.no_grad()
    def features(data: SeriesSet) -> npt.NDArray[np.float64]:
        found = []
        for part in torch.split(to_tensor(data)[0], 32):
            normal, level = model.normalize(part)
            found.append(torch.cat([model.bank(normal, None).mean(-1), level], dim=1))
        return torch.cat(found).double().numpy()

    return _ridge(features, training, start)


def _minirocket(training: SeriesSet, seed: int) -> tuple[dict[str, Any], Judge]:
    """MiniRocket of aeon with a ridge classifier; unequal series are stretched to the longest."""
    try:
        from aeon.transformations.collection.convolution_based import MiniRocket
    except ImportError:
        raise MissingPackage("needs the package aeon") from None
    start = time.process_time()
    longest = max(x.shape[1] for x in training.series)
    transform = MiniRocket(random_state=seed, n_jobs=1)
    transform.fit(_stretched(training, longest))

    def features(data: SeriesSet) -> npt.NDArray[np.float64]:
        return np.asarray(transform.transform(_stretched(data, longest)))

    return _ridge(features, training, start)


def _multirocket_hydra(training: SeriesSet, seed: int) -> tuple[dict[str, Any], Judge]:
    """aeon's MultiRocketHydraClassifier; unequal series are stretched to the longest."""
    try:
        from aeon.classification.convolution_based import MultiRocketHydraClassifier
    except ImportError:
        raise MissingPackage("needs the package aeon") from None
    return _aeon(MultiRocketHydraClassifier(random_state=seed, n_jobs=1), training)


def _quant(training: SeriesSet, seed: int) -> tuple[dict[str, Any], Judge]:
    """aeon's QUANTClassifier; unequal series are stretched to the longest."""
    try:
        from aeon.classification.interval_based import QUANTClassifier
    except ImportError:
        raise MissingPackage("needs the package aeon") from None
    return _aeon(QUANTClassifier(random_state=seed), training)


def _aeon(classifier: Any, training: SeriesSet) -> tuple[dict[str, Any], Judge]:
    start = time.process_time()
    longest = max(x.shape[1] for x in training.series)
    classifier.fit(_stretched(training, longest), training.labels)
    seconds = time.process_time() - start

    def decide(data: SeriesSet) -> Right:
        right: Right = classifier.predict(_stretched(data, longest)) == data.labels
        return right

    # aeon does not name its weights; the learning tables show none for it.
    return {"seconds": seconds, "parameters": 0}, decide


def _stretched(data: SeriesSet, length: int) -> npt.NDArray[np.float32]:
    """[n, channels, length]; missing values lie on the line between their neighbors."""

    def stretch(channel: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        steps = np.flatnonzero(~np.isnan(channel))
        if not len(steps):
            return np.zeros(length)
        return np.interp(np.linspace(0, len(channel) - 1, length), steps, channel[steps])

    return np.array([[stretch(c) for c in x] for x in data.series], dtype=np.float32)


def _ridge(
    features: Callable[[SeriesSet], npt.NDArray[np.float64]], training: SeriesSet, start: float
) -> tuple[dict[str, Any], Judge]:
    """A ridge classifier on standardized features, its penalty chosen by leave-one-out."""
    try:
        from sklearn.linear_model import RidgeClassifierCV
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise MissingPackage("needs the package scikit-learn") from None
    scaler = StandardScaler()
    classifier = RidgeClassifierCV(alphas=np.logspace(-3, 3, 10))
    classifier.fit(scaler.fit_transform(features(training)), training.labels)
    seconds = time.process_time() - start

    def decide(data: SeriesSet) -> Right:
        right: Right = classifier.predict(scaler.transform(features(data))) == data.labels
        return right

    return {"seconds": seconds, "parameters": int(classifier.coef_.size)}, decide


RIVALS |= {
    "MiniRocket": _minirocket,
    "MultiRocket-Hydra": _multirocket_hydra,
    "QUANT": _quant,
    "stem with ridge": _stem_with_ridge,
}


def as_text(right: Right) -> str:
    """One character a series, so that stored results stay small and pairs can be compared."""
    return "".join("1" if r else "0" for r in right)
