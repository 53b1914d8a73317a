"""What is in the pool: a snapshot to look at, in a terminal or a notebook."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layouts import Distribution
from maestro.attributes import plain
from maestro.rows import as_table
from maestro.schemas.core import core_attributes
from maestro.selectors import Selector
from maestro.spelling import dtype_from_wire, layout_from_wire

__all__ = ["Entry", "Pool"]


@dataclass(frozen=True)
class Entry:
    """One CDO that is in the pool.

    Attributes
    ----------
    name : str
        Its name.
    version : int
        Serial number of this offering.
    distribution : Distribution or None
        How it was offered; None for a CDO without data.
    dtype : numpy.dtype or None
        Type of its elements.
    attributes : dict
        What its producers have set.
    apps : list of str
        The apps that offered it.
    nodes : list of str
        Addresses of the nodes that hold its parts, by rank.
    """

    name: str
    version: int
    distribution: Distribution | None
    dtype: np.dtype[Any] | None
    attributes: dict[str, Any]
    apps: list[str]
    nodes: list[str]

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Global shape."""
        return None if self.distribution is None else self.distribution.shape

    @property
    def selectable(self) -> dict[str, Any]:
        """What selectors see: the attributes, and those that maestro itself sets."""
        core = core_attributes(self.name, self.distribution, self.dtype)
        return {**self.attributes, **core}

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array, copies not counted."""
        if self.shape is None or self.dtype is None:
            return 0
        return math.prod(self.shape) * self.dtype.itemsize


class Pool(Mapping[str, Entry]):
    """A snapshot of all CDOs offered and not yet withdrawn, by name."""

    def __init__(self, listing: Mapping[str, Any]) -> None:
        self._entries = {words["name"]: _entry(words) for words in listing["cdos"]}
        self.nodes: Mapping[str, Mapping[str, int]] = listing["nodes"]
        self.traffic: Sequence[Mapping[str, Any]] = listing.get("traffic", ())

    def select(self, selector: str | None = None) -> list[Entry]:
        """The entries that a selector selects, as `maestro.selectors.Selector` reads it.

        Raises
        ------
        SelectorError
            If it can't be read; the text shows where.

        Examples
        --------
        >>> import maestro
        >>> with maestro.connect() as app:
        ...     for step in (0, 6, 12):
        ...         _ = app.offer(f"t2m+{step}", [280.0], attributes={"step": step})
        ...     [entry.name for entry in app.pool.select("(step > 0)")]
        ['t2m+6', 't2m+12']
        """
        matches = Selector(selector).matches
        return [entry for entry in self._entries.values() if matches(entry.selectable)]

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        head, *body = self._rows()
        return as_table(body, head)

    def _repr_html_(self) -> str:
        head, *body = self._rows()

        def row(cells: tuple[str, ...], tag: str) -> str:
            return f"<tr>{''.join(f'<{tag}>{html.escape(c)}</{tag}>' for c in cells)}</tr>"

        rows = "".join(row(cells, "td") for cells in body)
        return f"<table><thead>{row(head, 'th')}</thead><tbody>{rows}</tbody></table>"

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("name", "shape", "dtype", "bytes", "ranks", "offered by")]
        for entry in self._entries.values():
            rows.append(
                (
                    entry.name,
                    "no data" if entry.shape is None else str(entry.shape),
                    "" if entry.dtype is None else str(entry.dtype),
                    f"{entry.nbytes:,}",
                    "" if entry.distribution is None else str(entry.distribution.size),
                    ", ".join(entry.apps),
                )
            )
        return rows


def _entry(words: Mapping[str, Any]) -> Entry:
    layout, dtype = words["distribution"], words["dtype"]
    return Entry(
        words["name"],
        words["version"],
        None if layout is None else layout_from_wire(layout),
        None if dtype is None else dtype_from_wire(dtype),
        plain(words["attributes"]),
        list(words["apps"]),
        list(words["nodes"]),
    )
