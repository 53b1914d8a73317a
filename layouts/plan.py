"""From one distribution to another: a value, computed without moving data.

What source rank ``s`` sends to target rank ``t`` is the Cartesian product, over the axes, of the
pieces between their grid coordinates. So a plan costs the sum over the axes, never the product,
and one rank's share of it is computed on its own (`Plan.incoming`)::

    axis 0 pieces (s0 -> t0)   x   axis 1 pieces (s1 -> t1)   =   one message s -> t

         #  #     ##                 ==  ==                        ==  ==      ==  ==
                                                                   ==  ==      ==  ==
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layouts import overlay
from layouts.cost import Cost
from layouts.cuts import Int64, Whole
from layouts.distribution import Distribution
from layouts.incoming import Incoming, copy_coordinate
from layouts.numbers import as_count, as_rank
from layouts.tiled import AnyArray, as_array, move

__all__ = ["Plan", "plan"]


def plan(source: Distribution, target: Distribution) -> Plan:
    """Plan the way from one distribution to another.

    Parameters
    ----------
    source, target : Distribution
        Of the same shape; grids, kinds, numbers of ranks and orders may all differ.

    Raises
    ------
    ValueError
        If the shapes differ.
    TypeError
        If one is no Distribution.

    Examples
    --------
    >>> from layouts import Block, BlockCyclic
    >>> source = Distribution((12,), grid=(2,), axes=(BlockCyclic(2),))
    >>> target = Distribution((12,), grid=(3,), axes=(Block(),))
    >>> plan(source, target).matrix(itemsize=8)
    array([[16, 16, 16],
           [16, 16, 16]])
    """
    return Plan(source, target)


@dataclass(frozen=True)
class Plan:
    """How to go from ``source`` to ``target``; made by `plan`."""

    source: Distribution
    target: Distribution

    def __post_init__(self) -> None:
        for name, given in (("source", self.source), ("target", self.target)):
            if not isinstance(given, Distribution):
                raise TypeError(f"{name}: got {given!r}, expected a Distribution")
        if self.source.shape != self.target.shape:
            raise ValueError(
                f"target: its shape is {self.target.shape}, expected the source's"
                f" {self.source.shape}"
            )

    def matrix(self, itemsize: int) -> Int64:
        """Bytes that each source rank gives to each target rank, its own share included.

        Parameters
        ----------
        itemsize : int
            Bytes per element.

        Returns
        -------
        int64 array, shape (source.size, target.size)

        Raises
        ------
        MemoryError
            If the matrix would need more than half of this machine's memory.
        """
        itemsize = as_count(itemsize, "itemsize")
        rows, columns = self.source.size, self.target.size
        need, have = 3 * 8 * rows * columns, _physical_memory() // 2
        if need > have:
            raise MemoryError(
                f"matrix: {rows} x {columns} ranks need {need} bytes, expected at most {have};"
                " incoming(rank) gives one rank's share alone"
            )
        result = np.full((1, 1), itemsize, np.int64)
        for source, target in zip(self.source.cuts, self.target.cuts, strict=True):
            result = np.kron(result, overlay.shared(source, target))
        for axis, cut in enumerate(self.source.cuts):
            if isinstance(cut, Whole) and cut.ranks > 1:
                held = np.unravel_index(np.arange(rows), self.source.grid)[axis]
                read = copy_coordinate(self.source, axis, np.arange(columns))
                result *= held[:, np.newaxis] == read
        return result

    def incoming(self, rank: int) -> Incoming:
        """What one target rank gets from whom; no other rank is looked at.

        Raises
        ------
        IndexError
            If there is no such rank.
        """
        return Incoming(self.source, self.target, as_rank(rank, self.target.size))

    def cost(self, itemsize: int = 8) -> Cost:
        """Bytes kept and moved, messages, largest message and memory, as numbers."""
        return Cost.of(self.source, self.target, itemsize)

    def explain(self, itemsize: int = 8) -> str:
        """The plan in words: what stays, what moves, in how many messages, and the memory needed.

        Parameters
        ----------
        itemsize : int
            Bytes per element.
        """
        return str(self.cost(itemsize))

    def execute(self, parts: Sequence[AnyArray], threads: int | None = None) -> list[Any]:
        """Carry the plan out for all ranks in this process.

        Parameters
        ----------
        parts : sequence of ndarray or TiledArray
            The source ranks' parts, in rank order: shaped as ``source.local_shape(rank)``, of one
            dtype; any strides, or tiles.
        threads : int, optional
            Threads to use; chosen by size by default.

        Returns
        -------
        list of ndarray, or of TiledArray where the target's order is `Tiled`
            The target ranks' parts, in rank order: new arrays in the target's order.

        Raises
        ------
        ValueError
            If the number of parts, a shape or a dtype is not what the source says.
        """
        parts = self._checked(parts)
        results = []
        for rank in range(self.target.size):
            part = self.target.empty(rank, parts[0].dtype)
            for source, pieces in self.incoming(rank):
                move(part, parts[source], pieces, threads=threads)
            results.append(part)
        return results

    def _checked(self, parts: Sequence[AnyArray]) -> list[AnyArray]:
        arrays = [as_array(part) for part in parts]
        if len(arrays) != self.source.size:
            raise ValueError(
                f"parts: got {len(arrays)}, expected {self.source.size}: one for each rank"
            )
        for rank, part in enumerate(arrays):
            expected = self.source.local_shape(rank)
            if part.shape != expected:
                raise ValueError(f"parts[{rank}]: its shape is {part.shape}, expected {expected}")
            if part.dtype != arrays[0].dtype:
                raise ValueError(
                    f"parts[{rank}]: its dtype is {part.dtype}, expected {arrays[0].dtype} as in"
                    " parts[0]"
                )
        return arrays


def _physical_memory() -> int:
    """Bytes of memory in this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
