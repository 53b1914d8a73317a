"""Which moves are walked from element to element, and in which order.

Rectangles are moved line by line, and that takes some setting up. Where they have few rows or
columns, or nothing is dense, or all is in the caches, plain loops over the elements are faster: a
box of four axes, the innermost of which is taken a part at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from kernels.axes import LINE, POINT, TRANSPOSED, Axis, fastest
from kernels.rectangles import Side

BOX = 4  # axes
# What rectangles need, by the size of elements: so many rows and columns if they are in the caches,
# and if they are not.
CACHED = {1: (20, 64), 2: (20, 32), 4: (20, 32), 8: (28, 32), 16: (512, 16)}
LARGE = {1: (16, 64), 2: (16, 32), 4: (16, 16), 8: (24, 8), 16: (32, 8)}
WIDE, MANY, FEW = 8, 100, 8  # of elements of so many bytes: so many rows need few columns only
# The same for narrow elements whose columns of less than a line are put together first.
NARROW, PACKED = (1, 2), (16, 64)
GAPPED = 400, 16  # the same for large ones that are not dense
# Rows this far from multiples of CROWDED share a few sets of the first level's cache.
CROWDED, BESIDE = 2048, LINE
# A loop of fewer indices than SHORT costs more than its elements; then as many indices as PART of
# another one are better, if they lie within so many bytes.
SHORT, PART, NEAR = 8, 64, 4096
# Long loops over rows are cut into parts, of which the first level's cache holds a line each; where
# what is written is not in the caches, longer parts are better.
LONG, LONGER, LINES = 256, 512, 512


def is_walked(sides: Sequence[Side], itemsize: int, stream: bool) -> bool:
    """Whether elements are walked that could be moved as runs, or as rectangles with these sides.

    The numbers are measured: in-cache moves of 200 KB and 2 MB, and 24 MB past the caches, with 2
    to 4,000 rows and 2 to 256 columns. Elements of sizes that no code transposes are walked always:
    of 24 bytes as rectangles they took 1 to 4 times as long, of 3 bytes 2 to 9 times.
    """
    if any(side.axis.pieces is not None for side in sides):
        return False
    rows, columns = sides[0], sides[-1]
    dense = rows.axis.target == rows.group * itemsize
    dense = dense and columns.axis.source == columns.group * itemsize
    if len(sides) == 1:
        return not dense
    if itemsize not in TRANSPOSED:
        return True
    height, width = (side.group * side.axis.size for side in sides)
    if not dense:
        few = height < GAPPED[0] or width < GAPPED[1]
        return not stream or few or (itemsize == 1 and not is_crowded(rows.axis.source))
    if height * itemsize < LINE:
        beside = columns.group == 1 and columns.axis.target == height * itemsize
        many = height >= PACKED[0] and width >= PACKED[1]
        return not (beside and many and itemsize in NARROW)
    return not _is_worth_a_stage(height, width, itemsize, stream, rows.axis.source)


def _is_worth_a_stage(height: int, width: int, itemsize: int, stream: bool, step: int) -> bool:
    """Whether dense rectangles of so many rows, at such a distance, and columns are."""
    if itemsize >= WIDE and width >= FEW:
        if height > MANY and itemsize == WIDE:
            return True
        if height >= PACKED[0] and is_crowded(step):
            return True
    least = (LARGE if stream else CACHED)[itemsize]
    return height >= least[0] and width >= least[1]


def is_crowded(step: int) -> bool:
    """Whether rows at this distance in bytes share a few sets of the first level's cache."""
    return (step + BESIDE) % CROWDED <= 2 * BESIDE


def box(axes: list[Axis], stream: bool) -> tuple[list[Axis], list[Axis], int]:
    """The outer axes, the four that are walked, and how many indices of the last one at a time.

    The innermost is the fastest one in the target, then in the source, unless it is short: then the
    longest one of which a part lies close together.

    >>> outer, inner, part = box([Axis(1000, 48, 48), Axis(2, 8, 24), Axis(3, 16, 8)], False)
    >>> [axis.size for axis in inner], part
    ([1, 2, 3, 1000], 64)
    """
    rows, columns = len(axes) - 1, fastest(axes)
    long = LONGER if stream else LONG
    tall = rows != columns and axes[rows].size > long
    sides = [rows] if rows == columns else [columns, rows]
    far = [k for k in range(rows - 1, -1, -1) if k != columns and axes[k].pieces is None]
    far = far[: BOX - len(sides) - tall]
    if len(far) == 2 and _goes_inside(axes[far[1]], axes[far[0]]):
        far.reverse()
    chosen = [*reversed(far), *sides]
    within = [k for k in chosen if k > columns]
    if prod(axes[k].size for k in within) <= LINES:  # what is read is there for the next column
        chosen = [*[k for k in chosen if k <= columns], *within]
    inner = [axes[k] for k in chosen]
    outer = [axis for k, axis in enumerate(axes) if k not in chosen]
    part = axes[rows].size
    if tall:  # a whole matrix before the next one
        part = long
        inner.insert(-2, POINT)
    elif part < SHORT:
        near = [k for k, axis in enumerate(inner) if _is_near(axis)]
        longest = max(near, key=lambda k: inner[k].size, default=len(inner) - 1)
        if inner[longest].size > part:
            part = PART
            inner.append(inner.pop(longest))
    inner = [POINT] * (BOX - len(inner)) + inner
    return outer or [POINT], inner, part


def _goes_inside(outer: Axis, other: Axis) -> bool:
    """Whether an axis is short, and the source, which is then read once, denser along it."""
    return outer.size <= SHORT and abs(outer.source) < abs(other.source)


def _is_near(axis: Axis) -> bool:
    return max(abs(axis.source), abs(axis.target)) * min(axis.size, PART) <= NEAR
