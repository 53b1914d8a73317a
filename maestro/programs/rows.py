"""Rows of values on standard output: a table for people, CSV or JSON lines for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maestro.attributes import plain

__all__ = ["Csv", "JsonLines", "Writer", "cell", "show", "table"]

Row = Mapping[str, Any]


class Writer:
    """Writes rows to a file, as they come.

    Parameters
    ----------
    file : text file
    columns : sequence of str
        Which of a row's values are written, in this order.
    """

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        self.file = file
        self.columns = columns

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows, and let whoever reads see them."""
        raise NotImplementedError


class Csv(Writer):
    """A line of names, then a line for each row; what is no number or string stands as JSON."""

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        super().__init__(file, columns)
        self._csv = csv.writer(file, lineterminator="\n")
        self._csv.writerow(columns)

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows, and let whoever reads see them."""
        for row in rows:
            self._csv.writerow([cell(row[column]) for column in self.columns])
        self.file.flush()


class JsonLines(Writer):
    """A JSON object on a line of its own for each row."""

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows, and let whoever reads see them."""
        for row in rows:
            words = {column: row[column] for column in self.columns}
            self.file.write(f"{json.dumps(words, default=_as_json)}\n")
        self.file.flush()


def show(rows: Iterable[Row], columns: Sequence[str], form: str, file: IO[str]) -> None:
    """Write all rows, as a "table", "csv" or "json"; what is "auto" suits who reads it."""
    rows = list(rows)
    if form == "table" or (form == "auto" and file.isatty()):
        shown = table(columns)
        for row in rows:
            shown.add_row(*(Text(cell(row[column])) for column in columns))
        Console(file=file, soft_wrap=not file.isatty()).print(shown)
    else:
        kind = JsonLines if form == "json" else Csv
        kind(file, columns).write(rows)


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


def _as_json(value: Any) -> Any:
    """What JSON has no word for."""
    return value.decode(errors="replace") if isinstance(value, bytes) else plain(value)
