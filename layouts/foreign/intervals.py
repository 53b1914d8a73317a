"""Axes on which each coordinate holds one interval: what chunked arrays can say, and no more.

A chunked axis is a list of lengths, and one list has one kind here, whichever library it comes
from::

    4 4 4      BlockCyclic(4)               all alike but the last,
    4 4 1      BlockCyclic(4)               which may be shorter,
    4 4 1 0    BlockCyclic(4)               and empty ones after it
    4 1 4      Irregular([0, 4, 5, 9])

so a Dask array and the Zarr array that it was made from have equal distributions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from layouts.axes import BlockCyclic, Irregular, Kind
from layouts.cuts import Bounds, RoundRobin, Whole
from layouts.distribution import Distribution

__all__ = ["block_of", "kind_of", "lengths_of", "regular"]


def regular(lengths: Sequence[int]) -> int | None:
    """The size for which ``BlockCyclic(size)`` gives these lengths in one round; None without one.

    Examples
    --------
    >>> regular([4, 4, 1]), regular([4, 4, 1, 0]), regular([4, 1, 4]), regular([0, 4])
    (4, 4, None, None)
    """
    size, extent = max(lengths[0], 1), sum(lengths)
    dealt = (min(size, max(extent - i * size, 0)) for i in range(len(lengths)))
    return size if all(a == b for a, b in zip(lengths, dealt, strict=True)) else None


def kind_of(lengths: Sequence[int]) -> Kind:
    """The kind that gives each coordinate an interval of these lengths, in rising order.

    Examples
    --------
    >>> kind_of([4, 4, 1]), kind_of([4, 1, 4])
    (BlockCyclic(4), Irregular([0, 4, 5, 9]))
    """
    size = regular(lengths)
    return Irregular(accumulate(lengths, initial=0)) if size is None else BlockCyclic(size)


def lengths_of(distribution: Distribution, axis: int) -> tuple[int, ...]:
    """The lengths of the intervals that the coordinates along one axis hold.

    Raises
    ------
    ValueError
        If the axis is replicated, or a coordinate holds several intervals.

    Examples
    --------
    >>> lengths_of(Distribution((10,), grid=(4,)), 0)
    (3, 3, 3, 1)
    """
    cut = distribution.cuts[axis]
    several = next((c for c in range(cut.ranks) if cut.span(c) is None), None)
    if several is not None or (isinstance(cut, Whole) and cut.ranks > 1):
        what = "each holds the whole axis" if several is None else f"{several} holds several blocks"
        raise ValueError(
            f"distribution: axis {axis} is {distribution.axes[axis]!r} over {cut.ranks} coordinates"
            f" and {what}, expected one interval for each coordinate, in rising order"
        )
    return tuple(cut.counts.tolist())


def block_of(distribution: Distribution, axis: int) -> int:
    """The size for which ``BlockCyclic(size)`` gives the coordinates of one axis what they hold.

    Raises
    ------
    ValueError
        If no dealing of equal blocks in turn gives the same owners.

    Examples
    --------
    >>> block_of(Distribution((9,), grid=(3,), axes=[Irregular([0, 4, 8, 9])]), 0)
    4
    """
    kind, cut = distribution.axes[axis], distribution.cuts[axis]
    if isinstance(kind, BlockCyclic):
        return kind.size
    if cut.ranks == 1:
        return max(cut.extent, 1)
    if isinstance(cut, RoundRobin):
        return cut.block
    size = regular(cut.counts.tolist()) if isinstance(cut, Bounds) else None
    if size is None:
        raise ValueError(
            f"distribution: axis {axis} is {kind!r} over {cut.ranks} coordinates, expected Block or"
            " BlockCyclic: blocks of one size dealt in turn"
        )
    return size
