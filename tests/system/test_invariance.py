"""Property: how data are written, ordered, split or padded changes no answer of a verb.

The verbs run in this process; an opened model is kept, since opening one takes longer than a prediction.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse_runtime.bundle.read import Bundle, open_bundle
from edgesparse_runtime.bundle.write import write_bundle
from edgesparse_runtime.cli.app import run as call_verb
from edgesparse_runtime.cli.checking import evaluate as evaluate_verb
from edgesparse_runtime.cli.running import run as run_verb
from edgesparse_runtime.session import Session
from tests.support.recordings.made_data import CLOCKS, EXAMPLES, Made, made, many, write
from tests.support.tolerances import ENGINES

CHANNELS, CLASSES = ("current", "voltage"), ("fast", "slow")
WINDOW, STRIDE = 16, 8
BLANKS = ("", "NA", "NaN", "null", "?")
few = settings(parent=many, max_examples=max(5, EXAMPLES // 2))
fewest = settings(parent=many, max_examples=max(2, EXAMPLES // 100))


@st.composite
def dialects(draw: st.DrawFn) -> dict[str, Any]:
    """One way to write a table."""
    delimiter = draw(st.sampled_from([",", ";", "\t"]))
    return {
        "clock": draw(st.sampled_from(sorted(CLOCKS))),
        "delimiter": delimiter,
        "decimal": "," if delimiter != "," and draw(st.booleans()) else ".",
        "newline": draw(st.sampled_from(["\n", "\r\n"])),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])),
        "blank": draw(st.sampled_from(BLANKS)),
        "columns": draw(st.none() | st.integers(0, 9)),
        "shuffle": draw(st.none() | st.integers(0, 99)),
    }


def measured() -> Any:
    """Data of the model's channels, some series shorter than a window."""
    return made(channels=CHANNELS, labels=CLASSES, steps=(12, 50))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, shared_bundle: Bundle) -> dict[str, Path]:
    """The shared model for whole series, and as if it had been trained on windows."""
    manifest = {key: value for key, value in shared_bundle.manifest.items() if key != "files"}
    manifest["input"] = {**manifest["input"], "window": WINDOW, "stride": STRIDE, "period": 0.02}
    names = [name for name in shared_bundle.manifest["files"] if name != "manifest.json"]
    files = {name: shared_bundle.read(name) for name in names}
    windows = write_bundle(tmp_path_factory.mktemp("windows") / "w.edgesparse", files, manifest)
    return {"whole": shared_bundle.path, "windows": windows.path}


@pytest.fixture(scope="module", autouse=True)
def opened_once() -> Iterator[None]:
    keep = cache(lambda path, precision, threads: Session(path, precision=precision, threads=1))

    def session(model: Path | Bundle, *, precision: str = "auto", threads: int | None = None) -> Session:
        return keep(model if isinstance(model, Path) else model.path, precision, threads)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_verb, "Session", session)
        patch.setattr(evaluate_verb, "Session", session)
        patch.setattr(evaluate_verb, "open_bundle", cache(open_bundle))
        yield


def verb(*arguments: object) -> Any:
    """The JSON that a verb prints."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = call_verb([*map(str, arguments), "--json"])
    # 3 = a sensor looks dead, which generated data may.
    assert code in (0, 3), err.getvalue()
    return json.loads(out.getvalue())


Answers = dict[str, list[tuple[list[float], list[str]]]]


def run_files(bundle: Path, precision: str, *files: Path) -> Answers:
    """Scores and faults of each series' windows, in order of time."""
    answers: Answers = defaultdict(list)
    for row in verb("run", bundle, *files, "--precision", precision)["predictions"]:
        answers[row["series"]].append((list(row["scores"].values()), row["faults"]))
    return answers


def check_same(found: Answers, expected: Answers) -> None:
    assert found.keys() == expected.keys()
    for name, windows in expected.items():
        assert [faults for _, faults in found[name]] == [faults for _, faults in windows]
        np.testing.assert_allclose(
            [scores for scores, _ in found[name]],
            [scores for scores, _ in windows],
            rtol=ENGINES.relative,
            # `run` prints six digits.
            atol=ENGINES.absolute + 1e-6,
        )


