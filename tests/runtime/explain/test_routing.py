"""The routing record: exactly what the operator selected, each block with the reason that the rule gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgesparse.attention.selection import block_shares, select_blocks
from edgesparse.training.run_folder import Run
from edgesparse_runtime.bundle.read import Bundle
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.explain.routing import MAX_BLOCKS, NOTHING_LEFT, TOP_P, Recorder, Routing
from edgesparse_runtime.session import Session

KNOBS: list[dict[str, float]] = [{}, {"top_p": 0.7}, {"max_blocks": 2}, {"top_p": 1.0}]


def record(bundle: Bundle, series: SeriesSet, **more: object) -> tuple[Session, Routing]:
    session = Session(bundle, attention="sparse", **more)  # type: ignore[arg-type]
    return session, Recorder(session).run(session.prepare(series.take([0]))[0])


@pytest.mark.parametrize("engine", ["native", "body"])
@pytest.mark.parametrize("knobs", KNOBS)
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_record_is_what_the_model_selected(
    shared_bundle: Bundle, series: SeriesSet, knobs: dict[str, object], engine: str, precision: str
) -> None:
    session, routing = record(shared_bundle, series, engine=engine, precision=precision, **knobs)
    one = series.take([0])
    assert np.array_equal(routing.scores, session.predict(one, may_switch=False)[0])
    for layer, selection in zip(routing.layers, session.selections(one), strict=True):
        assert np.array_equal(layer.kept, selection[0])


@pytest.mark.parametrize("knobs", KNOBS)
def test_shares_and_reasons_follow_the_rule(
    shared_bundle: Bundle, series: SeriesSet, knobs: dict[str, object]
) -> None:
    """The rule of training, applied to the recorded scores and knobs, keeps the recorded blocks."""
    _, routing = record(shared_bundle, series, precision="float32", **knobs)
    for layer in routing.layers:
        reach = torch.from_numpy(layer.reach)[None, None]
        scores = torch.from_numpy(layer.scores)[None]
        top_p, most = torch.from_numpy(layer.top_p.copy()), torch.tensor([layer.max_blocks])
        kept = select_blocks(scores, top_p, most, reach, window=layer.window)
        assert np.array_equal(kept[0].numpy(), layer.kept)
        np.testing.assert_allclose(layer.shares, block_shares(scores, reach)[0].numpy(), rtol=1e-4, atol=1e-6)
        found = layer.to_dict()
        for head, facts in enumerate(found["heads"]):
            for query in facts["queries"]:
                blocks = {k["block"]: k for k in query["kept"]}
                assert blocks[query["block"]]["reason"] == "diagonal"
                total = sum(k["share"] for k in query["kept"]) + query["left"]["share"]
                assert total == pytest.approx(1, abs=1e-3)
                assert query["end"] in (TOP_P, MAX_BLOCKS, NOTHING_LEFT)
                assert (query["left"]["blocks"] == 0) == (query["end"] == NOTHING_LEFT)
                chosen = [k["share"] for k in query["kept"] if k["reason"] == "share"]
                dropped = np.delete(layer.shares[head, query["block"]], list(blocks))
                if chosen and len(dropped):
                    assert query["margin"] == pytest.approx(min(chosen) - dropped.max(), abs=1e-4)
                    assert query["margin"] >= -1e-5


def test_the_cap_is_named_where_it_ended_the_selection(shared_bundle: Bundle, series: SeriesSet) -> None:
    _, routing = record(shared_bundle, series, precision="float32", max_blocks=2)
    ends = [q["end"] for layer in routing.to_dict()["layers"] for h in layer["heads"] for q in h["queries"]]
    assert MAX_BLOCKS in ends


def test_another_router_makes_another_record(tiny_run: Run, series: SeriesSet) -> None:
    """Whoever draws the router's weights anew must see another record."""
    from edgesparse_export.run_bundle import golden_windows, onnx_bytes

    windows = golden_windows(tiny_run, series)

    def kept() -> list[np.ndarray]:
        session = Session("model.onnx", content=onnx_bytes(tiny_run, windows))
        return [layer.kept for layer in Recorder(session).run(windows[0]).layers]

    before = kept()
    routers = [p for name, p in tiny_run.model.named_parameters() if ".router." in name]
    saved = [p.detach().clone() for p in routers]
    try:
        with torch.no_grad():
            for p in routers:
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
        after = kept()
    finally:
        with torch.no_grad():
            for p, value in zip(routers, saved, strict=True):
                p.copy_(value)
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
