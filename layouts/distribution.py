"""Who holds what of one array: an index space cut, axis by axis, over a grid of ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from layouts import orders, regions
from layouts.axes import Block, Kind, Replicated, Section, from_plain, to_plain
from layouts.cuts import Cut, Int64
from layouts.numbers import as_count, as_index, as_rank
from layouts.tiled import AnyArray

__all__ = ["Distribution"]


@dataclass(frozen=True, init=False)
class Distribution:
    """An index space cut over a grid of ranks, with the memory order of the parts.

    Axis ``k`` of the array is cut by ``axes[k]`` over the ``grid[k]`` coordinates of grid axis
    ``k``. Ranks are numbered through the grid in C order (the last grid axis fastest).

    Parameters
    ----------
    shape : sequence of int
        Global shape; zero-length axes and ``()`` are fine.
    grid : sequence of int, optional
        Ranks along each axis; one rank in all by default.
    axes : sequence of Kind, optional
        How each axis is cut: ``Block``, ``BlockCyclic``, ``Cyclic``, ``Irregular`` or
        ``Replicated``; ``Block()`` for all by default.
    order : "C", "F", tuple of int, or Tiled
        How a part lies in its rank's memory; a tuple names the axes, slowest first.

    Raises
    ------
    ValueError, TypeError
        If grid or axes do not fit the shape, naming both.

    Examples
    --------
    >>> from layouts import BlockCyclic, Replicated
    >>> d = Distribution((8, 8), grid=(2, 2), axes=(BlockCyclic(3), Replicated()), order="F")
    >>> d.size, d.local_shape(0), d.local_shape(2)
    (4, (5, 8), (3, 8))
    >>> print(d)
    (8, 8) over 2x2 ranks: BlockCyclic(3) x Replicated, order F
    """

    shape: tuple[int, ...]
    grid: tuple[int, ...]
    axes: tuple[Kind, ...]
    order: orders.Order

    def __init__(
        self,
        shape: Sequence[int],
        grid: Sequence[int] | None = None,
        axes: Sequence[Kind] | None = None,
        order: orders.Order | Sequence[int] = "C",
    ) -> None:
        extents = tuple(as_index(n, "shape") for n in _sequence(shape, "shape"))
        ranks = (1,) * len(extents) if grid is None else _sequence(grid, "grid")
        kinds = (Block(),) * len(extents) if axes is None else _sequence(axes, "axes")
        for name, given in (("grid", ranks), ("axes", kinds)):
            if len(given) != len(extents):
                raise ValueError(
                    f"{name}: got {len(given)} entries {given}, expected {len(extents)}:"
                    f" one for each axis of shape {extents}"
                )
        for position, kind in enumerate(kinds):
            if not isinstance(kind, Kind):
                raise TypeError(
                    f"axes[{position}]: got {kind!r}, expected Block(), BlockCyclic(size),"
                    " Cyclic(), Irregular(bounds) or Replicated()"
                )
        object.__setattr__(self, "shape", extents)
        object.__setattr__(self, "grid", tuple(as_count(p, "grid") for p in ranks))
        object.__setattr__(self, "axes", kinds)
        object.__setattr__(self, "order", orders.normalize(order, len(extents)))
        _ = self.cuts  # every cut is made once here, so that what does not fit is refused now

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """The kinds brought together with extents and grid, one per axis."""
        cuts = []
        for axis, (kind, n, p) in enumerate(zip(self.axes, self.shape, self.grid, strict=True)):
            try:
                cuts.append(kind.cut(n, p))
            except ValueError as error:
                raise ValueError(f"axes[{axis}] of shape {self.shape}: {error}") from None
        return tuple(cuts)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of ranks."""
        return math.prod(self.grid)

    def coordinates(self, rank: int) -> tuple[int, ...]:
        """Grid coordinates of a rank.

        Raises
        ------
        IndexError
            If there is no such rank.
        """
        place = np.unravel_index(as_rank(rank, self.size), self.grid) if self.grid else ()
        return tuple(int(c) for c in place)

    def twins(self, rank: int) -> list[int]:
        """The other ranks that hold the same of the array: replicas of this one.

        Raises
        ------
        IndexError
            If there is no such rank.

        Examples
        --------
        >>> Distribution((4, 6), (2, 3), (Block(), Replicated())).twins(4)
        [3, 5]
        """
        coordinates = self.coordinates(rank)
        if not any(isinstance(kind, Replicated) for kind in self.axes):
            return []
        place = [
            slice(None) if isinstance(kind, Replicated) else coordinate
            for kind, coordinate in zip(self.axes, coordinates, strict=True)
        ]
        ranks = np.arange(self.size).reshape(self.grid)[tuple(place)]
        return [int(twin) for twin in np.ravel(ranks) if twin != rank]

    def local_shape(self, rank: int) -> tuple[int, ...]:
        """Shape of the rank's part.

        Raises
        ------
        IndexError
            If there is no such rank.
        """
        as_rank(rank, self.size)
        if self.size == 1:
            return self.shape
        return tuple(cut.count(c) for cut, c in zip(self.cuts, self.coordinates(rank), strict=True))

    def indices(self, rank: int) -> tuple[Int64, ...]:
        """Global indices that the rank holds, one int64 array per axis, in the part's order.

        Examples
        --------
        >>> from layouts import Cyclic
        >>> d = Distribution((5, 2), grid=(2, 1), axes=(Cyclic(), Block()))
        >>> a = np.arange(10).reshape(5, 2)
        >>> a[np.ix_(*d.indices(1))].tolist()
        [[2, 3], [6, 7]]
        """
        return tuple(
            cut.indices(c) for cut, c in zip(self.cuts, self.coordinates(rank), strict=True)
        )

    def local_size(self, rank: int) -> int:
        """Elements that the rank's part takes in memory: with tiles, padding included.

        Raises
        ------
        IndexError
            If there is no such rank.
        """
        return math.prod(orders.padded(self.local_shape(rank), self.order))

    def empty(self, rank: int, dtype: DTypeLike) -> Any:
        """An uninitialised part of the rank, in this distribution's order: an array.

        With tiles, a `TiledArray`, which also `split` gives and `join` takes.
        """
        return orders.empty(self.local_shape(rank), dtype, self.order)

    def split(self, array: AnyArray, threads: int | None = None) -> list[Any]:
        """Cut a whole array into its parts: new arrays in this distribution's order, by rank."""
        from layouts.plan import plan

        whole = Distribution(self.shape)
        return plan(whole, self).execute([array], threads=threads)

    def join(self, parts: Sequence[AnyArray], threads: int | None = None) -> Any:
        """Put the parts together into one new array in this distribution's order."""
        from layouts.plan import plan

        whole = Distribution(self.shape, order=self.order)
        return plan(self, whole).execute(parts, threads=threads)[0]

    def section(self, region: Sequence[slice]) -> Distribution:
        """A region of the array, held by the same ranks: each has what it has of it, and no more.

        Along each axis that is one range of the rank's part, which begins after
        ``cuts[axis].count_below(start, coordinate)`` indices of the part.

        Parameters
        ----------
        region : sequence of slice
            Global indices, one slice of step 1 for each axis; their ends as in Python, but never
            beyond the axis.

        Raises
        ------
        ValueError, TypeError
            If they are not such slices.

        Examples
        --------
        >>> d = Distribution((12, 4), grid=(3, 1)).section([slice(5, 9), slice(None)])
        >>> d.shape, [d.local_shape(rank) for rank in range(3)]
        ((4, 4), [(0, 4), (3, 4), (1, 4)])
        """
        ranges = regions.normalize(region, self.shape)
        kinds = [
            Section(kind, low, n)
            for kind, (low, _), n in zip(self.axes, ranges, self.shape, strict=True)
        ]
        return Distribution([high - low for low, high in ranges], self.grid, kinds, self.order)

    def to_dict(self) -> dict[str, Any]:
        """The distribution in plain lists, numbers and strings, for messages and files.

        Examples
        --------
        >>> d = Distribution((8, 8), grid=(2, 1), order="F")
        >>> d.to_dict()
        {'shape': [8, 8], 'grid': [2, 1], 'axes': [['Block'], ['Block']], 'order': 'F'}
        >>> Distribution.from_dict(d.to_dict()) == d
        True
        """
        return {
            "shape": list(self.shape),
            "grid": list(self.grid),
            "axes": [to_plain(kind) for kind in self.axes],
            "order": orders.to_plain(self.order),
        }

    @classmethod
    def from_dict(cls, words: Mapping[str, Any]) -> Distribution:
        """The distribution of `to_dict`'s words.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they are not such words.
        """
        axes = [from_plain(kind) for kind in words["axes"]]
        return cls(words["shape"], words["grid"], axes, orders.from_plain(words["order"]))

    def __str__(self) -> str:
        kinds = " x ".join(repr(kind).removesuffix("()") for kind in self.axes) or "scalar"
        ranks = "1 rank" if self.size == 1 else f"{'x'.join(map(str, self.grid))} ranks"
        return f"{self.shape} over {ranks}: {kinds}, order {self.order}"


def _sequence(value: Any, name: str) -> tuple[Any, ...]:
    try:
        return tuple(value)
    except TypeError:
        raise TypeError(f"{name}: got {value!r}, expected one entry for each axis") from None
