"""The loop nest of a move: which axis is looped over where, worked out before the kernel runs.

A product of pieces arrives axis by axis, as the caller named the axes. The nest

1. turns pieces that are evenly spaced into plain axes (one piece, one stride per side),
2. drops axes of one index and merges neighbours that are one axis in both memories,
3. widens the element where the innermost axis is a few contiguous elements on both sides,
4. orders the axes by the target's stride, and picks the inner loops: the axis that is dense in the
   target and the one that is dense in the source (:mod:`kernels.rectangles`); or, where these would
   be short, or nothing is dense, some loops from element to element (:mod:`kernels.box`).

The result is two int64 tables that :mod:`kernels.compiled` walks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kernels.axes import Axis, forwards, merge, outermost_first, plain, widen
from kernels.box import box, is_walked
from kernels.pieces import Indices, Pieces
from kernels.rectangles import Side, innermost, offset_table

# Columns of the table of axes. FIRST is where the axis starts in the table of base pieces; steps
# and strides are in bytes, the rest is in pieces and indices, as in Pieces.
FIRST, BASES, COUNT, SOURCE_STEP, TARGET_STEP, LAST, SKIP, SOURCE_STRIDE, TARGET_STRIDE = range(9)
# Of inner axes: indices of faster axes taken in with one index of this one, and indices of this one
# that the table of offsets has room for.
GROUP, CHUNK = 9, 10
COLUMNS = 11
NOTHING = np.zeros(0, np.int64)


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
    stream: bool = False,
) -> Nest:
    """The loop nest for a product of pieces that is not empty; strides and sizes in bytes.

    >>> p = [Pieces.whole(40), Pieces.whole(60)]
    >>> n = nest(p, (480, 8), (8, 320), 8)  # a transposition: two inner loops, so rectangles
    >>> n.inner, n.itemsize
    (2, 8)
    >>> n = nest(p, (480, 8), (16, 640), 8)  # to every second element: a box of four
    >>> n.inner
    4
    >>> n = nest(p, (480, 8), (480, 8), 8)  # a plain copy: one run of 2,400 elements
    >>> n.inner, n.axes[-1, LAST].item()
    (1, 2400)
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
    axes = merge(outermost_first(axes))
    axes, itemsize = widen(axes, itemsize)
    outer, sides = innermost(axes or [Axis(1, itemsize, itemsize)], itemsize)
    part = 1
    if is_walked(sides, itemsize, stream):
        outer, inner, part = box(axes, stream)
        sides = [Side(axis) for axis in inner]
    return Nest(
        itemsize,
        source_offset + offset[0],
        target_offset + offset[1],
        len(sides),
        *tables(outer, sides, part),
    )


def tables(axes: list[Axis], sides: list[Side], part: int) -> tuple[Indices, Indices, Indices]:
    """The tables of axes, of base pieces (source offset, target offset, length) and of offsets."""
    rows: list[tuple[int, ...]] = []
    bases: list[Indices | tuple[tuple[int], ...]] = []
    inner = [(1, 1)] * len(axes) + [(side.group, part) for side in sides]
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
