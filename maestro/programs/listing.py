"""What is in a pool, as rows and in words."""

from __future__ import annotations

from typing import Any

from maestro.errors import MaestroError
from maestro.pool import Entry, Pool

__all__ = ["COLUMNS", "DETAILS", "NothingError", "row", "select"]

#: What people want to know of a CDO, and what programs may.
COLUMNS = ("name", "shape", "dtype", "bytes", "ranks", "offered by")
DETAILS = (*COLUMNS, "version", "distribution", "nodes", "attributes")


class NothingError(MaestroError, LookupError):
    """There is nothing of what was asked for."""


def select(pool: Pool, selector: str | None) -> list[Entry]:
    """The entries that a selector selects, all by default.

    Raises
    ------
    NothingError
        If a selector selects none.
    SelectorError
        If it can't be read.
    """
    found = pool.select(selector)
    if selector is not None and not found:
        raise NothingError(f"selector: {selector} matches none of {len(pool)} CDOs in the pool")
    return found


def row(entry: Entry) -> dict[str, Any]:
    """A CDO's values by `DETAILS`."""
    layout = entry.distribution
    return {
        "name": entry.name,
        "shape": None if layout is None else list(layout.shape),
        "dtype": None if entry.dtype is None else str(entry.dtype),
        "bytes": entry.nbytes,
        "ranks": None if layout is None else layout.size,
        "offered by": ", ".join(entry.apps),
        "version": entry.version,
        "distribution": None if layout is None else layout.to_dict(),
        "nodes": entry.nodes,
        "attributes": entry.attributes,
    }
