"""What the demo shows in the terminal: bars while it works, tables before and after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

console = Console(highlight=False, soft_wrap=True)


class Bars:
    """A line with a bar for each program; where output is no terminal, a plain line per step."""

    def __init__(self) -> None:
        self._live = Progress(
            TextColumn("{task.fields[name]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def add(self, name: str, steps: int) -> None:
        """A program has been started, and will say so many things."""
        self._tasks[name] = self._live.add_task("is starting", total=steps, name=name)

    def step(self, name: str, state: str) -> None:
        """A program is one step further."""
        self._live.update(self._tasks[name], advance=1, description=state)
        if self._live.disable:
            console.print(f"{name} {state}")

    def __enter__(self) -> Bars:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()


def matrix_table(matrix: NDArray[np.int64]) -> Table:
    """Bytes from each producer to each consumer, with sums."""
    rows, columns = matrix.shape
    table = _table("The plan: bytes from each producer to each consumer", [""])
    for name in [f"consumer-{column}" for column in range(columns)] + ["sum"]:
        table.add_column(name, justify="right")
    for row in range(rows):
        table.add_row(f"producer-{row}", *_numbers([*matrix[row], matrix[row].sum()]))
    table.add_section()
    table.add_row("sum", *_numbers([*matrix.sum(axis=0), matrix.sum()]))
    return table


def transfer_table(transfers: Sequence[dict[str, Any]]) -> Table:
    """What the consumers' reports say: one row for each pair of source and target rank."""
    table = _table("What moved", ["from", "to"])
    for name in ("bytes", "ms"):
        table.add_column(name, justify="right")
    table.add_column("by way of")
    table.add_column("held by")
    for t in sorted(transfers, key=lambda t: (t["source"], t["target"])):
        table.add_row(
            f"producer-{t['source']}",
            f"consumer-{t['target']}",
            *_numbers([t["bytes"]]),
            f"{t['seconds'] * 1e3:.1f}",
            t["transport"],
            _short(t["node"]),
        )
    nodes = len({_short(t["node"]) for t in transfers})
    table.add_section()
    total = _numbers([sum(t["bytes"] for t in transfers)])
    table.add_row("sum", "", *total, "", "", f"{nodes} node{'' if nodes == 1 else 's'}")
    return table


def _short(node: str) -> str:
    """A node's address, or "a store" for wherever a part lies in one."""
    return node.removeprefix("tcp://") if node.startswith("tcp://") else "a store"


def _table(title: str, names: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _numbers(values: Iterable[int]) -> list[str]:
    return [f"{value:,}" for value in values]
