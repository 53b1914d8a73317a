"""What is in a pool, as rows and in words."""

from __future__ import annotations

import difflib
import json
from typing import Any

from layouts.notation import to_text
from maestro.errors import MaestroError
from maestro.pool import Entry, Pool

__all__ = ["COLUMNS", "DETAILS", "NothingError", "described", "find", "row", "select"]

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


def find(pool: Pool, name: str) -> Entry:
    """The entry of a name.

    Raises
    ------
    NothingError
        If there is none, naming those that are nearly called so.
    """
    if name in pool:
        return pool[name]
    near = difflib.get_close_matches(name, pool)
    like = f"; there is {' and '.join(map(repr, near))}" if near else ""
    raise NothingError(f"name: {name!r} is none of {len(pool)} CDOs in the pool{like}")


def described(entry: Entry) -> str:
    """All there is to know of a CDO, line by line."""
    layout = entry.distribution
    lines = [("name", entry.name), ("version", str(entry.version))]
    lines.append(("offered by", ", ".join(entry.apps)))
    if layout is None:
        lines.append(("data", "none"))
    else:
        lines += [
            ("dtype", str(entry.dtype)),
            ("shape", " x ".join(map(str, layout.shape)) or "scalar"),
            ("bytes", f"{entry.nbytes:,}"),
            ("distribution", str(layout)),
            ("in one word", to_text(layout)),
        ]
    lines += [(f"rank {rank}", f"at {node}") for rank, node in enumerate(entry.nodes)]
    lines += [(key, json.dumps(entry.attributes[key])) for key in sorted(entry.attributes)]
    width = max(len(key) for key, _ in lines)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in lines)


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
