"""The loop nest of a move: which axis is looped over where, worked out before the kernel runs.

A product of pieces arrives axis by axis, as the caller named the axes. The nest

1. turns pieces that are evenly spaced into plain axes (one piece, one stride per side),
2. drops axes of one index and merges neighbours that are one axis in both memories,
3. widens the element where the innermost axis is a few contiguous elements on both sides,
4. orders the axes by the target's stride, and picks the inner loops: the axis that is dense in the
   target and the one that is dense in the source. The same axis gives runs, two axes give tiles.

All of it is arithmetic on a few Python integers, because a small permutation must not wait for it.
The result is two int64 tables that :mod:`kernels._compiled` walks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernels.pieces import Indices, Pieces

# Columns of the table of axes. FIRST is where the axis starts in the table of base pieces; steps
# and strides are in bytes, the rest is in pieces and indices, as in Pieces.
FIRST, BASES, COUNT, SOURCE_STEP, TARGET_STEP, LAST, SKIP, SOURCE_STRIDE, TARGET_STRIDE = range(9)
# Of inner axes: indices of faster axes taken in with one index of this one, and indices of this one
# that the table of offsets has room for.
GROUP, CHUNK = 9, 10
COLUMNS = 11

LINE = 64  # bytes of a cache line
WIDEST = LINE  # bytes: up to one cache line, short runs are moved as one element
GROUPED = 8192  # bytes: sides of rectangles shorter than this take in another axis
ENOUGH = 512, 64  # bytes: rows and columns of this size leave an axis that both want to the other
TABLE = 8192  # entries of a table of offsets: 64 KiB
NOTHING = np.zeros(0, np.int64)


class Axis(NamedTuple):
    """One loop. Strides are in bytes; `pieces` is None for a plain axis of `size` indices."""

    size: int
    source: int
    target: int
    pieces: Pieces | None = None


class Nest(NamedTuple):
    """What the compiled kernel takes, but for the addresses.

    The offsets, in bytes, go on top of the addresses of element 0. The last `inner` rows of `axes`
    are the inner loops, and at least one row comes before them, two before a run.
    """

    itemsize: int
    source_offset: int
    target_offset: int
    inner: int
    axes: Indices
    base: Indices
    offsets: Indices


def nest(
    pieces: Sequence[Pieces],
    source_strides: Sequence[int],
    target_strides: Sequence[int],
    itemsize: int,
) -> Nest:
    """The loop nest for a product of pieces that is not empty; strides and sizes in bytes.

    >>> p = [Pieces.whole(4), Pieces.whole(3)]
    >>> n = nest(p, (24, 8), (8, 32), 8)  # a transposition: two inner loops, so tiles
    >>> n.inner, n.itemsize
    (2, 8)
    >>> n = nest(p, (24, 8), (24, 8), 8)  # a plain copy: one run of 12 elements
    >>> n.inner, n.axes[-1, LAST].item()
    (1, 12)
    """
    axes: list[Axis] = []
    source_offset = target_offset = 0
    for axis_pieces, source, target in zip(pieces, source_strides, target_strides, strict=True):
        for offset, axis in plain(axis_pieces, source, target):
            source_offset += offset[0]
            target_offset += offset[1]
            if axis.size > 1:
                axes.append(axis)
    axes, offset = forwards(axes)
    axes = merge(sorted(axes, key=lambda axis: (-abs(axis.target), -abs(axis.source))))
    axes, itemsize = widen(axes, itemsize)
    axes, sides = innermost(axes, itemsize)
    return Nest(
        itemsize,
        source_offset + offset[0],
        target_offset + offset[1],
        len(sides),
        *tables(axes, sides),
    )


def plain(pieces: Pieces, source: int, target: int) -> list[tuple[tuple[int, int], Axis]]:
    """The loops over one axis, each with the byte offsets (source, target) where it starts.

    One piece is a plain axis. One base piece that repeats unclipped is two: over the periods and
    within the piece. So a cyclic axis, whose pieces hold one index, costs no more than a strided
    array. All other pieces stay as they are.
    """
    if pieces.length.size != 1 and pieces.count != 1:
        return [((0, 0), Axis(pieces.size, source, target, pieces))]
    start = int(pieces.source[0]) + pieces.skip, int(pieces.target[0]) + pieces.skip
    offset = start[0] * source, start[1] * target
    if pieces.count == 1:
        return [(offset, Axis(pieces.last - pieces.skip, source, target))]
    length = int(pieces.length[0])
    if pieces.skip or pieces.last != length:
        return [((0, 0), Axis(pieces.size, source, target, pieces))]
    periods = Axis(pieces.count, pieces.source_step * source, pieces.target_step * target)
    return [(offset, periods), ((0, 0), Axis(length, source, target))]


def forwards(axes: list[Axis]) -> tuple[list[Axis], tuple[int, int]]:
    """Walk plain axes upwards in the target, so that axes reversed on both sides merge again."""
    source_offset = target_offset = 0
    for k, axis in enumerate(axes):
        if axis.target < 0 and axis.pieces is None:
            source_offset += (axis.size - 1) * axis.source
            target_offset += (axis.size - 1) * axis.target
            axes[k] = Axis(axis.size, -axis.source, -axis.target)
    return axes, (source_offset, target_offset)


def merge(axes: list[Axis]) -> list[Axis]:
    """Join plain neighbours that are one axis in both memories; the order is outermost first.

    >>> merge([Axis(4, 24, 24), Axis(3, 8, 8)])
    [Axis(size=12, source=8, target=8, pieces=None)]
    """
    merged: list[Axis] = []
    for axis in axes:
        outer = merged[-1] if merged else None
        if (
            outer is not None
            and outer.pieces is None
            and axis.pieces is None
            and outer.source == axis.size * axis.source
            and outer.target == axis.size * axis.target
        ):
            merged[-1] = Axis(outer.size * axis.size, axis.source, axis.target)
        else:
            merged.append(axis)
    return merged


def widen(axes: list[Axis], itemsize: int) -> tuple[list[Axis], int]:
    """Make a short axis that is contiguous on both sides part of the element.

    Pairs of doubles are then transposed as elements of 16 bytes, not as runs of two.

    >>> widen([Axis(5, 16, 80), Axis(5, 80, 16), Axis(2, 8, 8)], 8)[1]
    16
    """
    if len(axes) < 2:
        return axes, itemsize
    last = axes[-1]
    if last.pieces is not None or not last.source == last.target == itemsize:
        return axes, itemsize
    if last.size * itemsize <= WIDEST:
        return axes[:-1], last.size * itemsize
    return axes, itemsize


class Side(NamedTuple):
    """One side of the rectangles: a slow axis, and plain faster ones that lie densely below it.

    In the memory that the side is dense in, `group` indices of the faster axes make up one index of
    the slow one; `offsets` says where these lie in the other memory, in bytes.
    """

    axis: Axis
    group: int = 1
    offsets: tuple[int, ...] = (0,)


def innermost(axes: list[Axis], itemsize: int) -> tuple[list[Axis], list[Side]]:
    """The outer axes and the inner loops, three at least: one side is a run, two are rectangles.

    An axis that stands still in the source (a broadcast one) reads nothing new, so it is not the
    dense one.
    """
    if not axes:
        axes = [Axis(1, itemsize, itemsize)]
    fastest = min(range(len(axes)), key=lambda k: (axes[k].source == 0, abs(axes[k].source), -k))
    if fastest == len(axes) - 1:
        outer, sides = axes[:-1], [Side(axes[-1])]
    else:
        outer = [*axes[:fastest], *axes[fastest + 1 : -1]]
        sides = grow(outer, Side(axes[-1]), Side(axes[fastest]), itemsize)
    outer = [*[Axis(1, 0, 0)] * (3 - len(sides) - len(outer)), *outer]
    return outer, sides


def grow(outer: list[Axis], rows: Side, columns: Side, itemsize: int) -> list[Side]:
    """Take outer axes into the sides until each fills a few cache lines.

    The shorter side comes first, as long as neither has enough: a line of the source for columns,
    and several of the target for rows, which are not streamed otherwise (f4 6x9x319x181x16 to
    24301: 0.84 of np.copyto with rows of 54 x 181, 0.23 with columns of 181 x 16). But rows of
    less than a line come before all, for such rectangles go element by element (u1 51x51x50 to
    210: 6.7 ns for each with columns of 51 x 50, 0.3 with rows of 51 x 51).

    >>> rows, columns = grow([Axis(9, 640, 20)], Side(Axis(5, 100, 4)), Side(Axis(5, 4, 180)), 4)
    >>> rows.group, rows.axis.size, rows.offsets
    (5, 9, (0, 100, 200, 300, 400))
    """
    sides, growing = [rows, columns], [0, 1]
    while growing:
        lengths = [side.group * side.axis.size * itemsize for side in sides]
        thin = lengths[0] < LINE
        number = min(growing, key=lambda n: (lengths[n] >= ENOUGH[n], thin and n == 1, lengths[n]))
        side, (axis, group, offsets) = sides[number], sides[number]
        dense, other = (axis.target, axis.source) if number == 0 else (axis.source, axis.target)
        size = group * axis.size
        found = [
            k
            for k, a in enumerate(outer)
            if (a.target if number == 0 else a.source) == size * itemsize
        ]
        small = size * itemsize < GROUPED and axis.pieces is None and dense == group * itemsize
        if not small or not found:
            growing.remove(number)
            continue
        offsets = tuple(n * other + offset for n in range(axis.size) for offset in side.offsets)
        sides[number] = Side(outer.pop(found[0]), size, offsets)
    return sides


def offset_table(side: Side, other: str) -> tuple[int, Indices]:
    """Indices of the slow axis that one table holds, and where they and the group below lie."""
    longest = side.axis.size
    if side.axis.pieces is not None:
        longest = int(side.axis.pieces.length.max())
    chunk = max(1, min(longest, TABLE // side.group))
    slow = np.arange(chunk, dtype=np.int64) * getattr(side.axis, other)
    return chunk, np.add.outer(slow, side.offsets).ravel()


def tables(axes: list[Axis], sides: list[Side]) -> tuple[Indices, Indices, Indices]:
    """The tables of axes, of base pieces (source offset, target offset, length) and of offsets."""
    rows: list[tuple[int, ...]] = []
    bases: list[Indices | tuple[tuple[int], ...]] = []
    inner = [(1, 1)] * len(axes) + [(side.group, 1) for side in sides]
    offsets = NOTHING
    if len(sides) == 2:
        found = [offset_table(sides[0], "source"), offset_table(sides[1], "target")]
        inner[-2:] = [(side.group, chunk) for side, (chunk, _) in zip(sides, found, strict=True)]
        offsets = np.concatenate([found[0][1], found[1][1]])
    first = 0
    every = [*axes, *(side.axis for side in sides)]
    for (size, source, target, pieces), shape in zip(every, inner, strict=True):
        used = 1
        if pieces is None:
            rows.append((first, 1, 1, 0, 0, size, 0, source, target, *shape))
            bases.append(((0,), (0,), (size,)))
        else:
            count, last, skip = pieces.count, pieces.last, pieces.skip
            used = min(count, pieces.length.size)
            steps = pieces.source_step * source, pieces.target_step * target
            if used == count:
                steps = 0, 0
            rows.append((first, used, count, *steps, last, skip, source, target, *shape))
            starts = pieces.source[:used] * source, pieces.target[:used] * target
            bases.append(np.stack([*starts, pieces.length[:used]]))
        first += used
    table = np.array(rows, dtype=np.int64)
    if all(axis.pieces is None for axis in every):  # nothing to join: saves 3 us
        base = np.zeros((3, first), np.int64)
        base[2] = table[:, LAST]
        return table, base, offsets
    return table, np.concatenate(bases, axis=1, dtype=np.int64), offsets
