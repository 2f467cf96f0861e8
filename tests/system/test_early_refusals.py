"""What a verb refuses before it works, each as one line and with exit 2; in this process, to be quick."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgesparse_export.quantize import bundle
from edgesparse_export.quantize.bundle import quantize_bundle
from edgesparse_export.quantize.recipe import read_recipe
from edgesparse_runtime.bundle import atomic
from edgesparse_runtime.bundle.read import Bundle, all_files, open_bundle
from edgesparse_runtime.bundle.write import rewrite_bundle, store_files
from edgesparse_runtime.cli.app import run
from edgesparse_runtime.cli.checking import profile as profile_module
from edgesparse_runtime.data.readers import write_csv
from edgesparse_runtime.data.series_set import SeriesSet
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.measure.job import Job
from tests.support.synthetic import make_series


@pytest.fixture
def copied(tmp_path: Path, shared_bundle: Bundle) -> Path:
    return Path(shutil.copytree(shared_bundle.path, tmp_path / "pump.edgesparse"))


@pytest.fixture(autouse=True)
def _nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(profile_module, "run_jobs", never)
    monkeypatch.setattr(bundle, "quantize_bundle", never)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run([str(a) for a in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def refuse(capsys: pytest.CaptureFixture[str], words: str, *arguments: object) -> None:
    code, out, err = call(capsys, *arguments)
    assert code == 2, err
    assert out == ""
    assert err.startswith("edgesparse: error: ") and err.count("\n") == 1, err
    assert words in err


def test_another_bundle_is_not_replaced_unasked(
    capsys: pytest.CaptureFixture[str], copied: Path, tmp_path: Path
) -> None:
    one, other = tmp_path / "one.edgesparse", tmp_path / "other.edgesparse"
    assert call(capsys, "pack", copied, "-o", one)[0] == 0
    shutil.copytree(copied, other)
    # The same bundle: nothing is lost.
    assert call(capsys, "unpack", one, "-o", other)[0] == 0
    changed = rewrite_bundle(open_bundle(other), {"card.md": b"mine"}, {})
    refuse(capsys, "is another bundle. Add --overwrite", "unpack", one, "-o", other)
    refuse(capsys, "is another bundle. Add --overwrite", "pack", other, "-o", one)
    assert open_bundle(other).read("card.md") == b"mine"
    assert call(capsys, "pack", changed.path, "-o", one, "--overwrite")[0] == 0
    assert open_bundle(one).read("card.md") == b"mine"
    # A damaged one is somebody's too.
    (other / "card.md").write_bytes(b"")
    refuse(capsys, "is another bundle. Add --overwrite", "unpack", one, "-o", other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fail-if", "p99>"], "must be like 'p99>5ms'"),
        (["--fail-if", "foo>1"], "There are p50, p90"),
        (["--fail-if", "p999>1"], "Did you mean p99?"),
        (["--fail-if", "p99>1e"], "must hold a number"),
        (["--fail-if", "missed>1%"], "`--fail-if missed` needs `--rate`"),
        (["--fail-if", "slope_mb>1"], "`--fail-if slope_mb` needs `--soak` or `--soak-runs`"),
        (["-o", "/nonexist/x.html"], "no folder /nonexist. Create it first"),
        (["-o", "x.pdf"], "must end in .trace.json, .html, .json"),
        (["-o", "x.trace.json", "--no-modules"], "Leave out `--no-modules`"),
        (["--deadline", "5"], "Add --rate"),
        (["--wheelhouse", "w"], "Add --on"),
        (["--remote-python", "python3.12"], "Add --on"),
        (["--batch", "0"], "`--batch` must be at least 1; got 0"),
        (["--rate", "-2"], "`--rate` must be above 0 and finite; got -2"),
    ],
)
def test_profile_refuses_before_it_measures(
    capsys: pytest.CaptureFixture[str], shared_bundle: Bundle, options: list[str], words: str
) -> None:
    refuse(capsys, words, "profile", shared_bundle.path, *options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fail-if", "ratoi<1"], "Did you mean ratio?"),
        (["--fail-if", "ratio<"], "must be like"),
        (["--seconds", "-1"], "`--seconds` must be above 0 and finite; got -1"),
        (["--length", "0"], "`--length` must be at least 1; got 0"),
    ],
)
def test_compare_refuses_before_it_measures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str], words: str
) -> None:
    # Not even the bundles are opened.
    refuse(capsys, words, "compare", tmp_path / "a", tmp_path / "b", *options)


def test_the_help_names_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, figure in (("profile", "memory_peak"), ("compare", "largest_difference"), ("evaluate", "rmse")):
        code, out, _ = call(capsys, verb, "--help")
        assert code == 0
        assert figure in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-drop", "-1"], "`--max-drop` must be at least 0 and finite; got -1"),
        (["--max-drop", "accuracy=nan"], "`--max-drop` must be at least 0 and finite; got nan"),
        (["--time-budget", "nan"], "`--time-budget` must be at least 0"),
        (["--method", "minmax"], "Add --mode static"),
        (["--write-config", "/nonexist/x.yaml"], "no folder /nonexist. Create it first"),
    ],
)
def test_quantize_refuses_before_it_searches(
    capsys: pytest.CaptureFixture[str], shared_bundle: Bundle, options: list[str], words: str
) -> None:
    refuse(capsys, words, "quantize", shared_bundle.path, *options)


def test_quantize_looks_at_its_place_first(
    capsys: pytest.CaptureFixture[str], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_to_write(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", "/somewhere/tmpabc")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse_to_write)
    refuse(capsys, f"{copied} cannot be written: Read-only file system", "quantize", copied)


def test_a_drop_that_is_no_bound_is_refused_by_the_library_too(shared_bundle: Bundle) -> None:
    with pytest.raises(InputError, match="`max_drop` must be a number; got nan"):
        quantize_bundle(shared_bundle, max_drop=float("nan"))


def test_an_error_of_the_disk_names_the_bundle(
    tmp_path: Path, shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        store_files(tmp_path / "x.edgesparse", all_files(shared_bundle))
    assert caught.value.filename == str(tmp_path / "x.edgesparse")
    with pytest.raises(OSError, match="No such file") as caught:
        atomic.replace_text(tmp_path / "none" / "x.csv", "")
    assert caught.value.filename == str(tmp_path / "none" / "x.csv")


def test_inspect_shows_what_int8_cost(capsys: pytest.CaptureFixture[str], shared_bundle: Bundle) -> None:
    _, out, _ = call(capsys, "inspect", shared_bundle.path)
    (line,) = [x for x in out.splitlines() if x.startswith("int8 ")]
    report = shared_bundle.manifest["models"]["int8"]["report"]
    flipped, n = round(report["flipped"]["value"] * report["flipped"]["n"]), report["flipped"]["n"]
    assert f"accuracy {report['metric']['value']:.4f} -> {report['int8']['value']:.4f}" in line
    assert f"drop {report['drop']:.4f} (n={n})" in line
    assert f"{flipped} of {n} decisions flipped" in line
    refuse(capsys, "`--schema` is the same for every bundle", "inspect", "--schema", shared_bundle.path)


def test_a_huge_number_is_named_and_nothing_is_warned_of(
    capsys: pytest.CaptureFixture[str], shared_bundle: Bundle, tmp_path: Path
) -> None:
    data = make_series(1, steps=40)
    write_csv(tmp_path / "x.csv", data)
    lines = (tmp_path / "x.csv").read_text().splitlines()
    cells = lines[3].split(",")
    cells[lines[0].split(",").index("voltage")] = "1e300"
    lines[3] = ",".join(cells)
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    words = "row 4, column voltage must lie within +-3.4e+38; got 1e+300."
    refuse(capsys, words, "run", shared_bundle.path, tmp_path / "x.csv")
    np.savez(tmp_path / "x.npz", X=np.full((1, 2, 40), 1e300))
    refuse(capsys, "must be finite", "run", shared_bundle.path, tmp_path / "x.npz")


def test_a_length_far_from_the_training_is_said(
    capsys: pytest.CaptureFixture[str], shared_bundle: Bundle, tmp_path: Path
) -> None:
    for steps, words in ((600, None), (1300, "far from the 600 to 600 steps"), (200, "the first has 200")):
        write_csv(tmp_path / "x.csv", make_series(1, steps=steps))
        code, out, err = call(capsys, "run", shared_bundle.path, tmp_path / "x.csv")
        assert (code, out.count("\n")) == (0, 2)
        assert err == "" if words is None else words in err


def test_more_threads_than_can_run_are_noted(
    capsys: pytest.CaptureFixture[str], shared_bundle: Bundle, tmp_path: Path, series: SeriesSet
) -> None:
    write_csv(tmp_path / "x.csv", SeriesSet(series.series[:1], series.channels))
    _, _, err = call(capsys, "run", shared_bundle.path, tmp_path / "x.csv", "--threads", 65)
    assert err.startswith("`--threads` 65: ")
    assert "only" in err and "can run at once" in err


def test_a_key_that_is_not_there(capsys: pytest.CaptureFixture[str], copied: Path, tmp_path: Path) -> None:
    refuse(capsys, "Add `--make-key` to create it", "sign", copied, "--key", tmp_path / "k.pem")


def test_bad_yaml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("mode: dynamic\nlinear: native\nfloat32: [a,\n")
    with pytest.raises(InputError, match=r"x\.yaml, line 4 must be YAML; "):
        read_recipe(tmp_path / "x.yaml")


@pytest.mark.parametrize("verb", ["quantize", "profile", "verify"])
def test_ctrl_c_says_what_it_leaves(
    capsys: pytest.CaptureFixture[str], shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "quantize_bundle", stop)
    monkeypatch.setattr(profile_module, "run_jobs", stop)
    monkeypatch.setattr("edgesparse_runtime.cli.checking.verify.verify_path", stop)
    code, out, err = call(capsys, verb, shared_bundle.path)
    said = {"quantize": "; the bundle is unchanged", "profile": "; nothing was kept", "verify": ""}[verb]
    assert (code, out, err) == (130, "", f"edgesparse: interrupted{said}\n")


def test_typer_s_own_errors_take_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    refuse(capsys, "Missing argument 'model'. See `edgesparse profile --help`.", "profile")
    refuse(capsys, "No such option: --bogus", "verify", "x", "--bogus")
    refuse(capsys, "Invalid value for '--batch'", "profile", "x", "--batch", "many")
    code, _, err = call(capsys)
    assert code == 2
    assert "Usage: edgesparse" in err


def test_results_are_shown_before_they_are_written(
    capsys: pytest.CaptureFixture[str], shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(job: Job) -> SimpleNamespace:
        return SimpleNamespace(to_dict=lambda: {"profile": {"p99": 1.0}, "sweep": {}})

    def full(path: Path, result: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(profile_module, "run_jobs", measured)
    monkeypatch.setattr(profile_module, "write_result", full)
    place = tmp_path / "x.json"
    code, out, err = call(capsys, "profile", shared_bundle.path, "--json", "-o", place)
    assert json.loads(out)["profile"] == {"p99": 1.0}
    assert code == 1
    assert str(place) in err
