"""`edgesparse run` on texts: embeddings as JSON, CSV or a table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgesparse_runtime.bundle.output_file import write_output
from edgesparse_runtime.cli.output import note, print_table
from edgesparse_runtime.data.escape import escape_csv_row
from edgesparse_runtime.data.tensors.embedding import embed_tokens, tokenizer_of, truncation
from edgesparse_runtime.data.tensors.text_file import read_texts
from edgesparse_runtime.session import Session

# Numbers of an embedding that a table shows.
_SHOWN = 4


def takes_text(session: Session) -> bool:
    """Whether the model of a bundle takes text."""
    return session.bundle is not None and "text" in session.bundle.manifest


def run_texts(
    session: Session, files: Sequence[str], form: str, output: Path | None, prompt: str | None
) -> None:
    """Write the embedding of every text of the files.

    All are read first, so that a bad last file leaves no half output.

    Raises:
        InputError: a file that does not hold texts.
    """
    tokenizer = tokenizer_of(session)
    read = [(file, read_texts(Path(file))) for file in files]
    rows: list[dict[str, Any]] = []
    for file, texts in read:
        tokens = tokenizer.encode([x.text for x in texts], prompt)
        found = embed_tokens(session, tokens)
        for text, one, vector in zip(texts, tokens, found, strict=True):
            facts = {"file": file, "series": text.name, "tokens": len(one), "truncated": one.is_truncated}
            rows.append(facts | {"embedding": [float(x) for x in vector]})
        if message := truncation(tokens, tokenizer.max_tokens):
            note(f"{file}: {message}")
    _write(rows, form, output)


def _write(rows: list[dict[str, Any]], form: str, output: Path | None) -> None:
    names = ["file", "series", "tokens", "truncated"]
    if form == "table" and output is None:
        size = len(rows[0]["embedding"])
        more = ["", "..."][size > _SHOWN]
        body = [
            [*(_cell(r[n]) for n in names), *(f"{x:.4f}" for x in r["embedding"][:_SHOWN]), more]
            for r in rows
        ]
        print_table([*names, *(f"e{i}" for i in range(min(size, _SHOWN))), f"of {size}"], body)
        return
    text = _csv(rows, names)
    if form == "json":
        text = json.dumps({"schema": "edgesparse.run/1", "predictions": rows}) + "\n"
    if output is None:
        print(text, end="")
        return
    write_output(output, text)
    note(f"{len(rows)} embeddings in {output}")


def _csv(rows: list[dict[str, Any]], names: list[str]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*names, *(f"e{i}" for i in range(len(rows[0]["embedding"])))])
    for row in rows:
        writer.writerow(escape_csv_row([*(_cell(row[n]) for n in names), *row["embedding"]]))
    return stream.getvalue()


def _cell(value: object) -> object:
    """Truth values as JSON writes them."""
    return str(value).lower() if isinstance(value, bool) else value
