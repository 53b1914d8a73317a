"""Rows of values in text: a table for people, CSV or JSON lines for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, TypeAlias

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maestro.attributes import plain

__all__ = ["Row", "as_csv", "as_json", "as_table", "cell", "console", "show", "shown_cell", "table"]

#: Values by column.
Row: TypeAlias = Mapping[str, Any]


def as_csv(rows: Iterable[Row], columns: Sequence[str], heading: bool = True) -> str:
    """Lines of values, after one of names; what is no number or string stands as JSON.

    Examples
    --------
    >>> print(as_csv([{"name": "t2m", "shape": [3, 4]}], ["name", "shape"]), end="")
    name,shape
    t2m,"[3, 4]"
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    if heading:
        lines.writerow(columns)
    lines.writerows([cell(row[column]) for column in columns] for row in rows)
    return text.getvalue().encode(errors="backslashreplace").decode()  # halves of surrogate pairs


def as_json(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """A JSON object on a line of its own for each row.

    Examples
    --------
    >>> print(as_json([{"name": "t2m", "shape": [3, 4]}], ["name", "shape"]), end="")
    {"name": "t2m", "shape": [3, 4]}
    """
    words = ({column: row[column] for column in columns} for row in rows)
    return "".join(f"{json.dumps(each, default=_as_json)}\n" for each in words)


def show(rows: Iterable[Row], columns: Sequence[str], form: str, file: IO[str]) -> None:
    """Write all rows, as a "table", "csv" or "json"; what is "auto" suits who reads it."""
    rows = list(rows)
    if form == "table" or (form == "auto" and file.isatty()):
        shown = table(columns)
        for row in rows:
            shown.add_row(*(shown_cell(row[column]) for column in columns))
        console(file).print(shown)
    else:
        file.write((as_json if form == "json" else as_csv)(rows, columns))


def as_table(rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> str:
    """A table as text, for an object that is printed."""
    text = io.StringIO()
    shown = table(columns)
    for row in rows:
        shown.add_row(*map(shown_cell, row))
    console(text).print(shown)
    return "\n".join(filter(None, map(str.rstrip, text.getvalue().splitlines())))


def console(file: IO[str]) -> Console:
    """Where tables are printed; elsewhere than on a terminal they are as wide as they like."""
    return Console(file=file, width=None if file.isatty() else 10_000, highlight=False)


def table(columns: Sequence[str], title: str | None = None) -> Table:
    """An empty table with a heading for each column."""
    return Table(*columns, title=title, box=box.SIMPLE_HEAD, pad_edge=False)


def cell(value: Any) -> str:
    """A value as one word."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=_as_json) if value else ""
    return str(value)


def shown_cell(value: Any) -> Text:
    """A value as one word on a terminal, which is not to obey what is in a name."""
    word = cell(value)
    if not word.isprintable():
        word = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in word)
    return Text(word)


def _as_json(value: Any) -> Any:
    """A value that JSON has no word for."""
    return value.decode(errors="replace") if isinstance(value, bytes) else plain(value)
