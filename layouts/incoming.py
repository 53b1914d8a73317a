"""One target rank's share of a plan: from whom, how much, and which pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from kernels import Pieces
from layouts import overlay
from layouts.cuts import Int64, Whole
from layouts.distribution import Distribution
from layouts.numbers import as_count, as_rank

__all__ = ["Incoming", "copy_coordinate", "share"]

#: Shares that are kept with what was found of them. That is the pieces of one period: little beside
#: the parts, and it takes longer to find than a few MiB take to move.
KEPT = 32


def copy_coordinate(source: Distribution, axis: int, places: Int64) -> Int64:
    """Which of the copies along a replicated source axis is read at each place.

    The nearest: the one in the grid slice of the source rank that lives there, so that a place
    that holds a copy reads its own. Places beyond the source's go round, to spread the load.
    """
    stand_ins = np.asarray(places) % source.size
    return np.asarray(np.unravel_index(stand_ins, source.grid)[axis], np.int64)


@dataclass(frozen=True)
class Incoming:
    """What target rank ``rank``, living at place ``place``, gets from which source ranks.

    Examples
    --------
    >>> from layouts import Block, BlockCyclic, Distribution, plan
    >>> source = Distribution((12,), grid=(3,), axes=(BlockCyclic(2),))
    >>> share = plan(source, Distribution((12,), grid=(3,))).incoming(0)
    >>> share.sources, share.elements
    (array([0, 1]), array([2, 2]))
    >>> share.pieces(1)[0].expand()
    (array([0]), array([2]), array([2]))
    """

    source: Distribution
    target: Distribution
    rank: int
    place: int
    whole: Distribution | None = None  # ... of which `source` is a section, from `start` on
    start: tuple[int, ...] = ()

    @cached_property
    def coordinates(self) -> tuple[int, ...]:
        """Grid coordinates of the target rank."""
        return self.target.coordinates(self.rank)

    @cached_property
    def senders(self) -> tuple[tuple[Int64, Int64], ...]:
        """Per axis, the source coordinates that send anything and how many indices each."""
        result = []
        pairs = zip(self.source.cuts, self.target.cuts, self.coordinates, strict=True)
        for axis, (source, target, coordinate) in enumerate(pairs):
            counts = overlay.senders(source, target, coordinate)
            if isinstance(source, Whole):
                copy = copy_coordinate(self.source, axis, np.array([self.place]))
                found = copy[counts[copy] > 0]
            else:
                found = np.flatnonzero(counts)
            held = counts[found]
            found.flags.writeable = held.flags.writeable = False  # many may be given this share
            result.append((found, held))
        return tuple(result)

    def __len__(self) -> int:
        """Number of source ranks that send anything, the one at the same place included."""
        return math.prod(len(found) for found, _ in self.senders)

    def __iter__(self) -> Iterator[tuple[int, tuple[Pieces, ...]]]:
        """Source ranks, rising, each with its pieces per axis."""
        for source in self.sources:
            yield int(source), self.pieces(int(source))

    @property
    def sources(self) -> Int64:
        """Source ranks that send anything, rising."""
        ranks = np.zeros(1, np.int64)
        for (found, _), p in zip(self.senders, self.source.grid, strict=True):
            ranks = (ranks[:, np.newaxis] * p + found).ravel()
        return ranks

    @property
    def elements(self) -> Int64:
        """How many elements each of `sources` sends."""
        result = np.ones(1, np.int64)
        for _, counts in self.senders:
            result = np.multiply.outer(result, counts).ravel()
        return result

    @property
    def size(self) -> int:
        """Elements in all: those of the rank's part."""
        return math.prod(self.target.local_shape(self.rank))

    def bytes(self, itemsize: int) -> Int64:
        """How many bytes each of `sources` sends, with ``itemsize`` bytes per element."""
        return self.elements * as_count(itemsize, "itemsize")

    def pieces(self, source: int) -> tuple[Pieces, ...]:
        """The pieces from one source rank, one `Pieces` per axis, as `kernels.move` takes them.

        Offsets are those in the whole part of the source rank, also where only a region is read.

        Raises
        ------
        IndexError
            If there is no such source rank.
        """
        theirs = self.source.coordinates(as_rank(source, self.source.size, "source"))
        return tuple(self._between(axis, coordinate) for axis, coordinate in enumerate(theirs))

    def _between(self, axis: int, coordinate: int) -> Pieces:
        """The pieces along one axis; many source ranks share each."""
        pieces = self._found.get((axis, coordinate))
        if pieces is None:
            cuts = self.source.cuts[axis], self.target.cuts[axis]
            pieces = overlay.between(*cuts, coordinate, self.coordinates[axis])
            if self.whole is not None:
                start, place = (np.array(i, np.int64) for i in (self.start[axis], coordinate))
                before = self.whole.cuts[axis].count_below(start, place)
                pieces = replace(pieces, source=pieces.source + before)
            self._found[axis, coordinate] = pieces
        return pieces

    @cached_property
    def _found(self) -> dict[tuple[int, int], Pieces]:
        return {}


@lru_cache(maxsize=KEPT)
def share(
    source: Distribution,
    target: Distribution,
    rank: int,
    place: int,
    whole: Distribution | None = None,
    start: tuple[int, ...] = (),
) -> Incoming:
    """The same `Incoming` as long as it is among those asked for last: programs go by steps."""
    return Incoming(source, target, rank, place, whole, start)
