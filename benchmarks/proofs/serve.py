"""`make prove-serve`: the claims about serving, a line each: PASS or FAIL, name, figure, target.

Exits 1 when one fails; writes the same as JSON. Long parts (load, kills, mutations) are cut into pieces whose
results are stored by a hash of the code that they run: a run that was stopped goes on where it was.
QUICK=1 runs a shortened form. All traffic goes to 127.0.0.1.

    python -m benchmarks.proofs.serve [PART...]    only these parts, to be stored for a run of all

Parts: clients, speed, load, kills, stream, mutations, ray. Speed and stream want a machine that does
nothing else.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.proofs.lines import Line, chosen_parts, finish, line, machine_now, skip
from benchmarks.proofs.serve_stream import compare_stream
from benchmarks.serving.bundles import Pair, make_pair
from benchmarks.serving.clients import schemathesis, tritonclient
from benchmarks.serving.fuzz import MEGABYTES, SECONDS, mutate
from benchmarks.serving.kills import kill_at_random
from benchmarks.serving.memory import UNKNOWN, Growth, pooled
from benchmarks.serving.ray import measure as ray_measure
from benchmarks.serving.soak import soak
from benchmarks.serving.speed import speed
from benchmarks.serving.versions import version_of
from benchmarks.support.machine import machine_facts
from benchmarks.support.settings import QUICK, SCRATCH, report_path
from benchmarks.support.stored_cases import StoredCases

WORK = SCRATCH / "serve"
REQUESTS, PIECE, CONNECTIONS = (6_000, 3_000, 32) if QUICK else (200_000, 100_000, 32)
KILLS, KILLS_PIECE = (10, 10) if QUICK else (200, 50)
SCHEMA_CASES = 500 if QUICK else 5_000
# By parser; together a million.
MUTATIONS = {"request": 400_000, "model": 250_000, "manifest": 150_000, "arrays": 100_000, "archive": 100_000}
MUTATIONS_PIECE = 50_000
LEAST_THROUGHPUT = 0.8
# MB a thousand requests, 95 % interval included: one that kept its old models would grow by several.
MOST_GROWTH = 0.1

# Results of one part, bound to the sources that it runs.
Stores = Callable[[str], StoredCases]


def compare_clients(stores: Stores, pair: Pair) -> list[Line]:
    """Clients that no one here wrote."""
    triton = stores("tritonclient").get("tritonclient", tritonclient)
    holds = triton["rc"] == 0 and triton.get("passed", 0) > 0 and not triton.get("skipped")
    target = "metadata, JSON, binary, bad name, shape, type, oversize: all pass"
    lines = [line("tritonclient", holds, f"{triton.get('passed', 0)} cases pass", target)]
    schema = stores("schemathesis").get(
        "schemathesis", partial(schemathesis, pair, SCHEMA_CASES, 20 if QUICK else 150)
    )
    clean = not schema["output"] and schema["cases"] == schema["passed"] >= SCHEMA_CASES
    figure = f"{schema['cases']} cases, {schema['cases'] - schema['passed']} findings"
    lines.append(line("schemathesis", clean, figure, f"{SCHEMA_CASES} cases, no finding"))
    if schema["output"]:
        print(schema["output"], file=sys.stderr)
    return lines


def compare_load(stores: Stores, pair: Pair) -> list[Line]:
    """Every answer under reloads, and memory."""
    pieces = [
        stores("load").get(f"load-{i}", partial(soak, pair, PIECE, CONNECTIONS, 1200.0))
        for i in range(REQUESTS // PIECE)
    ]
    asked, answered = (sum(piece[key] for piece in pieces) for key in ("asked", "answered"))
    wrong = sum(piece["mixed_up"] + piece["unknown_bundle"] for piece in pieces)
    bad = sum(
        n for piece in pieces for code, n in piece["statuses"].items() if code == "0" or int(code) >= 500
    )
    other = asked - answered - bad
    seconds = sum(piece["seconds"] for piece in pieces)
    swaps, reloads = (sum(piece[key] for piece in pieces) for key in ("swaps", "reloads"))
    refused = sum(len(piece["reloads_refused"]) for piece in pieces)
    growth, a_reload = (
        pooled([Growth(**piece[key]) for piece in pieces])
        for key in ("growth_mb_a_1000_requests", "growth_mb_a_reload")
    )
    name = f"{REQUESTS} requests at {CONNECTIONS} connections, a new bundle each second"
    return [
        line(f"{name}: lost", asked == answered >= REQUESTS, f"{asked - answered} of {asked}", "0"),
        line("  mixed up (not the scores of its own input by the model named)", wrong == 0, str(wrong), "0"),
        line("  5xx or broken connections", bad == 0, f"{bad} (other refusals {other})", "0"),
        line(
            "  reloads",
            reloads >= 0.8 * swaps and refused == 0 and swaps >= 0.5 * seconds,
            f"{reloads} of {swaps} new bundles taken over in {seconds:.0f} s, {refused} refused",
            "nearly one a second, none refused",
        ),
        # The short form ends before memory has settled.
        line(
            "  memory",
            None if QUICK else growth.high <= MOST_GROWTH,
            "too short a time to tell"
            if growth == UNKNOWN
            else f"{growth} MB a thousand requests, {a_reload} MB a reload",
            f"interval up to {MOST_GROWTH} MB a thousand requests",
        ),
        line(
            "  processor time of the server",
            None,
            f"{pieces[-1]['server_ms_per_request']:.2f} ms a request",
            "",
        ),
    ]


def compare_speed(stores: Stores, pair: Pair) -> list[Line]:
    """Throughput and latency."""
    found = stores("speed").get("speed", partial(speed, pair, 2 if QUICK else 5, 2.0 if QUICK else 4.0))
    medians, cores = found["medians"], found["cores"]
    served, alone = medians["server, 1 runner(s)"], medians["runner, 1 thread(s)"]
    rates = f"{served['rate']:.0f} of {alone['rate']:.0f} windows/s, {found['steps']} steps"
    figure = f"{found['ratio_one']:.0%} ({rates})"
    holds = found["ratio_one"] >= LEAST_THROUGHPUT and found["wrong"] == 0
    name = "throughput over the runner in process, batch 8, preset tiny, one thread"
    target = f">= {LEAST_THROUGHPUT:.0%}"
    ours, theirs = medians[f"server, {cores} runner(s)"], medians["FastAPI"]
    return [
        line(name, holds, figure, target),
        line("  processor time of the runner over the server's", None, f"{found['ratio_processor']:.0%}", ""),
        line(f"  rate with {cores} cores, shared with the load", None, f"{found['ratio_all_cores']:.0%}", ""),
        line(
            f"p99 at {CONNECTIONS} connections, against FastAPI with the same session",
            None,
            f"{ours['p99_ms']:.0f} ms against {theirs['p99_ms']:.0f} ms (p50 {ours['p50_ms']:.0f} and "
            f"{theirs['p50_ms']:.0f}, rate {ours['rate']:.0f} and {theirs['rate']:.0f} a second)",
            "",
        ),
    ]


def compare_kills(stores: Stores, pair: Pair) -> list[Line]:
    """kill -9."""
    pieces = [
        stores("kills").get(f"kills-{i}", partial(kill_at_random, pair, KILLS_PIECE, i))
        for i in range(KILLS // KILLS_PIECE)
    ]
    writers, servers, broken, wrong = (
        sum(piece[key] for piece in pieces)
        for key in ("writers", "servers", "broken_on_disk", "wrong_answers")
    )
    figure = (
        f"{writers} writers and {servers} servers killed: {broken} times no whole bundle on disk, "
        f"{wrong} times no valid answer"
    )
    holds = writers + servers >= KILLS and broken == wrong == 0
    return [line("kill -9 during bundle write and reload", holds, figure, f"{KILLS} kills, 0 and 0")]


def compare_mutations(stores: Stores, pair: Pair) -> list[Line]:
    """Mutated input."""
    lines = []
    total, seconds = 0, 0.0
    for kind, runs in MUTATIONS.items():
        runs = runs // 50 if QUICK else runs
        piece = min(runs, MUTATIONS_PIECE)
        pieces = [
            stores("mutations").get(f"mutations-{kind}-{i}", partial(mutate, kind, piece, i + 1))
            for i in range(runs // piece)
        ]
        failed = [p for p in pieces if p["rc"] != 0]
        blind = sum(p["new_inputs"] == 0 for p in pieces)
        done, took = sum(p["runs"] for p in pieces), sum(p["seconds"] for p in pieces)
        new = sum(p["new_inputs"] for p in pieces)
        slowest, peak = (max(p[key] for p in pieces) for key in ("slowest_s", "peak_mb"))
        total, seconds = total + done, seconds + took
        holds = not failed and not blind and done >= runs and slowest <= SECONDS and 0 < peak < MEGABYTES
        figure = (
            f"{done} in {took:.0f} s, {len(failed)} findings, slowest {max(0, slowest)} s, peak {peak} MB, "
            + (f"{blind} pieces saw no coverage" if blind else f"{new} inputs reached new code")
        )
        target = f"{runs}, 0 findings, <= {SECONDS} s, < {MEGABYTES} MB"
        lines.append(line(f"mutated input (atheris), {kind}", holds, figure, target))
        for p in failed:
            print(p["output"], file=sys.stderr)
    lines.append(line("  mutations in all", None, f"{total} in {seconds:.0f} s", ""))
    return lines


def compare_ray(stores: Stores, pair: Pair) -> list[Line]:
    """Two replicas, one killed under load."""
    name = "Ray Serve, two replicas, one killed again and again under load: lost"
    if importlib.util.find_spec("ray") is None:
        return [skip(name, "ray is not installed (pip install 'edgesparse[ray]')", "0")]
    found = stores("ray").get("ray", partial(ray_measure, pair, 25.0 if QUICK else 90.0))
    lost = found["asked"] - found["answered"] + found["mixed_up"] + found["unknown_bundle"]
    figure = f"{lost} of {found['asked']} requests, {found['killed']} killed, p99 {found['p99_ms']:.0f} ms"
    return [line(name, lost == 0 and found["killed"] >= 2, figure, "0, at least 2 killed")]


def compare_streams(stores: Stores, pair: Pair) -> list[Line]:
    """Streams; they have models of their own."""
    return compare_stream(stores("stream"))


PARTS: dict[str, Callable[[Stores, Pair], list[Line]]] = {
    "clients": compare_clients,
    "speed": compare_speed,
    "load": compare_load,
    "kills": compare_kills,
    "stream": compare_streams,
    "mutations": compare_mutations,
    "ray": compare_ray,
}


def main(only: Sequence[str] = ()) -> int:
    """Run, compare with the targets, write the JSON.

    Args:
        only: parts to run now; their results are stored, and the JSON is left to a run of all.
    """
    WORK.mkdir(parents=True, exist_ok=True)
    machine, facts = machine_now(), machine_facts()
    print(json.dumps(machine), flush=True)

    def stores(part: str) -> StoredCases:
        return StoredCases(WORK / "cases", version_of(part), facts, QUICK)

    pair = make_pair(WORK)
    lines = [entry for name in only or PARTS for entry in PARTS[name](stores, pair)]
    target = SCRATCH / "prove_serve_parts.json" if only else report_path("prove_serve")
    return finish(target, lines, machine)


if __name__ == "__main__":
    sys.exit(main(chosen_parts(__doc__, PARTS)))
