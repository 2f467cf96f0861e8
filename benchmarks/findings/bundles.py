"""Findings of bundles, files and text that is generated from them: 6, 12, 15, 16, 22, 26, 27, 33, 34."""

from __future__ import annotations

import json

import yaml

from benchmarks.findings.box import Box, Outcome, tiny_model

_SERIES = "c\n" + "".join(f"{i}\n" for i in range(8))
_ESCAPE = "\x1b[2Jred"


def _csv(box: Box) -> str:
    path = box.folder / "x.csv"
    path.write_text(_SERIES)
    return str(path)


def _named(box: Box, name: str, classes: tuple[str, ...]) -> str:
    path = box.bundle(name)
    manifest = path / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"classes": classes}))
    return str(path)


def yaml_documents(box: Box) -> Outcome:
    """`deploy kserve` of a bundle whose `created` holds line ends and a document of its own."""
    pod = "2026-11-24T09:59:48Z.\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: evil}\n---\n#"
    path = box.bundle("m", created=pod)
    ended = box.verb("deploy", "kserve", path, "--image", "registry.example/m:1")
    if ended.code:
        return Outcome(False, ended.last)
    kinds = [found.get("kind") for found in yaml.safe_load_all(ended.out) if found]
    return Outcome("Pod" in kinds, f"documents {kinds}")


def pipe_after_listing(box: Box) -> Outcome:
    """A file of a bundle that becomes a pipe while the file before it is hashed."""
    path = box.bundle("m")
    code = (
        "import hashlib, os, sys\nfrom pathlib import Path\n"
        "plain, last = hashlib.sha256, Path(sys.argv[1], 'model.onnx')\n"
        "def swap(*given, **named):\n"
        "    if last.is_file() and not last.is_fifo():\n        last.unlink()\n        os.mkfifo(last)\n"
        "    return plain(*given, **named)\n"
        "from edgesparse_runtime.cli.app import run\nhashlib.sha256 = swap\n"
        "sys.exit(run(['inspect', sys.argv[1]]))"
    )
    ended = box.run(code, path, seconds=40)
    return Outcome(ended.code is None, "waits for ever" if ended.code is None else ended.last)


def planted_link(box: Box) -> Outcome:
    """A link at the name under which an output file is written first: it leads to a file elsewhere."""
    victim, out = box.folder / "victim", box.folder / "out.csv"
    victim.write_text("victim")
    (box.folder / ".out.csv.new").symlink_to(victim)
    ended = box.verb("run", box.bundle("m"), _csv(box), "-o", out)
    changed = not victim.exists() or victim.read_text() != "victim"
    what = "the file elsewhere is overwritten" if changed else f"untouched; exit {ended.code}"
    return Outcome(changed, what)


def reader_during_replacement(box: Box) -> Outcome:
    """Opens of a bundle while another process replaces it without end."""
    code = (
        "import shutil, subprocess, sys, time\n"
        "writer = '''\nimport sys, time\nfrom pathlib import Path\n"
        "try:\n    from edgesparse_runtime.bundle.write import store_files\n"
        "    from edgesparse_runtime.bundle.read import all_files, open_bundle\n"
        "except ImportError:\n"
        "    from edgesparse_runtime.bundle import all_files, open_bundle, store_files\n"
        "files, written = all_files(open_bundle(sys.argv[1])), 0\n"
        "end = time.monotonic() + 12\n"
        "while time.monotonic() < end:\n"
        "    store_files(sys.argv[1], files)\n    written += 1\nprint(written)\n'''\n"
        "try:\n    from edgesparse_runtime.bundle.read import open_bundle\n"
        "except ImportError:\n    from edgesparse_runtime.bundle import open_bundle\n"
        "process = subprocess.Popen([sys.executable, '-c', writer, sys.argv[1]])\n"
        "opens = failed = 0\n"
        "while process.poll() is None:\n    opens += 1\n"
        "    try:\n        open_bundle(sys.argv[1])\n    except Exception:\n        failed += 1\n"
        "print(opens, failed)\n"
    )
    ended = box.run(code, box.bundle("m"), seconds=60)
    if ended.code != 0:
        raise RuntimeError(ended.last)
    written, opens, failed = map(int, ended.out.split())
    return Outcome(failed > 0, f"{failed} of {opens} opens fail during {written} replacements")


def escape_sequences(box: Box) -> Outcome:
    """`inspect` of a bundle whose class clears the screen."""
    ended = box.verb("inspect", _named(box, "m", (_ESCAPE, "b")))
    shown = _ESCAPE in ended.out + ended.errors
    return Outcome(shown, f"exit {ended.code}; the sequence is {'' if shown else 'not '}printed")


def formulas(box: Box) -> Outcome:
    """CSV output of a bundle whose classes begin formulas."""
    ended = box.verb("run", _named(box, "m", ("=cmd|x", "@SUM(1)")), _csv(box), "--format", "csv")
    cells = [cell.strip('"') for line in ended.out.splitlines() for cell in line.split(",")]
    runs = [cell for cell in cells if cell.startswith(("=", "@"))]
    return Outcome(bool(runs), f"exit {ended.code}; cells that a spreadsheet would run: {runs[:2]}")


def classes_of_one_name(box: Box) -> Outcome:
    """JSON output of a bundle with two classes of one name."""
    ended = box.verb("run", _named(box, "m", ("a", "a")), _csv(box), "--format", "json")
    return Outcome(ended.code == 0 and ended.out.count('"a":') == 1, f"exit {ended.code}; {ended.last}")


def keys_of_a_failed_sign(box: Box) -> Outcome:
    """`sign --make-key` where files above a few kB cannot be written."""
    code = (
        "import resource, sys\nfrom edgesparse_runtime.cli.app import run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\nsys.exit(run(sys.argv[1:]))"
    )
    path = box.bundle("m", tiny_with_padding())
    ended = box.run(code, "sign", path, "--key", box.folder / "key.pem", "--make-key")
    left = sorted(found.name for found in box.folder.glob("key*"))
    if ended.code == 0:
        raise RuntimeError("the bundle could be written")
    return Outcome(bool(left), f"exit {ended.code} ({ended.last}); left: {left}")


def tiny_with_padding() -> bytes:
    """A model of more than 4 kB."""
    return tiny_model() + b"\x32" + bytes([0xE0, 0x5D]) + b"x" * 12000


def older_signed_bundle(box: Box) -> Outcome:
    """An older bundle of the same signer in the place of a newer one; by design, and stated since."""
    path, key = box.bundle("m"), box.folder / "key.pem"
    signed = box.verb("sign", path, "--key", key, "--make-key")
    public = next((found for found in box.folder.glob("key*") if found != key), key)
    other = path.rename(box.folder / "other.edgesparse")
    ended = box.verb("verify", other, "--require-signature", public)
    return Outcome(ended.code == 0, f"sign exits {signed.code}, verify {ended.code}: {ended.last}")


ATTACKS = {
    6: yaml_documents,
    12: pipe_after_listing,
    15: planted_link,
    16: reader_during_replacement,
    22: escape_sequences,
    26: formulas,
    27: classes_of_one_name,
    33: keys_of_a_failed_sign,
    34: older_signed_bundle,
}
