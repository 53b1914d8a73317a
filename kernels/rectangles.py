"""The inner loops of a move: the axes that are dense in the target and in the source.

The same axis gives runs, two axes give rectangles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.axes import LINE, POINT, TRANSPOSED, Axis, fastest
from kernels.pieces import Indices, Pieces

GROUPED = 8192  # bytes: sides of rectangles shorter than this take in another axis
ENOUGH = 512, 64  # bytes: rows and columns of this size leave an axis that both want to the other
TABLE = 8192  # entries of a table of offsets: 64 KiB
# Bytes of runs that are chained where they lie side by side in the target, and how many rows of
# them must lie at equal steps, or nothing is asked for ahead (rows one by one: 23.6 ms, and 16.3 if
# they are not chained).
CHAINED, ROWS = (2 * LINE, 2048), 8


class Side(NamedTuple):
    """One side of the rectangles: a slow axis, and plain faster ones that lie densely below it.

    In the memory that the side is dense in, `group` indices of the faster axes make up one index of
    the slow one; `offsets` says where these lie in the other memory, in bytes.
    """

    axis: Axis
    group: int = 1
    offsets: tuple[int, ...] = (0,)


def innermost(axes: list[Axis], itemsize: int) -> tuple[list[Axis], list[Side]]:
    """The outer axes and the inner loops, three at least: one side is a run, two are rectangles."""
    column = fastest(axes)
    if column == len(axes) - 1:
        axes = chained(axes, itemsize)
        outer, sides = axes[:-1], [Side(axes[-1])]
    else:
        outer = [*axes[:column], *axes[column + 1 : -1]]
        rows, columns = Side(axes[-1]), Side(axes[column])
        sides = [rows, columns]
        if itemsize in TRANSPOSED:
            sides = grow(outer, rows, columns, itemsize)
    outer = [*[POINT] * (3 - len(sides) - len(outer)), *outer]
    return outer, sides


def chained(axes: list[Axis], itemsize: int) -> list[Axis]:
    """Make runs that lie side by side in the target the pieces of one axis, the last one.

    >>> chained([Axis(9, 9999, 5120), Axis(10, 1024, 512), Axis(64, 8, 8)], 8)[1].pieces.size
    640
    """
    if len(axes) < 3:
        return axes
    rows, apart, run = axes[-3:]
    size = run.size * itemsize
    together = rows.size if rows.pieces is None else rows.size // rows.pieces.count
    if (
        run.pieces is not None
        or apart.pieces is not None
        or not run.source == run.target == itemsize
        or apart.target != size
        or apart.source % itemsize
        or not CHAINED[0] <= size < CHAINED[1]
        or together < ROWS
    ):
        return axes
    n, step, zero = run.size, apart.source // itemsize, np.zeros(1, np.int64)
    pieces = Pieces(zero, zero, np.full(1, n), apart.size, step, n, n)
    return [*axes[:-2], Axis(pieces.size, itemsize, itemsize, pieces)]


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
