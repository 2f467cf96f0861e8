"""Opens a page in headless Chromium, in a frame of a given width, and tells what it found there."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
# axe-core's script; `make prove-explain` names it.
AXE = os.environ.get("EDGESPARSE_AXE")
# Everything that would reach for the network fails at once, and is counted.
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--virtual-time-budget=20000"),
)
# Runs in the frame around the page; the page itself has no script.
_PROBE = """
const frame = document.querySelector("iframe"), found = {};
addEventListener("load", async () => {
  const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
  found.width = root.clientWidth; found.wide = root.scrollWidth;
  found.language = root.lang;
  found.requests = view.performance.getEntriesByType("resource").map(entry => entry.name);
  const texts = [...page.querySelectorAll("p, td, th, caption, figcaption, h1, h2, section.verdict")];
  const shown = texts.filter(e => e.getClientRects().length);
  found.smallest = Math.min(...shown.map(e => parseFloat(view.getComputedStyle(e).fontSize)));
  found.acted = ACT;
  found.violations = [];
  if (view.axe) {
    const result = await view.axe.run(page);
    found.violations = result.violations.map(v => v.id + ": " + v.nodes[0].html.slice(0, 120));
  }
  document.querySelector("pre").textContent = JSON.stringify(found);
});
"""


def open_page(
    page: Path, width: int, folder: Path, axe: Path | None = None, act: str = "null"
) -> dict[str, Any]:
    """Load a page at `width` CSS pixels.

    Args:
        folder: an empty one, for the browser's profile.
        axe: axe-core's script, which is run in the page.
        act: JavaScript of the `page` and its `view`; its value is `acted`.

    Returns:
        width, wide (of all content), smallest (type, in pixels), language, requests, violations,
        acted, console.
    """
    assert CHROMIUM is not None
    content = page.read_text(encoding="utf-8")
    if axe is not None:
        content = content.replace("</body>", f"<script>{axe.read_text(encoding='utf-8')}</script></body>")
    harness = folder / "harness.html"
    harness.write_text(
        f'<!doctype html><meta charset="utf-8"><title>harness</title><pre></pre>'
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(content)}"></iframe>'
        f"<script>{_PROBE.replace('ACT', act)}</script>",
        encoding="utf-8",
    )
    command = [CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", harness.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    match = re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)
    assert match and match[1], done.stderr[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(match[1]))
    found["console"] = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return found
