"""Which kind each test is of, so that a failure tells where to look: one marker per test.

unit      one file's behavior on small data
property  a rule on generated input (hypothesis)
parity    two engines, two precisions or two code paths give the same answer
golden    today's code on what yesterday's release wrote
contract  what others rely on: imports, public names, messages, flags, refusals of hostile input
system    whole commands, real servers, clients, installations

A test of hypothesis is `property` wherever it lies. Otherwise a marker set in the file decides, and then the
folder, the longest match first.
"""

from __future__ import annotations

import pytest

KINDS = ("unit", "property", "parity", "golden", "contract", "system")
LONGEST_FIRST = ("system", "golden", "parity")
BY_PATH = {
    "tests/": "unit",
    "tests/attacks/": "contract",
    # Real servers.
    "tests/attacks/test_remote_ends.py": "system",
    "tests/attacks/test_requests.py": "system",
    "tests/attacks/test_served_bundles.py": "system",
    "tests/attacks/test_slow_clients.py": "system",
    "tests/edgesparse/attention/test_causal.py": "parity",
    "tests/edgesparse/attention/test_layer.py": "parity",
    "tests/edgesparse/dropin/": "parity",
    "tests/edgesparse/dropin/test_refusals.py": "contract",
    "tests/edgesparse/model/test_forecasting.py": "system",
    # Whole training runs.
    "tests/edgesparse/training/": "system",
    "tests/export/": "parity",
    "tests/golden/": "golden",
    "tests/house/": "contract",
    "tests/kernels/": "parity",
    "tests/kernels/test_errors.py": "contract",
    "tests/kernels/test_isa.py": "contract",
    "tests/runtime/deploying/": "contract",
    "tests/runtime/deploying/test_ray.py": "system",
    "tests/runtime/evaluation/test_verify.py": "parity",
    "tests/runtime/measure/": "system",
    "tests/runtime/serving/": "system",
    "tests/system/": "system",
}


def kind_of(item: pytest.Item) -> str:
    """The kind of a collected test."""
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        return "property"
    marked = [kind for kind in KINDS if item.get_closest_marker(kind)]
    if marked:
        return marked[0]
    path = item.nodeid.split("::")[0]
    return BY_PATH[max((prefix for prefix in BY_PATH if path.startswith(prefix)), key=len)]


def mark_kinds(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(kind_of(item))


def put_long_files_first(items: list[pytest.Item]) -> None:
    """Whole files, those with long tests first: a long one at the end would leave all other workers idle."""
    ranks: dict[str, int] = {}
    for item in items:
        rank = LONGEST_FIRST.index(kind) if (kind := kind_of(item)) in LONGEST_FIRST else len(LONGEST_FIRST)
        file = item.nodeid.split("::")[0]
        ranks[file] = min(rank, ranks.get(file, rank))
    items.sort(key=lambda item: ranks[item.nodeid.split("::")[0]])
