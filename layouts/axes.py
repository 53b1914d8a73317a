"""The ways of cutting one axis over the ranks of one grid axis, as users write them.

============================  ==================================================================
kind                          coordinate ``r`` of ``p`` holds, of ``n`` indices
============================  ==================================================================
``Block()``                   ``[r*b, (r+1)*b)`` with ``b = ceil(n/p)``; the last short or empty
``BlockCyclic(size)``         blocks ``r, r+p, r+2p, ...`` of ``size`` indices each
``Cyclic()``                  every ``p``-th index from ``r``: ``BlockCyclic(1)``
``Irregular(bounds)``         ``[bounds[r], bounds[r+1])``; equal bounds make an empty part
``Replicated()``              all ``n`` indices: each coordinate has a copy
``Section(kind, start, m)``   of those that ``kind`` gives it of ``m``, ``[start, start + n)``
============================  ==================================================================

Each kind is a value that knows neither the extent nor the number of ranks; `Kind.cut` brings the
three together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from layouts.cuts import Bounds, Cut, RoundRobin, Whole, Window
from layouts.numbers import as_count, as_index

__all__ = [
    "Block",
    "BlockCyclic",
    "Cyclic",
    "Irregular",
    "Kind",
    "Replicated",
    "Section",
    "from_plain",
    "to_plain",
]


class Kind(ABC):
    """One way of cutting an axis; see the module's table."""

    @abstractmethod
    def cut(self, extent: int, ranks: int) -> Cut:
        """Cut ``extent`` indices over ``ranks`` coordinates.

        Raises
        ------
        ValueError
            If this kind cannot cut that many indices over that many coordinates.
        """


