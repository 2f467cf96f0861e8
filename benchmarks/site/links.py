"""Every link of a built site: each must lead to a file of the site, and to a place in it.

The HTML itself is read, so what the theme and the generators write counts too. What a browser loads without
being asked (a script, a style, a picture, a font) must not come from elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that name what a browser loads without being asked; `link` does so but for these.
LOADED = {"src", "srcset", "data", "poster"}
NOT_LOADED = {"canonical", "next", "prev", "alternate"}
STYLE_ADDRESS = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


@dataclass
class Page(HTMLParser):
    """Links and places of one page."""

    text: str
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given and tag != "meta"}
        for name in LOADED & given.keys():
            self.loaded.append(given[name])
        if "href" in given:
            is_loaded = tag == "link" and given.get("rel") not in NOT_LOADED
            (self.loaded if is_loaded else self.links).append(given["href"])


@dataclass(frozen=True)
class Report:
    """What was found on a site.

    Attributes:
        pages: how many were read.
        links: how many lead to the site itself.
        broken: `PAGE: LINK` of each that leads nowhere.
        outside: `PAGE: ADDRESS` of each that a browser would load from elsewhere.
    """

    pages: int
    links: int
    broken: list[str]
    outside: list[str]


def read_site(site: Path) -> Report:
    """Read every page and style of a built site."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    broken, outside, count = [], [], 0
    for path, page in pages.items():
        here = path.relative_to(site).as_posix()
        for link in [*page.links, *page.loaded]:
            # The theme writes the addresses of 404.html from the root of the server.
            if _is_outside(link) or link.startswith("data:"):
                outside += [f"{here}: {link}"] if link in page.loaded and _is_outside(link) else []
                continue
            count += 1
            if not _leads_somewhere(link, path, site, pages):
                broken.append(f"{here}: {link}")
    for style in sorted(site.rglob("*.css")):
        for match in STYLE_ADDRESS.finditer(style.read_text(encoding="utf-8")):
            address = match[1] or match[2]
            if _is_outside(address):
                outside.append(f"{style.relative_to(site).as_posix()}: {address}")
    return Report(len(pages), count, broken, outside)


def _is_outside(link: str) -> bool:
    parts = urlsplit(link)
    return parts.scheme in ("http", "https", "ftp", "ws", "wss") or bool(parts.netloc)


def _leads_somewhere(link: str, path: Path, site: Path, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme:
        return parts.scheme in ("mailto", "javascript")
    root = site if parts.path.startswith("/") else path.parent
    target = (root / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file() or not target.is_relative_to(site.resolve()):
        return False
    place = unquote(parts.fragment)
    if not place or target not in pages:
        return True
    return place in pages[target].places
