"""`make site`: docs/ as a site in build/site, warnings as errors, and every link of the built pages followed.

Exits 1 when a page cannot be built without a warning, a link leads nowhere, or a page would load something
from elsewhere.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.site.links import Report, read_site
from tests.support.paths import ROOT, source_environment

SITE = ROOT / "build" / "site"
# The theme announces its successor on every run.
QUIET = {"NO_MKDOCS_2_WARNING": "1"}


class SiteError(Exception):
    """The pages could not be built without a warning; the text is what mkdocs said."""


def build_site(folder: Path = SITE) -> Report:
    """Build into `folder` and follow the links of the result.

    Raises:
        SiteError: mkdocs warned of something.
    """
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--site-dir", str(folder)]
    environment = source_environment(**QUIET)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    said = [
        row for row in done.stderr.splitlines() if row.startswith(("WARNING", "ERROR", "Aborted", "Error"))
    ]
    if done.returncode or said:
        raise SiteError("\n".join(said) or done.stderr[-2000:])
    return read_site(folder.resolve())


def main() -> int:
    """Builds, and says what was built."""
    try:
        report = build_site()
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    for problem in report.broken:
        print(f"leads nowhere: {problem}", file=sys.stderr)
    for problem in report.outside:
        print(f"loaded from elsewhere: {problem}", file=sys.stderr)
    print(f"{report.pages} pages, {report.links} links: build/site/index.html")
    return int(bool(report.broken or report.outside))


if __name__ == "__main__":
    sys.exit(main())
