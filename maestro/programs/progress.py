"""Bars for long work, on a terminal: how many bytes of how many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

__all__ = ["bar", "shown"]

#: Seconds between looks.
LOOK = 0.1


@contextmanager
def bar(text: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on standard error, if that is a terminal.

    Yields
    ------
    callable
        To be told of bytes done, bytes in all, and what there is to say.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, total, said: progress.update(
            task, completed=done, total=total or None, description=said
        )


async def shown(text: str, look: Callable[[], tuple[int, int, str]]) -> None:
    """Show a bar, looking again and again, until cancelled."""
    with bar(text) as tell:
        try:
            while True:
                tell(*look())
                await asyncio.sleep(LOOK)
        finally:
            tell(*look())
