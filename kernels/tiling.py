"""Axes whose indices lie in tiles: their pieces, in the index space of a plain strided view.

Cut an axis into tiles of `extent` indices, each tile contiguous in memory. Then index j lies at
``(j // extent) * step + j % extent``, in units of the stride within a tile: the same axis, with
gaps. So a tiled axis needs no kernel of its own, only other pieces::

    extent 4, step 10      index     0 1 2 3 | 4 5 6 7 | 8 9
                           offset    0 1 2 3 |10 ..  13|20 21

    a piece of indices 2 to 9, cut at the tiles:    [2, 3]  [10 .. 13]  [20, 21]

Between two tiled axes the pieces are cut at the tiles of both sides. That pattern repeats, so what
was one period stays one period, only longer: a long axis is never listed.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd, lcm
from typing import NamedTuple

import numpy as np

from kernels.pieces import Indices, Pieces


class Tiling(NamedTuple):
    """How the indices of one axis lie: `extent` in a tile, and `step` from tile to tile.

    Both at least 1; the step is in units of the stride within a tile.
    """

    extent: int
    step: int

    def offset(self, index: Indices) -> Indices:
        """Where indices lie, in units of the stride within a tile.

        >>> Tiling(4, 10).offset(np.arange(9)).tolist()
        [0, 1, 2, 3, 10, 11, 12, 13, 20]
        """
        tile, within = np.divmod(index, self.extent)
        return np.asarray(tile * self.step + within, np.int64)


#: An axis that is not tiled. It is one tile after the other without gaps, whatever their extent.
PLAIN = Tiling(1, 1)


def refine(pieces: Pieces, source: Tiling, target: Tiling) -> Pieces:
    """The same indices in the same order, cut at the tiles of both sides, as offsets of a view.

    Parameters
    ----------
    pieces : Pieces
        In indices of the axis.
    source, target : Tiling
        How the axis lies on either side.

    Returns
    -------
    Pieces
        In units of the stride within a tile. One piece, or a whole axis, between a plain side and
        a tiled one has one base piece. Otherwise there are as many as one common period has: at
        most one per tile that the pieces touch.

    Examples
    --------
    >>> p = refine(Pieces.whole(10), PLAIN, Tiling(4, 10))
    >>> [part.tolist() for part in p.expand()], p.length.size
    ([[0, 4, 8], [0, 10, 20], [4, 4, 2]], 1)
    """
    if source.extent == source.step:
        source = PLAIN
    if target.extent == target.step:
        target = PLAIN
    if source == target == PLAIN or not pieces.count:
        return pieces
    if pieces.count == 1:
        starts = int(pieces.source[0]) + pieces.skip, int(pieces.target[0]) + pieces.skip
        return _one_piece(*starts, pieces.last - pieces.skip, source, target)
    bases = pieces.length.size
    periods = -(-pieces.count // bases)
    # After so many periods both sides are back where they were in their tiles.
    turn = min(
        lcm(
            source.extent // gcd(source.extent, pieces.source_step),
            target.extent // gcd(target.extent, pieces.target_step),
        ),
        periods,
    )
    period, r = np.divmod(np.arange(min(turn * bases, pieces.count), dtype=np.int64), bases)
    offsets, targets, lengths = _cut(
        pieces.source[r] + period * pieces.source_step,
        pieces.target[r] + period * pieces.target_step,
        pieces.length[r],
        source,
        target,
    )
    return _repeated(
        offsets,
        targets,
        lengths,
        (turn * pieces.source_step, turn * pieces.target_step),
        -(-periods // turn),
        (pieces.skip, pieces.skip + pieces.size),
        (source, target),
    )


@lru_cache(maxsize=4096)
def _one_piece(start: int, to: int, length: int, source: Tiling, target: Tiling) -> Pieces:
    """One long piece: the tiles of both sides meet again after their least common multiple."""
    period = lcm(source.extent, target.extent)
    # Begun at the tile's edge, and skipped into, so that the pieces of a plain side and a tiled
    # one are all alike.
    skip = to % target.extent if target != PLAIN else start % source.extent
    start, to, length = start - skip, to - skip, length + skip
    offsets, targets, lengths = _cut(
        np.array([start]), np.array([to]), np.array([min(length, period)]), source, target
    )
    return _repeated(
        offsets,
        targets,
        lengths,
        (period, period),
        -(-length // period),
        (skip, length),
        (source, target),
    )


def _cut(
    start: Indices, to: Indices, length: Indices, source: Tiling, target: Tiling
) -> tuple[Indices, Indices, Indices]:
    """Listed pieces (source index, target index, length), each cut at the tiles of both sides."""
    begin = np.cumsum(length) - length
    edges = [begin]
    for index, tiling in ((start, source), (to, target)):
        if tiling != PLAIN:
            # The first edge inside a piece, and how many there are.
            first = tiling.extent - index % tiling.extent
            number = np.maximum(-(-(length - first) // tiling.extent), 0)
            before = np.cumsum(number) - number
            nth = np.arange(number.sum()) - np.repeat(before, number)
            edges.append(np.repeat(begin + first, number) + nth * tiling.extent)
    cuts = np.unique(np.concatenate(edges))
    piece = np.searchsorted(begin, cuts, side="right") - 1
    within = cuts - begin[piece]
    return start[piece] + within, to[piece] + within, np.diff(cuts, append=int(length.sum()))


def _repeated(
    start: Indices,
    to: Indices,
    length: Indices,
    steps: tuple[int, int],
    periods: int,
    kept: tuple[int, int],
    tilings: tuple[Tiling, Tiling],
) -> Pieces:
    """Cut pieces as a period of offsets, with only the indices from `kept[0]` to `kept[1]` of it.

    The steps are whole numbers of tiles, unless there is no second period.
    """
    if periods == 1:
        steps = 0, 0
    offsets = Pieces(
        tilings[0].offset(start),
        tilings[1].offset(to),
        length,
        len(length) * periods,
        steps[0] // tilings[0].extent * tilings[0].step,
        steps[1] // tilings[1].extent * tilings[1].step,
        int(length[-1]),
    )
    return offsets.slice(*kept)
