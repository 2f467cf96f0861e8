"""`make screenshots`: pictures of the pages that EdgeSparse writes, and of one selection, into docs/images.

A sparse transformer is trained on made recordings (`sample.py`), its pages are written in English and
Japanese, and headless Chromium takes them. FOLDER on the command line keeps the bundle and the recordings.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.site.pictures import draw_map, draw_steps
from benchmarks.site.sample import STEPS, make_bundle
from edgesparse_runtime import Session, read_dataset
from edgesparse_runtime.explain.routing import Recorder
from tests.support.paths import ROOT
from tests.support.processes import edgesparse

IMAGES = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1000, 760
MOST_BYTES = 80_000
# By name of the picture: arguments of the command that writes the page. {} is its path.
PAGES: dict[str, tuple[str, ...]] = {
    "data": ("data", "inspect", "fan_TEST.csv", "--html", "{}"),
    "explain": ("explain", "fan.edgesparse", "fan_TEST.csv", "--index", "1", "-o", "{}"),
    "explain_ja": ("explain", "fan.edgesparse", "fan_TEST.csv", "--index", "1", "-o", "{}", "--lang", "ja"),
    "report": ("report", "fan.edgesparse", "--data", "fan_TEST.csv", "-o", "{}"),
    "report_ja": ("report", "fan.edgesparse", "--data", "fan_TEST.csv", "-o", "{}", "--lang", "ja"),
    "profile": ("profile", "fan.edgesparse", "--threads", "1", "-o", "{}"),
}


def take(page: Path, picture: Path, folder: Path) -> None:
    """The top of a page as a PNG of few colors, under `MOST_BYTES`."""
    shot = folder / "shot.png"
    command = [
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}", "--blink-settings=preferredColorScheme=1"),
        *(f"--user-data-dir={folder / 'profile'}", f"--screenshot={shot}", page.as_uri()),
    ]
    subprocess.run(command, capture_output=True, check=True, timeout=300)
    with Image.open(shot) as image:
        for colors in (64, 32, 16, 8):
            small = io.BytesIO()
            image.convert("RGB").quantize(colors).save(small, "PNG", optimize=True)
            if small.tell() <= MOST_BYTES:
                break
    picture.write_bytes(small.getvalue())


def write_pages(folder: Path) -> dict[str, Path]:
    """Each page of `PAGES`, by name."""
    written = {}
    for name, words in PAGES.items():
        page = folder / f"{name}.html"
        done = edgesparse(*(word.format(page) for word in words), cwd=folder)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        written[name] = page
    return written


def write_selection(bundle: Path, recordings: Path) -> None:
    """The map of one head in one window, and the steps of its query block with the most blocks by share."""
    session = Session(bundle, precision="float32")
    window = session.prepare(read_dataset(recordings).take([1]))[0]
    layers = Recorder(session).run(window).layers
    # The head whose router decides most.
    layer, head = max(
        ((layer, head) for layer in layers for head in range(len(layer.kept))),
        key=lambda pair: int(pair[0].by_share[pair[1]].sum()),
    )
    query = int(np.argmax(layer.by_share[head].sum(axis=-1)))
    (IMAGES / "selection.svg").write_text(draw_map(layer, head, STEPS / 100), encoding="utf-8")
    (IMAGES / "shares.svg").write_text(draw_steps(layer, head, query), encoding="utf-8")
    facts = {"layer": layer.name, "head": head, "query": query, "top_p": round(float(layer.top_p[head]), 3)}
    print(json.dumps({**facts, "max_blocks": layer.max_blocks, "window": layer.window}))


def main() -> int:
    """Trains unless a folder is named, writes the pages and takes them."""
    if shutil.which("chromium") is None:
        print("screenshots need the Debian package chromium", file=sys.stderr)
        return 1
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(place)
        bundle, test = folder / "fan.edgesparse", folder / "fan_TEST.csv"
        if not bundle.exists():
            bundle, test = make_bundle(folder)
        write_selection(bundle, test)
        for name, page in write_pages(folder).items():
            picture = IMAGES / f"{name}.png"
            take(page, picture, Path(place))
            print(f"{picture.relative_to(ROOT)}  {picture.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
