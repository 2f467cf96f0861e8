"""A poc's result of made-up answers, small enough to read, and a model's row of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgesparse_runtime.measure.decision.verdict import Measured, compare_right, decide, mean_share

N, SEEDS = 300, 3
CLASSES = ["bearing", "normal", "valve"]
# Share that is wrong, p50, p99; None = not timed beside dense.
MODELS: dict[str, tuple[float, float, float]] = {
    "dense float32": (0.10, 2.0, 2.5),
    "dense int8": (0.10, 2.1, 2.4),
    "sparse-30 float32": (0.10, 1.25, 1.5),
    "sparse-30 int8": (0.13, 1.1, 1.4),
    "small float32": (0.30, 0.7, 0.9),
    "multirocket-hydra float32": (0.11, 21.0, 26.0),
}


def make_result(*, alike: bool = True, **changes: tuple[float, float, float]) -> dict[str, Any]:
    """As `edgesparse poc` writes it.

    Args:
        alike: models fail on the same windows, so that small differences show.
        changes: by model, with _ for spaces and dashes.
    """
    models = {n: changes.get(n.replace(" ", "_").replace("-", "_"), m) for n, m in MODELS.items()}
    right = {
        name: {seed: (_order(seed, 0 if alike else i) >= wrong * N).astype(float) for seed in range(SEEDS)}
        for i, (name, (wrong, _, _)) in enumerate(models.items())
    }
    dense = models["dense float32"][1]
    measured = {
        name: Measured(
            right[name], p50, None if "rocket" in name else 0.97 * dense / p50, "rocket" not in name
        )
        for name, (_, p50, _) in models.items()
    }
    rows = {name: _row(name, right[name], models[name], dense) for name in models}
    points = [
        {"share": s, "series": n, **mean_share(right["small float32"], None).to_dict()}
        for s, n in ((0.25, 50), (0.5, 100), (1.0, 200))
    ]
    return {
        "schema": "edgesparse.poc/1",
        "command": "edgesparse poc pump_TRAIN.csv --out p",
        "data": {
            "source": "pump_TRAIN.csv",
            "test_source": "pump_TEST.csv",
            "training_series": 200,
            "test_series": N,
            "classes": CLASSES,
            "test_groups": None,
            "in_both": 0,
            "hashes": {"training": "0123456789abcdef", "test": "fedcba9876543210"},
        },
        "plan": {"seeds": [0, 1, 2], "settings": [], "overrides": {"dense": ["model.attention=dense"]}},
        "models": rows,
        "verdict": decide(measured, "dense float32", 0.03, None),
        "curve": {"small": {"points": points, "gain_of_doubling": rows["small float32"]["noise_costs"]}},
        "latency": {"length": 512, "threads": 1, "environment": ENVIRONMENT},
        "noise": 0.05,
        "dropped": [],
        "left_out": {},
        "failed": {},
    }


ENVIRONMENT = {"cpu": "Example CPU", "system": "Linux 6", "usable_threads": 2, "versions": {"numpy": "2.4.6"}}


def _order(seed: int, model: int) -> Any:
    return np.random.default_rng([seed, model]).permutation(N)


def _row(name: str, right: Any, model: tuple[float, float, float], dense: float) -> dict[str, Any]:
    wrong, p50, p99 = model
    rung, precision = name.split()
    ratio = (
        {}
        if "rocket" in name
        else {"ratio": dense / p50, "low": 0.97 * dense / p50, "high": 1.03 * dense / p50}
    )
    count = round(N * SEEDS * wrong / 2)
    all_right = {seed: np.ones(N) for seed in range(SEEDS)}
    return {
        "rung": rung,
        "precision": precision,
        "accuracy": mean_share(right, None).to_dict(),
        "by_seed": {str(seed): float(values.mean()) for seed, values in right.items()},
        "noise_costs": compare_right(right, all_right, None).to_dict(),
        "latency": {"p50": p50, "p99": p99, "max": 3 * p99, "calls": 812, **ratio},
        "attention_share": 0.298 if "sparse" in name else None,
        "parameters": 98_765,
        "bytes": 432_100,
        "bundle": None if "rocket" in name else f"bundles/{rung}-0.edgesparse",
        "sha256": None if "rocket" in name else "ab" * 32,
        "train_seconds": 41.7,
        "int8_note": "no layer that int8 would make faster" if rung == "small" else "",
        "confusion": [[300 - count, count, 0], [count, 300 - count, 0], [0, 0, 300]],
        "unknown": {"refused": 0.043, "n": N, "kinds": {"zeros": {"unknown": 0.97}}}
        if rung == "small"
        else None,
    }
