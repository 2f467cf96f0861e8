"""Parts that `prove_kernels` measures beside whole cases: the exported router, heads of unlike density."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import torch

from benchmarks.attention.case import BLOCK, FLOAT32_ERROR, Case, Contender
from benchmarks.attention.ours import node_of, open_session
from edgesparse.attention.router import Router
from edgesparse_export.functions.attach import attach_bodies
from edgesparse_export.passes.emit_operators import RouterOperator
from tests.support.kernels.models import make_model

# Two heads of this length are work enough to split, and nothing else is.
TWO_HEADS = Case(4096, 2, 64, 1.0)


def make_router(case: Case, library: str) -> Contender:
    """The router of `attention.router` as it is exported, on the case's queries and keys [1, N, H*D]."""
    router = Router(case.heads, case.heads, case.head_size, BLOCK, is_causal=False).eval()
    query, key = (torch.from_numpy(case.feeds[name]) for name in ("query", "key"))
    # The exporter logs what it looks for and lacks; only its failures matter here, and those are raised.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(RouterOperator(router), (query, key, None), dynamo=True, verbose=False)
    assert program is not None
    attach_bodies(program.model)
    session = open_session(program.model_proto.SerializeToString(), library, case.threads)
    names = [x.name for x in session.get_inputs()]
    feeds = dict(zip(names, (case.feeds["query"], case.feeds["key"]), strict=True))
    with torch.no_grad():
        expected = router(query, key, None).numpy()
    found = session.run(None, feeds)[0]
    error = float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))
    width = case.heads * case.head_size
    flops = case.tokens * width * 4.0 + 2.0 * case.blocks * (4 * width * case.head_size + case.blocks * width)
    return Contender("router", lambda: session.run(None, feeds), flops, error, FLOAT32_ERROR)


def make_balance(library: str, top_p: tuple[float, float], threads: int) -> Contender:
    """Two heads of 4,096 tokens that keep a share `top_p` each: 1 keeps all blocks, 0 the own block alone."""
    feeds = {**TWO_HEADS.feeds, "top_p": np.array(top_p, dtype=np.float32)}
    session = open_session(
        make_model(node_of(TWO_HEADS), with_selection=False).SerializeToString(), library, threads
    )
    return Contender(f"{threads} threads", lambda: session.run(None, feeds), TWO_HEADS.dense_flops, 0.0)
