"""The axes of a product of pieces as loops: as few as can be, over elements as wide as can be.

All of it is arithmetic on a few Python integers, because a small permutation must not wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kernels.pieces import Pieces

LINE = 64  # bytes of a cache line
TRANSPOSED = (1, 2, 4, 8, 16)  # bytes: elements that there is code for that transposes them
WIDEST = 4 * LINE  # bytes: up to this, short runs are moved as one element


class Axis(NamedTuple):
    """One loop. Strides are in bytes; `pieces` is None for a plain axis of `size` indices."""

    size: int
    source: int
    target: int
    pieces: Pieces | None = None


POINT = Axis(1, 0, 0)  # where a loop must be, but has nothing to do


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


def outermost_first(axes: list[Axis]) -> list[Axis]:
    """The axes by their strides in the target."""
    return sorted(axes, key=lambda axis: (-abs(axis.target), -abs(axis.source)))


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


def fastest(axes: Sequence[Axis]) -> int:
    """Number of the axis along which the source is densest.

    An axis that stands still in the source (a broadcast one) reads nothing new, so it is not the
    dense one.
    """
    return min(range(len(axes)), key=lambda k: (axes[k].source == 0, abs(axes[k].source), -k))


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
