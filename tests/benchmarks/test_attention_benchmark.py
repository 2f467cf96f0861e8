"""The attention benchmark's own arithmetic: exact rows, parity before speed, stored cases, sparse layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.attention.case import BLOCK, Case, Contender, exact_rows, relative_error
from benchmarks.attention.main import describe_rival
from benchmarks.attention.measure import against
from benchmarks.attention.rivals import compress_rows, make_fused_dense, make_ort_sparse, make_torch_dense
from benchmarks.support.interleaved import find_ratio
from benchmarks.support.stored_cases import StoredCases, hash_files
from tests.support.kernels.reference import Attributes, sparse_attention

CASE = Case(tokens=256, heads=2, head_size=16, density=0.5)


@pytest.mark.parametrize("causal", [False, True])
def test_exact_rows_are_those_of_the_reference(causal: bool) -> None:
    attributes = Attributes(
        num_heads=2, kv_num_heads=2, block_size=BLOCK, is_causal=int(causal), summaries=int(not causal)
    )
    output, selection = sparse_attention(**CASE.feeds, attributes=attributes)
    rows = [0, 70, 255]
    found = exact_rows(CASE, 1, rows, selection[0, 1], summaries=not causal, causal=causal)
    np.testing.assert_allclose(found, output[0, rows, 16:], rtol=1e-12)
    assert relative_error(CASE, output[0], selection[0], summaries=not causal, causal=causal) < 1e-12
    assert relative_error(CASE, output[0] * 1.01, selection[0], summaries=not causal, causal=causal) > 0.009


def test_half_of_the_blocks_cost_half_of_the_products_and_the_summaries() -> None:
    assert CASE.kept == 2
    assert CASE.sparse_flops == CASE.dense_flops * (2 * BLOCK + 2) / 256


@pytest.mark.parametrize("make", [make_fused_dense, make_torch_dense])
def test_dense_rivals_agree_with_float64(make: object) -> None:
    assert make(CASE).agrees  # type: ignore[operator]


def test_onnxruntimes_sparse_attention_agrees_with_float64() -> None:
    layout = np.tril(np.random.default_rng(0).random((2, 4, 4)) < 0.5) | np.eye(4, dtype=bool)
    rival = make_ort_sparse(CASE, layout)
    assert isinstance(rival, Contender)
    assert rival.agrees


def test_rows_are_compressed_and_padded() -> None:
    layout = np.array([[[1, 0], [1, 1]], [[1, 0], [0, 1]]], dtype=bool)
    rows, columns = compress_rows(layout)
    assert rows.tolist() == [[0, 1, 3], [0, 1, 2]]
    assert columns.tolist() == [[0, 0, 1], [0, 1, -1]]


def test_no_speed_up_without_parity() -> None:
    ours = Contender("ours", lambda: None, 1e9, error=1e-7)
    times = np.array([[2.0, 1.0]] * 5)
    right = against(replace(ours, name="rival"), ours, times)
    assert right["speed_up"]["value"] == 2.0
    assert "x2.00" in describe_rival("rival", right)
    for error in (1e-3, float("nan")):
        for rival, mine in ((replace(ours, error=error), ours), (ours, replace(ours, error=error))):
            wrong = against(rival, mine, times)
            assert "speed_up" not in wrong
            assert "no speed-up" in describe_rival("rival", wrong)


def test_the_ratio_is_that_of_medians_and_above_one_where_ours_is_faster() -> None:
    found = find_ratio(ours=np.array([1.0, 10.0, 1.0]), rival=np.array([2.0, 30.0, 6.0]))
    assert found.value == 6.0
    assert found.rounds == 3
    assert found.low <= 6.0 <= found.high


def test_a_stored_case_is_measured_once_and_again_when_a_fact_changes(tmp_path: Path) -> None:
    measured = []

    def measure() -> int:
        measured.append(len(measured))
        return measured[-1]

    assert [StoredCases(tmp_path, "sources 1").get("case", measure) for _ in range(2)] == [0, 0]
    assert StoredCases(tmp_path, "sources 2").get("case", measure) == 1
    assert "case" in StoredCases(tmp_path, "sources 1")
    assert "other" not in StoredCases(tmp_path, "sources 1")


def test_an_interrupted_case_is_not_stored(tmp_path: Path) -> None:
    store = StoredCases(tmp_path)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get("case", stop)
    assert "case" not in store


def test_the_hash_changes_with_a_byte(tmp_path: Path) -> None:
    path = tmp_path / "kernel.cc"
    path.write_text("a")
    before = hash_files([path])
    path.write_text("b")
    assert hash_files([path]) != before
