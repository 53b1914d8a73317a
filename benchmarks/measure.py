"""Timing for the benchmarks: medians and spreads, the machine they hold for, and tables.

Text only, without a library: what is printed is to be pasted into mails and commit messages, and
to come out the same in a terminal, a pipe and a log.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from distributed.system import MEMORY_LIMIT
from psutil import virtual_memory

__all__ = ["Timing", "available_memory", "in_units", "machine", "table", "usable_cpus"]


@dataclass(frozen=True)
class Timing:
    """What one thing took, several times over.

    Attributes
    ----------
    seconds : tuple of float
        One for each run, in the order of the runs; at least one.

    Examples
    --------
    >>> print(Timing((0.012, 0.010, 0.020)))
    12.0 ms (10.0 - 20.0)
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle run, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> str:
        """Fastest and slowest run, in milliseconds."""
        return f"{_ms(min(self.seconds))} - {_ms(max(self.seconds))}"

    def __str__(self) -> str:
        return f"{_ms(self.median)} ms ({self.spread})"


def _ms(seconds: float) -> str:
    """Milliseconds with three digits that count."""
    ms = seconds * 1e3
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of a table: the first column to the left, the others to the right.

    Examples
    --------
    >>> print(table(["what", "ms"], [["copy", "12.0"], ["move", "9.50"]]))
    what    ms
    ----  ----
    copy  12.0
    move  9.50
    """
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def in_units(nbytes: float) -> str:
    """A number of bytes in binary units.

    Examples
    --------
    >>> in_units(512), in_units(3 << 19), in_units(1 << 29)
    ('512 B', '1.5 MiB', '512.0 MiB')
    """
    if nbytes < 1024:
        return f"{nbytes:.0f} B"
    power = min(int(math.log2(nbytes)) // 10, 3)
    return f"{nbytes / 1024**power:.1f} {' KMG'[power]}iB"


def machine(*distributions: str) -> str:
    """What figures of this run hold for: processor, cores, memory, load, versions.

    Parameters
    ----------
    *distributions : str
        Names of the installed distributions whose versions matter.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in distributions)
    load = os.getloadavg()[0]
    busy = "; BUSY: other work disturbs these figures" if load > 0.5 else ""
    return "\n".join(
        (
            f"machine   {_processor()}, {usable_cpus()} cores to use,"
            f" {in_units(available_memory())} of memory free",
            f"load      {load:.2f} in the last minute{busy}",
            f"versions  Python {platform.python_version()}, {versions}",
        )
    )


def available_memory() -> int:
    """Bytes that this process and its children can still take, control groups considered."""
    return min(virtual_memory().available, MEMORY_LIMIT)


def usable_cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
