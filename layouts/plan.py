"""From one distribution to another: a value, computed without moving data.

What source rank ``s`` sends to target rank ``t`` is the Cartesian product, over the axes, of the
pieces between their grid coordinates. So a plan costs the sum over the axes, never the product,
and one rank's share of it is computed on its own (`Plan.incoming`)::

    axis 0 pieces (s0 -> t0)   x   axis 1 pieces (s1 -> t1)   =   one message s -> t

         #  #     ##                 ==  ==                        ==  ==      ==  ==
                                                                   ==  ==      ==  ==
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from layouts.cost import Cost, memory
from layouts.cuts import Int64
from layouts.distribution import Distribution
from layouts.incoming import Incoming, share
from layouts.matrix import check_room, held, keep_what_is_read
from layouts.numbers import as_count, as_rank
from layouts.regions import Region, normalize
from layouts.relabelling import Links, best_places
from layouts.tiled import AnyArray, as_array, move_all

__all__ = ["Plan", "plan"]

#: Bytes of target parts that `Plan.execute` fills at a time. Threads wait for each other after
#: each, and what is to be moved for so many is described at once.
TOGETHER = 1 << 28


def plan(
    source: Distribution,
    target: Distribution,
    relabel: bool = False,
    links: Links | None = None,
    region: Sequence[slice] | None = None,
) -> Plan:
    """Plan the way from one distribution to another.

    Parameters
    ----------
    source, target : Distribution
        Of the same shape; grids, kinds, numbers of ranks and orders may all differ.
    relabel : bool
        Choose where each target rank lives, so that the fewest bytes move: ``plan.places`` and
        ``plan.labels`` say what was chosen. By default rank ``k`` of both sides lives at place
        ``k``. Exact and dense: for some thousands of ranks.
    links : array_like of shape (source.size, target.size), or callable, optional
        With ``relabel``: cost per byte from where source rank ``s`` lives to place ``p``, as
        ``links[s, p]`` or ``links(s, p)``, so that what moves costs the least; `link_costs` makes
        such a matrix from processes and hosts. By default 0 where ``s == p`` and 1 elsewhere.
    region : sequence of slice, optional
        Global indices of the source's array, a slice of step 1 for each axis: only these are
        brought. The target is then a distribution of the region, and so of its shape.

    Raises
    ------
    ValueError
        If the shapes differ, the region is beyond the array, there are too many ranks to relabel,
        or ``links`` do not fit.
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

    >>> from layouts import Irregular
    >>> backwards = Distribution((12,), grid=(2,), axes=(Irregular([0, 2, 12]),))
    >>> blocks = Distribution((12,), grid=(2,), axes=(Irregular([0, 10, 12]),))
    >>> better = plan(blocks, backwards, relabel=True)
    >>> better.labels, better.cost().moved, plan(blocks, backwards).cost().moved
    (array([1, 0]), 32, 64)

    Indices 3 to 6 alone, wherever they are:

    >>> parts = source.split(np.arange(12))
    >>> plan(source, Distribution((4,)), region=[slice(3, 7)]).execute(parts)
    [array([3, 4, 5, 6])]
    """
    _check_distributions(source, target)
    ends = None if region is None else normalize(region, source.shape)
    usual = Plan(source, target, region=ends)
    if relabel:
        return replace(usual, relabelled=best_places(usual.read, target, links))
    if links is not None:
        raise ValueError("links: got them without relabel=True, which alone looks at them")
    return usual


@dataclass(frozen=True)
class Plan:
    """How to go from ``source`` to ``target``; made by `plan`.

    Rank ``k`` of the source lives at place ``k``. So does rank ``k`` of the target, unless
    ``relabelled`` says otherwise: the place of each target rank, a permutation. Relabelling changes
    where a target rank lives, and hence what is kept and what moves; never what a rank holds, nor
    how ranks are numbered here.

    With ``region``, the low and high end along each axis, only that of the source's array is
    brought, and the target is a distribution of the region.
    """

    source: Distribution
    target: Distribution
    relabelled: tuple[int, ...] | None = None
    region: Region | None = None

    def __post_init__(self) -> None:
        _check_distributions(self.source, self.target)
        if self.read.shape != self.target.shape:
            whose = "source" if self.region is None else "region"
            raise ValueError(
                f"target: its shape is {self.target.shape}, expected the {whose}'s"
                f" {self.read.shape}"
            )
        if self.relabelled is not None:
            object.__setattr__(self, "relabelled", self._permutation(self.relabelled))

    def _permutation(self, places: Sequence[int]) -> tuple[int, ...]:
        given = tuple(as_rank(place, self.target.size, "relabelled") for place in places)
        if len(given) != self.target.size or len(set(given)) != len(given):
            raise ValueError(
                f"relabelled: got {len(given)} places, {len(set(given))} of them different,"
                f" expected a permutation of 0 to {self.target.size - 1}"
            )
        return given

    @cached_property
    def read(self) -> Distribution:
        """What is read of the source: all of it, or its section in the region."""
        if self.region is None:
            return self.source
        return self.source.section([slice(low, high) for low, high in self.region])

    @property
    def places(self) -> Int64:
        """The place of each target rank, shape ``(target.size,)``."""
        if self.relabelled is None:
            return np.arange(self.target.size)
        return np.array(self.relabelled, np.int64)

    @property
    def labels(self) -> Int64:
        """The target rank that lives at each place: the inverse of `places`."""
        return np.asarray(np.argsort(self.places), np.int64)

    def matrix(self, itemsize: int) -> Int64:
        """Bytes that each source rank gives to each target rank, what stays in place included.

        Target rank ``t`` keeps what source rank ``places[t]`` gives it, if there is one.

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
        ranks = self.source.size, self.target.size
        check_room("matrix", *ranks, 3, "incoming(rank) gives one rank's share alone")
        result = held(self.read, self.target)
        result *= itemsize
        keep_what_is_read(result, self.read, self.places)
        return result

    def incoming(self, rank: int) -> Incoming:
        """What one target rank gets from whom; no other rank is looked at.

        Raises
        ------
        IndexError
            If there is no such rank.
        """
        rank = as_rank(rank, self.target.size)
        place = rank if self.relabelled is None else self.relabelled[rank]
        if self.region is None:
            return share(self.source, self.target, rank, place)
        start = tuple(low for low, _ in self.region)
        return share(self.read, self.target, rank, place, self.source, start)

    def cost(self, itemsize: int = 8, buffers: int = 0) -> Cost:
        """Bytes kept and moved, messages, largest message and memory, as numbers.

        Parameters
        ----------
        itemsize : int
            Bytes per element.
        buffers : int
            Bytes of transfer buffers that every place has besides its parts.
        """
        terms = memory(self.source, self.target, itemsize, buffers, self.relabelled)
        return Cost.of(self.read, self.target, itemsize, terms, self.relabelled)

    def memory(self, itemsize: int = 8, buffers: int = 0) -> Int64:
        """The most array bytes at each place at once; see `Cost` for what is counted.

        Returns
        -------
        int64 array, shape (max(source.size, target.size),)
        """
        terms = memory(self.source, self.target, itemsize, buffers, self.relabelled)
        return np.asarray(terms.sum(axis=0), np.int64)

    def explain(self, itemsize: int = 8, buffers: int = 0) -> str:
        """The plan in words: what stays, what moves, in how many messages, and the memory needed.

        Parameters
        ----------
        itemsize : int
            Bytes per element.
        buffers : int
            Bytes of transfer buffers that every place has besides its parts.
        """
        return str(self.cost(itemsize, buffers))

    def picture(self, itemsize: int = 8) -> str:
        """The plan drawn: who holds what before and after, and who gives whom how much.

        Notebooks show it where a plan is the last word of a cell.

        Parameters
        ----------
        itemsize : int
            Bytes per element.

        Returns
        -------
        str
            An SVG document.
        """
        from layouts.picture import svg

        return svg(self, itemsize)

    def _repr_svg_(self) -> str:
        return self.picture()

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
            The target ranks' parts, in rank order (also of a relabelled plan): new arrays in the
            target's order.

        Raises
        ------
        ValueError
            If the number of parts, a shape or a dtype is not what the source says.
        """
        parts = self._checked(parts)
        results, moves, nbytes = [], [], 0
        for rank in range(self.target.size):
            part = self.target.empty(rank, parts[0].dtype)
            moves += [(part, parts[source], pieces) for source, pieces in self.incoming(rank)]
            results.append(part)
            nbytes += part.nbytes
            if nbytes >= TOGETHER or rank == self.target.size - 1:
                move_all(moves, threads)
                moves, nbytes = [], 0
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


def _check_distributions(source: Distribution, target: Distribution) -> None:
    for name, given in (("source", source), ("target", target)):
        if not isinstance(given, Distribution):
            raise TypeError(f"{name}: got {given!r}, expected a Distribution")
