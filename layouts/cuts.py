"""A kind brought together with an extent and a number of ranks: who owns which index of one axis.

A cut answers in closed form, for scalars and for int64 arrays alike, how many indices below ``i``
a coordinate holds. Everything else follows: the offset of a global index in its owner's part is
the number of indices below it that the owner holds, and the length of a part is that number at the
extent.

::

    RoundRobin(extent=12, ranks=2, block=2)     index   0 1 2 3 4 5 6 7 8 9 10 11
                                                owner   0 0 1 1 0 0 1 1 0 0  1  1
                                                offset  0 1 0 1 2 3 2 3 4 5  4  5
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bounds", "Cut", "Int64", "RoundRobin", "Whole", "Window"]

Int64: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Cut(ABC):
    """One axis of ``extent`` indices over ``ranks`` coordinates."""

    extent: int
    ranks: int

    #: Indices after which the pattern of owners repeats (at least ``extent`` where it never does).
    @property
    @abstractmethod
    def period(self) -> int: ...

    @abstractmethod
    def count_below(self, index: Int64, coordinate: Int64) -> Int64:
        """How many indices less than ``index`` each coordinate holds; the arguments broadcast."""

    @abstractmethod
    def span(self, coordinate: int) -> tuple[int, int] | None:
        """The one interval ``[low, high)`` that the coordinate holds; None if it holds several."""

    @abstractmethod
    def block_at(self, index: Int64) -> Int64:
        """The number of the block that holds each index; blocks are numbered from 0, rising."""

    @abstractmethod
    def edge(self, block: Int64) -> Int64:
        """The first index of each block; one past the last block, its end or more."""

    def blocks(self, stop: int) -> int:
        """How many blocks begin below ``stop``, which is at most the extent."""
        return int(self.block_at(np.array(stop - 1, np.int64))) + 1 if stop > 0 else 0

    @abstractmethod
    def owner(self, index: Int64) -> Int64:
        """The coordinate that holds each index (0 where all of them do)."""

    @abstractmethod
    def runs(self, coordinate: int, low: int, high: int) -> tuple[Int64, Int64]:
        """Starts and stops of what the coordinate holds in ``[low, high)``, in rising order."""

    def count(self, coordinate: int) -> int:
        """How many indices the coordinate holds: the length of its part along this axis."""
        return int(self.counts[coordinate])

    @cached_property
    def counts(self) -> Int64:
        """How many indices each coordinate holds, shape ``(ranks,)``."""
        everyone = np.arange(self.ranks, dtype=np.int64)
        return self.count_below(np.array(self.extent, np.int64), everyone)

    def indices(self, coordinate: int) -> Int64:
        """All global indices that the coordinate holds, in the order of its part."""
        starts, stops = self.runs(coordinate, 0, self.extent)
        lengths = stops - starts
        before = np.cumsum(lengths) - lengths
        held: Int64 = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
        return held


@dataclass(frozen=True)
class RoundRobin(Cut):
    """Blocks of ``block`` indices dealt in turn (block, block-cyclic and cyclic kinds).

    The block is never longer than the axis, and one coordinate alone has one block: so every block
    boundary is a change of owner.
    """

    block: int

    def __post_init__(self) -> None:
        block = self.extent if self.ranks == 1 else min(self.block, self.extent)
        object.__setattr__(self, "block", max(block, 1))

    @property
    def period(self) -> int:
        return self.block * self.ranks

    def count_below(self, index: Int64, coordinate: Int64) -> Int64:
        # Coordinates past the last block hold nothing; clipping them there keeps int64 in range.
        first = np.minimum(coordinate, -(-self.extent // self.block)) * self.block
        if self.period >= self.extent:
            return np.asarray(np.clip(index - first, 0, self.block), np.int64)
        rounds, rest = np.divmod(index, self.period)
        return np.asarray(rounds * self.block + np.clip(rest - first, 0, self.block), np.int64)

    def span(self, coordinate: int) -> tuple[int, int] | None:
        low = min(coordinate * self.block, self.extent)
        if low + self.period < self.extent:
            return None
        return low, min(low + self.block, self.extent)

    def block_at(self, index: Int64) -> Int64:
        return np.asarray(index // self.block, np.int64)

    def edge(self, block: Int64) -> Int64:
        return np.asarray(block * self.block, np.int64)

    def owner(self, index: Int64) -> Int64:
        return np.asarray(index // self.block % self.ranks, np.int64)

    def runs(self, coordinate: int, low: int, high: int) -> tuple[Int64, Int64]:
        first = coordinate * self.block
        begin = max(0, (low - first - self.block) // self.period + 1)
        end = max(begin, -(-(min(high, self.extent) - first) // self.period))
        starts = first + np.arange(begin, end, dtype=np.int64) * self.period
        return np.maximum(starts, low), np.minimum(starts + self.block, min(high, self.extent))


@dataclass(frozen=True)
class Bounds(Cut):
    """One interval per coordinate, between given cut points (the irregular kind)."""

    bounds: tuple[int, ...]

    @cached_property
    def points(self) -> Int64:
        return np.array(self.bounds, np.int64)

    @property
    def period(self) -> int:
        return max(self.extent, 1)

    def count_below(self, index: Int64, coordinate: Int64) -> Int64:
        low, high = self.points[coordinate], self.points[np.asarray(coordinate) + 1]
        return np.asarray(np.clip(index - low, 0, high - low), np.int64)

    def span(self, coordinate: int) -> tuple[int, int]:
        return self.bounds[coordinate], self.bounds[coordinate + 1]

    def block_at(self, index: Int64) -> Int64:
        # From the right, so that of equal bounds (empty parts) the last one wins.
        return np.asarray(np.searchsorted(self.points, index, side="right") - 1, np.int64)

    def edge(self, block: Int64) -> Int64:
        return self.points[block]

    def owner(self, index: Int64) -> Int64:
        return self.block_at(index)

    def runs(self, coordinate: int, low: int, high: int) -> tuple[Int64, Int64]:
        return _clipped(*self.span(coordinate), low, high)


@dataclass(frozen=True)
class Whole(Cut):
    """Every coordinate holds all indices (the replicated kind)."""

    @property
    def period(self) -> int:
        return max(self.extent, 1)

    def count_below(self, index: Int64, coordinate: Int64) -> Int64:
        return np.asarray(np.clip(index, 0, self.extent) + 0 * np.asarray(coordinate), np.int64)

    def span(self, coordinate: int) -> tuple[int, int]:
        return 0, self.extent

    def block_at(self, index: Int64) -> Int64:
        return np.zeros_like(index)

    def edge(self, block: Int64) -> Int64:
        return np.asarray(block * self.extent, np.int64)

    def owner(self, index: Int64) -> Int64:
        return np.zeros_like(index)

    def runs(self, coordinate: int, low: int, high: int) -> tuple[Int64, Int64]:
        return _clipped(0, self.extent, low, high)


@dataclass(frozen=True)
class Window(Cut):
    """The indices ``[low, low + extent)`` of another cut, numbered from 0 (the section kind).

    What repeats there repeats here. A window of a `Whole` is a `Whole`, not one of these.
    """

    inner: Cut
    low: int

    @property
    def period(self) -> int:
        return self.inner.period

    def count_below(self, index: Int64, coordinate: Int64) -> Int64:
        before = self.inner.count_below(np.array(self.low, np.int64), coordinate)
        return self.inner.count_below(np.asarray(index) + self.low, coordinate) - before

    def span(self, coordinate: int) -> tuple[int, int] | None:
        whole = self.inner.span(coordinate)
        if whole is None:
            return None
        low, high = (min(max(edge - self.low, 0), self.extent) for edge in whole)
        return low, high

    def block_at(self, index: Int64) -> Int64:
        first = self.inner.block_at(np.array(self.low, np.int64))
        return np.asarray(self.inner.block_at(index + self.low) - first, np.int64)

    def edge(self, block: Int64) -> Int64:
        first = self.inner.block_at(np.array(self.low, np.int64))
        return np.maximum(self.inner.edge(block + first) - self.low, 0)

    def owner(self, index: Int64) -> Int64:
        return self.inner.owner(np.asarray(index) + self.low)

    def runs(self, coordinate: int, low: int, high: int) -> tuple[Int64, Int64]:
        high = min(high, self.extent)
        if low >= high:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        starts, stops = self.inner.runs(coordinate, low + self.low, high + self.low)
        return starts - self.low, stops - self.low


def _clipped(first: int, last: int, low: int, high: int) -> tuple[Int64, Int64]:
    start, stop = max(first, low), min(last, high)
    if start >= stop:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.array([start], np.int64), np.array([stop], np.int64)
