"""All ranks with all ranks: who holds what of whose part. Dense, so for thousands of ranks."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layouts import overlay
from layouts.cuts import Int64, Whole
from layouts.distribution import Distribution
from layouts.incoming import copy_coordinate

__all__ = ["check_room", "held", "keep_what_is_read"]


def held(source: Distribution, target: Distribution) -> Int64:
    """Elements that each source rank holds of each target rank's part.

    Returns
    -------
    int64 array, shape (source.size, target.size)
        Of a replicated source, what each of the copies could give.
    """
    result = np.ones((1, 1), np.int64)
    for one, other in zip(source.cuts, target.cuts, strict=True):
        result = np.kron(result, overlay.shared(one, other))
    return result


def keep_what_is_read(matrix: NDArray[Any], source: Distribution, places: Int64) -> None:
    """Set to 0, in place, what a replicated source's other copies could give but do not.

    Parameters
    ----------
    matrix : array, shape (source.size, len(places))
        A row for each source rank, a column for each rank that reads.
    source : Distribution
    places : int64 array
        Where the readers live: which copy is theirs to read follows from that.
    """
    for axis, cut in enumerate(source.cuts):
        if isinstance(cut, Whole) and cut.ranks > 1:
            mine = np.unravel_index(np.arange(source.size), source.grid)[axis]
            matrix *= mine[:, np.newaxis] == copy_coordinate(source, axis, places)


def check_room(what: str, rows: int, columns: int, arrays: int, instead: str) -> None:
    """Refuse dense work on rows x columns ranks that this machine's memory is too small for.

    Parameters
    ----------
    what : str
        The argument or method concerned.
    rows, columns : int
        Ranks.
    arrays : int
        How many arrays of so many 8-byte numbers are needed at once.
    instead : str
        What the error advises.

    Raises
    ------
    MemoryError
        If they need more than half of the machine's memory.
    """
    need, have = arrays * 8 * rows * columns, _physical_memory() // 2
    if need > have:
        raise MemoryError(
            f"{what}: {rows} x {columns} ranks need {need} bytes, expected at most {have};"
            f" {instead}"
        )


def _physical_memory() -> int:
    """Bytes of memory in this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