@dataclass(frozen=True)
class Block(Kind):
    """One block of ``ceil(n/p)`` indices each, as in HPF and MPI; the last short or empty.

    Examples
    --------
    >>> [Block().cut(10, 4).count(r) for r in range(4)]
    [3, 3, 3, 1]
    """

    def cut(self, extent: int, ranks: int) -> Cut:
        return RoundRobin(extent, ranks, -(-extent // ranks))


@dataclass(frozen=True, repr=False)
class BlockCyclic(Kind):
    """Blocks of ``size`` indices dealt to the coordinates in turn, as in ScaLAPACK.

    Parameters
    ----------
    size : int
        Indices in a block, at least 1.

    Examples
    --------
    >>> [BlockCyclic(2).cut(10, 3).count(r) for r in range(3)]
    [4, 4, 2]
    """

    size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", as_count(self.size, "BlockCyclic size"))

    def __repr__(self) -> str:
        return f"BlockCyclic({self.size})"

    def cut(self, extent: int, ranks: int) -> Cut:
        return RoundRobin(extent, ranks, self.size)


@dataclass(frozen=True, repr=False)
class Cyclic(BlockCyclic):
    """Single indices dealt to the coordinates in turn; equal to ``BlockCyclic(1)``."""

    size: int = field(default=1, init=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockCyclic) and other.size == 1

    def __hash__(self) -> int:
        return hash(BlockCyclic(1))

    def __repr__(self) -> str:
        return "Cyclic()"


@dataclass(frozen=True, repr=False)
class Irregular(Kind):
    """Parts between given cut points.

    Parameters
    ----------
    bounds : iterable of int
        The ``p + 1`` cut points, from 0 to the axis' extent, never falling.

    Examples
    --------
    >>> [Irregular([0, 7, 7, 10]).cut(10, 3).count(r) for r in range(3)]
    [7, 0, 3]
    """

    bounds: tuple[int, ...]

    def __init__(self, bounds: Iterable[int]) -> None:
        points = tuple(as_index(b, "Irregular bound") for b in bounds)
        if len(points) < 2:
            raise ValueError(f"Irregular bounds: got {points}, expected at least 2 cut points")
        if points[0] != 0:
            raise ValueError(f"Irregular bounds: the first is {points[0]}, expected 0")
        for position, (low, high) in enumerate(pairwise(points)):
            if high < low:
                raise ValueError(
                    f"Irregular bounds: {low} is followed by {high} at position {position + 1},"
                    " expected bounds that never fall"
                )
        object.__setattr__(self, "bounds", points)

    def __repr__(self) -> str:
        if len(self.bounds) <= 6:
            return f"Irregular({list(self.bounds)})"
        first, last = ", ".join(map(str, self.bounds[:3])), self.bounds[-1]
        return f"Irregular([{first}, ..., {last}])"

    def cut(self, extent: int, ranks: int) -> Cut:
        if len(self.bounds) != ranks + 1:
            raise ValueError(
                f"Irregular bounds: got {len(self.bounds)} cut points, expected {ranks + 1}"
                f" for {ranks} ranks along the axis"
            )
        if self.bounds[-1] != extent:
            raise ValueError(
                f"Irregular bounds: the last is {self.bounds[-1]}, expected the extent {extent}"
            )
        return Bounds(extent, ranks, self.bounds)


@dataclass(frozen=True)
class Replicated(Kind):
    """A whole copy of the axis for each coordinate.

    Examples
    --------
    >>> [Replicated().cut(10, 3).count(r) for r in range(3)]
    [10, 10, 10]
    """

    def cut(self, extent: int, ranks: int) -> Cut:
        return Whole(extent, ranks)


@dataclass(frozen=True, repr=False)
class Section(Kind):
    """The indices from ``start`` on of a longer axis, held where that axis' own kind puts them.

    Parameters
    ----------
    kind : Kind
        How the whole axis is cut.
    start : int
        Index on the whole axis that is index 0 here.
    whole : int
        Extent of the whole axis.

    Examples
    --------
    >>> [Section(Block(), 5, 12).cut(4, 3).indices(r).tolist() for r in range(3)]
    [[], [0, 1, 2], [3]]
    """

    kind: Kind
    start: int
    whole: int

    def __post_init__(self) -> None:
        if not isinstance(self.kind, Kind):
            raise TypeError(f"Section kind: got {self.kind!r}, expected a kind such as Block()")
        for name in ("start", "whole"):
            object.__setattr__(self, name, as_index(getattr(self, name), f"Section {name}"))

    def __repr__(self) -> str:
        return f"Section({self.kind!r}, {self.start}, {self.whole})"

    def cut(self, extent: int, ranks: int) -> Cut:
        if self.start + extent > self.whole:
            raise ValueError(
                f"Section: {extent} indices from {self.start} on, expected them to end within the"
                f" whole axis of {self.whole}"
            )
        whole = self.kind.cut(self.whole, ranks)
        if isinstance(whole, Whole):
            return Whole(extent, ranks)
        return Window(extent, ranks, whole, self.start)


def to_plain(kind: Kind) -> list[Any]:
    """A kind as its name and its argument, if any: what every message format can carry.

    Examples
    --------
    >>> to_plain(BlockCyclic(64)), from_plain(["BlockCyclic", 64])
    (['BlockCyclic', 64], BlockCyclic(64))
    """
    match kind:
        case BlockCyclic(size=size):
            return ["BlockCyclic", size]
        case Irregular(bounds=bounds):
            return ["Irregular", list(bounds)]
        case Section(kind=inner, start=start, whole=whole):
            return ["Section", to_plain(inner), start, whole]
    return [type(kind).__name__]


def from_plain(words: Sequence[Any]) -> Kind:
    """The kind of `to_plain`'s words.

    Raises
    ------
    ValueError
        If they name no kind.
    """
    kinds: dict[str, Callable[..., Kind]] = {
        kind.__name__: kind for kind in (Block, BlockCyclic, Irregular, Replicated)
    }
    name, *arguments = words
    if name == "Section":
        inner, start, whole = arguments
        return Section(from_plain(inner), start, whole)
    if name not in kinds:
        raise ValueError(f"axes: got {name!r}, expected one of {', '.join(kinds)}, Section")
    return kinds[name](*arguments)
