"""`edgesparse run` on prompts: the text that a language model writes after each."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.cli.output import note
from edgesparse_runtime.data.escape import escape_csv_row, escape_terminal
from edgesparse_runtime.data.tensors.generation import Generator
from edgesparse_runtime.data.tensors.text_file import read_texts
from edgesparse_runtime.errors import InputError
from edgesparse_runtime.session import Session

# Tokens of an answer, where nobody says how many.
MAX_TOKENS = 64
_FIELDS = ("file", "series", "text")


def run_prompts(
    session: Session, files: Sequence[str], form: str, output: Path | None, max_tokens: int
) -> None:
    """Write what the model writes after every prompt of the files; on a terminal, as it is written.

    All are read first, so that a bad last file leaves no half output.

    Raises:
        InputError: a file that does not hold texts, or a prompt that is too long.
    """
    if max_tokens < 1:
        raise InputError(f"`--max-tokens` must be at least 1; got {max_tokens}.")
    read = [(file, read_texts(Path(file))) for file in files]
    generator = Generator(session)
    for file, texts in read:
        for prompt in texts:
            try:
                generator.encode(prompt.text)
            except InputError as error:
                raise InputError(f"{file}, {prompt.name}: {error}") from None
    is_shown = form == "table" and output is None
    several = sum(len(texts) for _, texts in read) > 1
    rows: list[dict[str, Any]] = []
    for file, texts in read:
        for prompt in texts:
            if is_shown and several:
                print(f"{escape_terminal(file)} {escape_terminal(prompt.name)}:")
            text = session.generate(prompt.text, max_tokens=max_tokens, show=_show if is_shown else None)
            if is_shown:
                print(flush=True)
            rows.append({"file": file, "series": prompt.name, "text": text})
    if not is_shown:
        _write(rows, form, output)


def _show(piece: str) -> None:
    """A part of an answer on stdout; line breaks stay, what else does not print is escaped."""
    sys.stdout.write("\n".join(escape_terminal(line) for line in piece.split("\n")))
    sys.stdout.flush()


def _write(rows: list[dict[str, Any]], form: str, output: Path | None) -> None:
    if form == "json":
        text = json.dumps({"schema": "edgesparse.run/1", "predictions": rows}, indent=2) + "\n"
    else:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_FIELDS)
        for row in rows:
            writer.writerow(escape_csv_row([row[name] for name in _FIELDS]))
        text = stream.getvalue()
    if output is None:
        print(text, end="")
        return
    write_output(output, text)
    note(f"{len(rows)} answers in {output}")
