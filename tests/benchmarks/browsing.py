"""Opens pages of a built site in headless Chromium, one after the other, and tells what it found on each."""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.runtime.explain.browser import CHROMIUM

# Names lead nowhere, so what a page asks of another machine fails, and is counted.
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr"),
    "--virtual-time-budget=3000000",
)
_HARNESS = """<!doctype html><meta charset="utf-8"><title>harness</title><pre></pre>
<iframe style="width:WIDTHpx;height:900px;border:0"></iframe>
<script>
const frame = document.querySelector("iframe"), found = {};
const load = (element, document, address) => new Promise((done, failed) => {
  element.addEventListener("load", done, {once: true});
  element.addEventListener("error", failed, {once: true});
  element.src = address;
  if (document) document.head.append(element);
});
(async () => {
  for (const page of PAGES) {
    await load(frame, null, "site/" + page);
    const view = frame.contentWindow, root = frame.contentDocument.documentElement;
    // The theme looks once more at what scrolls.
    await new Promise(done => setTimeout(done, 1000));
    const one = found[page] = {title: frame.contentDocument.title};
    Object.assign(one, {width: root.clientWidth, wide: root.scrollWidth, violations: []});
    one.elsewhere = view.performance.getEntriesByType("resource")
      .map(entry => entry.name)
      .filter(name => !name.startsWith(location.origin) && !name.startsWith("data:"));
    if (AXE) {
      const script = frame.contentDocument.createElement("script");
      await load(script, frame.contentDocument, location.origin + "/axe.js");
      const result = await view.axe.run(frame.contentDocument, {resultTypes: ["violations"]});
      one.violations = result.violations
        .flatMap(kind => kind.nodes.map(node => kind.id + ": " + node.html.slice(0, 160)));
    }
  }
  document.querySelector("pre").textContent = JSON.stringify(found);
})();
</script>"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *values: Any) -> None:
        pass


@contextmanager
def _serving(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def open_site(
    site: Path, pages: Sequence[str], width: int, folder: Path, axe: Path | None, *, is_dark: bool = False
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Load pages at `width` CSS pixels.

    Args:
        folder: an empty one, for the browser's profile.
        axe: axe-core's script, which is run in each page.
        is_dark: the reader prefers dark colors.

    Returns:
        By page: title, width, wide (of all content), elsewhere (requests to other places), violations; and
        what went to the console.
    """
    (folder / "site").symlink_to(site)
    if axe is not None:
        (folder / "axe.js").symlink_to(axe.resolve())
    values = {"WIDTH": str(width), "PAGES": json.dumps(list(pages)), "AXE": json.dumps(axe is not None)}
    text = _HARNESS
    for name, value in values.items():
        text = text.replace(name, value)
    (folder / "harness.html").write_text(text, encoding="utf-8")
    with _serving(folder) as address:
        colors = f"--blink-settings=preferredColorScheme={1 - is_dark}"
        shown, console = _dump(f"{address}/harness.html", folder, colors)
    match = re.search(r"<pre>(.*?)</pre>", shown, re.DOTALL)
    assert match and match[1], console
    return json.loads(html.unescape(match[1])), console


def search_in(page: Path, word: str, folder: Path) -> tuple[str, list[str]]:
    """What the search of a page shows for a word, the page opened as a file; and what went to the console."""
    shown, console = _dump(f"{page.as_uri()}?q={word}", folder)
    match = re.search(r'<div class="md-search-result".*?</ol>', shown, re.DOTALL)
    return re.sub(r"<[^>]+>", "", match[0] if match else ""), console


def _dump(address: str, folder: Path, *flags: str) -> tuple[str, list[str]]:
    """The document at the end, and lines of the console."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *_FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)
    assert done.stdout, done.stderr[-2000:]
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
