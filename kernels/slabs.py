"""Cutting a product of pieces into sub-products of bounded size.

::

    limit 6, a product of 3 x 4 indices        limit 3: one index of axis 0 is too many,
                                               so axis 1 is cut as well
        +---------+                                +------+--+
        | slab 0  |                                |  0   |1 |
        +---------+                                +------+--+
        | slab 1  |                                |  2   |3 |
        +---------+                                +------+--+
        | slab 2  |                                |  4   |5 |
        +---------+                                +------+--+
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from kernels.pieces import Pieces


def shape(pieces: Sequence[Pieces]) -> tuple[int, ...]:
    """Indices per axis of a product of pieces.

    >>> shape([Pieces.whole(3), Pieces.explicit([0, 5], [0, 2], [2, 2])])
    (3, 4)
    """
    return tuple(axis.size for axis in pieces)


def slabs(pieces: Sequence[Pieces], limit: int) -> Iterator[tuple[Pieces, ...]]:
    """Cut a product of pieces into sub-products of at most `limit` elements, in C order.

    The first axis is cut; where one index of it is still too much, the next one is cut as well.
    Slabs come one at a time and cost one period per axis that is cut.

    Parameters
    ----------
    pieces : sequence of Pieces
        One per axis.
    limit : int
        Elements (not bytes) that a slab may hold, at least 1.

    Yields
    ------
    tuple of Pieces
        A sub-product, one entry per axis; none is empty. :func:`shape` gives its sizes.

    Raises
    ------
    ValueError
        If `limit` is below 1.

    Examples
    --------
    >>> [shape(s) for s in slabs([Pieces.whole(3), Pieces.whole(4)], 6)]
    [(1, 4), (1, 4), (1, 4)]
    >>> [shape(s) for s in slabs([Pieces.whole(3), Pieces.whole(4)], 3)][:3]
    [(1, 3), (1, 1), (1, 3)]
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1 element, got {limit}")
    return _slabs(tuple(pieces), limit)


def _slabs(pieces: tuple[Pieces, ...], limit: int) -> Iterator[tuple[Pieces, ...]]:
    total = prod(shape(pieces))
    if total == 0:
        return
    if total <= limit:
        yield pieces
        return
    first, rest = pieces[0], pieces[1:]
    height = limit // (total // first.size)
    for lo in range(0, first.size, max(height, 1)):
        part = first.slice(lo, min(lo + max(height, 1), first.size))
        if height:
            yield (part, *rest)
        else:
            for slab in _slabs(rest, limit):
                yield (part, *slab)
