"""Valid protobuf of hostile meaning; a thousand files here, a million in `make prove-security`."""

from __future__ import annotations

from tests.support.hostile_models import HOSTILE, honest
from tests.support.model_agreement import check_agreement
from tests.support.model_fuzz import ModelFuzzer, take_apart


def seeds() -> list[bytes]:
    """An honest model, often, and each hostile one that is small."""
    made = [honest().SerializeToString()] * 20
    for change, _ in HOSTILE.values():
        model = honest()
        change(model)
        content = model.SerializeToString()
        if len(content) < 10_000:
            made.append(content)
    return made


def test_a_model_that_is_taken_apart_is_the_same_again() -> None:
    content = honest().SerializeToString()
    assert b"".join(part.write() for part in take_apart(content)) == content


def test_whatever_passes_is_one_model_to_every_reader() -> None:
    fuzzer, passed = ModelFuzzer(seeds(), seed=1), 0
    for i in range(1_000):
        content = fuzzer.make()
        found = check_agreement(content, opens=i % 20 == 0)
        assert not found, f"{found}: {content.hex()}"
        passed += found is None
    # Neither all nor none: the checker has both to do.
    assert 25 < passed < 975