@few
@given(
    data=measured(),
    other=measured(),
    dialect=dialects(),
    kind=st.sampled_from(["whole", "windows"]),
    precision=st.sampled_from(["float32", "int8"]),
    seed=st.integers(0, 99),
)
def test_run(
    tmp_path: Path,
    bundles: dict[str, Path],
    data: Made,
    other: Made,
    dialect: dict[str, Any],
    kind: str,
    precision: str,
    seed: int,
) -> None:
    """Encoded anew; series in another order; in two files; in one file with others."""

    def run(*files: Path) -> Answers:
        return run_files(bundles[kind], precision, *files)

    order = np.random.default_rng(seed).permutation(len(data.names)).tolist()
    expected = run(write(tmp_path / "plain.csv", data))
    check_same(run(write(tmp_path / "encoded.csv", data, **dialect)), expected)
    permuted = data.take(order)
    check_same(run(write(tmp_path / "permuted.csv", permuted)), expected)
    half = len(order) // 2
    if half:
        parts = [permuted.take(range(half)), permuted.take(range(half, len(order)))]
        files = [write(tmp_path / f"part{i}.csv", part, **dialect) for i, part in enumerate(parts)]
        check_same(run(*files), expected)
    more = Made(
        [*other.series, *data.series],
        [*(f"other{i}" for i in range(len(other.names))), *data.names],
        [*other.labels, *data.labels],
        data.channels,
    )
    both = run(write(tmp_path / "both.csv", more, **dialect))
    check_same({name: both[name] for name in expected}, expected)


@few
@given(data=measured(), padding=st.integers(0, 40), kind=st.sampled_from(["whole", "windows"]))
def test_run_of_archives(
    tmp_path: Path, bundles: dict[str, Path], data: Made, padding: int, kind: str
) -> None:
    """An .npz pads with NaN; a masked value, a .ts file's ? and an empty cell are all missing."""
    longest = max(x.shape[1] for x in data.series) + padding
    batch = np.full((len(data.series), len(CHANNELS), longest), np.nan, dtype=np.float32)
    for row, x in zip(batch, data.series, strict=True):
        row[:, : x.shape[1]] = x
    mask = np.isnan(batch)
    np.savez(tmp_path / "nan.npz", X=batch, channels=np.array(CHANNELS))
    np.savez(tmp_path / "mask.npz", X=np.where(mask, -9999, batch), mask=mask, channels=np.array(CHANNELS))
    lines = [
        ":".join(",".join("?" if np.isnan(v) else repr(float(v)) for v in c) for c in x) for x in data.series
    ]
    head = "@timeStamps false\n@classLabel false\n@data\n"
    (tmp_path / "x.ts").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    plain = run_files(bundles[kind], "float32", write(tmp_path / "plain.csv", data))
    expected = {str(i): windows for i, windows in enumerate(plain.values())}
    for name in ("nan.npz", "mask.npz", "x.ts"):
        found = run_files(bundles[kind], "float32", tmp_path / name)
        check_same({str(i): windows for i, windows in enumerate(found.values())}, expected)


@few
@given(
    data=measured(), dialect=dialects(), kind=st.sampled_from(["whole", "windows"]), seed=st.integers(0, 99)
)
def test_evaluate(
    tmp_path: Path, bundles: dict[str, Path], data: Made, dialect: dict[str, Any], kind: str, seed: int
) -> None:
    """The figures of a file are those of its parts taken together."""

    def evaluate(file: Path) -> tuple[float, int, dict[str, tuple[float, int]]]:
        result = verb("evaluate", bundles[kind], file, "--precision", "float32")
        metric = next(iter(result["metrics"].values()))
        recall = {name: (m["value"], m["n"]) for name, m in result["recall"].items()}
        return metric["value"], metric["n"], recall

    expected = evaluate(write(tmp_path / "plain.csv", data))
    order = np.random.default_rng(seed).permutation(len(data.names)).tolist()
    permuted = data.take(order)
    for file in (
        write(tmp_path / "encoded.csv", data, **dialect),
        write(tmp_path / "permuted.csv", permuted, **dialect),
    ):
        value, n, recall = evaluate(file)
        assert (value, n) == (pytest.approx(expected[0]), expected[1])
        assert recall == {name: (pytest.approx(v), m) for name, (v, m) in expected[2].items()}
    half = len(order) // 2
    if half:
        parts = [permuted.take(range(half)), permuted.take(range(half, len(order)))]
        found = [evaluate(write(tmp_path / f"{i}.csv", part)) for i, part in enumerate(parts)]
        assert sum(n for _, n, _ in found) == expected[1]
        assert sum(value * n for value, n, _ in found) == pytest.approx(expected[0] * expected[1])


@fewest
@given(data=measured(), dialect=dialects())
def test_quantize(tmp_path: Path, shared_bundle: Bundle, data: Made, dialect: dict[str, Any]) -> None:
    """The same int8 model, and the same gate, from the same data written another way."""
    found = []
    for name, change in (("plain", {}), ("encoded", dialect)):
        bundle = tmp_path / f"{name}.edgesparse"
        shutil.rmtree(bundle, ignore_errors=True)
        shutil.copytree(shared_bundle.path, bundle)
        file = write(tmp_path / f"{name}.csv", data, **change)
        report = verb("quantize", bundle, "--data", file, "--max-drop", "1", "--mode", "static")
        model = (bundle / open_bundle(bundle).manifest["models"]["int8"]["file"]).read_bytes()
        found.append((model, {k: v for k, v in report.items() if k not in ("bundle", "config")}))
    assert found[0] == found[1]
