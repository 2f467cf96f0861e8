"""Lines of the proof about unknown windows, from the figures of each set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.proofs.lines import Line, line
from benchmarks.proofs.operation.unknown_windows import SCORES

FAR, NEAR, REFUSED, ANSWERED = 0.95, 0.80, 0.05, 0.95


def unknown_lines(sets: Mapping[str, Mapping[str, Any]]) -> list[Line]:
    """One line per kind of far windows, one of classes left out, one of good ones, one per broken sensor."""
    found = [_far(kind, sets) for kind in next(iter(sets.values()))["far"]]
    near = {name: one["near"] for name, one in sets.items() if one["near"]}
    means = {score: float(np.mean([one[score] for one in near.values()])) for score in SCORES}
    reached = [name for name, one in near.items() if one["score"] >= NEAR]
    each = ", ".join(f"{name} {one['score']:.2f}" for name, one in near.items())
    target = f"at least {NEAR} in the mean, and on five sets" if len(near) >= 5 else f"at least {NEAR}"
    found.append(
        line(
            "unknown windows, classes left out of training",
            means["score"] >= NEAR and (len(reached) >= 5 or len(near) < 5),
            f"AUROC {means['score']:.3f}",
            target,
            f"softmax {means['softmax']:.3f}, distance alone {means['distance']:.3f}; {each}",
        )
    )
    refused = {name: one["refused"] for name, one in sets.items()}
    mean = float(np.mean(list(refused.values())))
    found.append(
        line(
            "good windows called unknown",
            mean <= REFUSED,
            f"{mean:.1%}",
            f"at most {REFUSED:.0%}, as stated, in the mean over sets",
            ", ".join(f"{name} {share:.0%}" for name, share in refused.items()),
        )
    )
    kinds = dict.fromkeys(kind for one in sets.values() for kind in one["table"])
    return [*found, *(_answered(kind, sets) for kind in kinds)]


def _far(kind: str, sets: Mapping[str, Mapping[str, Any]]) -> Line:
    rows = {name: one["far"][kind] for name, one in sets.items()}
    worst = min(rows, key=lambda name: rows[name]["score"])
    means = {score: float(np.mean([row[score] for row in rows.values()])) for score in SCORES}
    return line(
        f"unknown windows, {kind}",
        rows[worst]["score"] >= FAR,
        f"AUROC {means['score']:.3f}",
        f"at least {FAR} on each of {len(rows)} sets",
        f"worst {worst} {rows[worst]['score']:.3f}; softmax {means['softmax']:.3f}, distance alone "
        f"{means['distance']:.3f}",
    )


def _answered(kind: str, sets: Mapping[str, Mapping[str, Any]]) -> Line:
    rows = {name: one["table"][kind] for name, one in sets.items() if kind in one["table"]}
    return line(
        f"answered unknown or with a sensor fault, {kind}",
        all(share >= ANSWERED for share in rows.values()),
        f"{np.mean(list(rows.values())):.1%}",
        f"at least {ANSWERED:.0%} of the windows on each of {len(rows)} sets",
        ", ".join(f"{name} {share:.0%}" for name, share in rows.items()),
    )
