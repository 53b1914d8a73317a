# mypy: ignore-errors
"""Copies element by element: along a column, through a tile, or a walk through a box."""

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.axes import LINE
from kernels.compiled.memory import copy_short, is_crowded, prefetch
from kernels.compiled.tables import cell, entry
from kernels.compiled.words import (
    ANY,
    INDEX,
    P2,
    P4,
    P8,
    P16,
    P32,
    P64,
    P128,
    PAIRS,
    U1,
    U2,
    U4,
    U8,
    U16,
    WIDTHS,
    apart,
    ir,
    kernel,
    pointer,
    within,
)
from kernels.nest import CHUNK, LAST, SOURCE_STRIDE, TARGET_STRIDE

TILE = 16  # elements: 16 x 16 keeps both sides of a tile in L1 for every element width
LONG = 128  # elements: columns of a tile whose rows lie anyhow and are in the caches


@intrinsic
def copy_fixed(typingctx, element, target, source, itemsize):
    """Copy one element between addresses that need no alignment."""
    width = PAIRS.get(element) or WIDTHS[element]

    def codegen(context, builder, sig, args):
        _, to, start, size = args
        if width:
            word = ir.IntType(8 * width)
            if width > 8:
                word = ir.VectorType(ir.IntType(64), width // 8)
            places = [(to, start)]
            if element in PAIRS:
                second = builder.sub(size, ir.Constant(INDEX, width))
                places.append((builder.add(to, second), builder.add(start, second)))
            values = [builder.load(pointer(builder, at, word), align=1) for _, at in places]
            for (at, _), value in zip(places, values, strict=True):
                builder.store(value, pointer(builder, at, word), align=1)
        else:
            cgutils.raw_memcpy(
                builder, pointer(builder, to), pointer(builder, start), size, 1, align=1
            )
        return context.get_dummy_value()

    return types.none(element, types.int64, types.int64, types.int64), codegen


@kernel
def copy_each(element, target, source, n, target_step, source_step, rows, itemsize):
    """Copy `n` elements, each so many bytes after the one before.

    If `rows` is not 0, a table there says where they start in the source.
    """
    apart()
    for i in range(n):
        start = source + (entry(rows, i) if rows else i * source_step)
        if element is None:
            copy_short(target + i * target_step, start, itemsize)
        else:
            copy_fixed(element, target + i * target_step, start, itemsize)


@kernel
def strided(target, source, n, target_step, source_step, rows, itemsize):
    """`copy_each` by the size of the element."""
    apart()
    if itemsize == 8:
        copy_each(U8, target, source, n, target_step, source_step, rows, itemsize)
    elif itemsize == 4:
        copy_each(U4, target, source, n, target_step, source_step, rows, itemsize)
    elif itemsize == 2:
        copy_each(U2, target, source, n, target_step, source_step, rows, itemsize)
    elif itemsize == 1:
        copy_each(U1, target, source, n, target_step, source_step, rows, itemsize)
    elif itemsize == 16:
        copy_each(U16, target, source, n, target_step, source_step, rows, itemsize)
    else:
        copy_each(ANY, target, source, n, target_step, source_step, rows, itemsize)


@kernel
def walk_each(element, target, source, itemsize, counts, to, by):
    """Copy a box of three plain axes element by element: so many indices at such steps in bytes."""
    apart()
    for p in range(counts[0]):
        place, start = target + p * to[0], source + p * by[0]
        for _ in range(counts[1]):
            for i in range(counts[2]):
                copy_fixed(element, place + i * to[2], start + i * by[2], itemsize)
            place += to[1]
            start += by[1]


@kernel
def walk_box(target, source, itemsize, counts, to, by):
    """`walk_each` by the size of the element."""
    within()
    if itemsize == 8:
        walk_each(U8, target, source, itemsize, counts, to, by)
    elif itemsize == 4:
        walk_each(U4, target, source, itemsize, counts, to, by)
    elif itemsize == 2:
        walk_each(U2, target, source, itemsize, counts, to, by)
    elif itemsize == 1:
        walk_each(U1, target, source, itemsize, counts, to, by)
    elif itemsize == 16:
        walk_each(U16, target, source, itemsize, counts, to, by)
    elif itemsize == 3:
        walk_each(P2, target, source, itemsize, counts, to, by)
    elif itemsize < 8:
        walk_each(P4, target, source, itemsize, counts, to, by)
    elif itemsize <= 16:
        walk_each(P8, target, source, itemsize, counts, to, by)
    elif itemsize <= 32:
        walk_each(P16, target, source, itemsize, counts, to, by)
    elif itemsize <= 64:
        walk_each(P32, target, source, itemsize, counts, to, by)
    elif itemsize <= 128:
        walk_each(P64, target, source, itemsize, counts, to, by)
    elif itemsize <= 256:
        walk_each(P128, target, source, itemsize, counts, to, by)
    else:
        walk_each(ANY, target, source, itemsize, counts, to, by)


@kernel
def walk_parts(target, source, itemsize, counts, to, by, part):
    """`walk_box` by so many indices of the last axis at a time.

    The lines that these touch are still in the first level's cache when the axes before come to
    their next index.
    """
    apart()
    left = counts[2]
    while left > 0:
        walk_box(target, source, itemsize, (counts[0], counts[1], min(part, left)), to, by)
        target += part * to[2]
        source += part * by[2]
        left -= part


@kernel
def walk(target, source, itemsize, k, axes):
    """Copy a box of four plain axes, of which `k` is the first, element by element."""
    apart()
    p, j, i = k + 1, k + 2, k + 3
    counts = cell(axes, p, LAST), cell(axes, j, LAST), cell(axes, i, LAST)
    to = cell(axes, p, TARGET_STRIDE), cell(axes, j, TARGET_STRIDE), cell(axes, i, TARGET_STRIDE)
    by = cell(axes, p, SOURCE_STRIDE), cell(axes, j, SOURCE_STRIDE), cell(axes, i, SOURCE_STRIDE)
    for q in range(cell(axes, k, LAST)):
        place = target + q * cell(axes, k, TARGET_STRIDE)
        start = source + q * cell(axes, k, SOURCE_STRIDE)
        walk_parts(place, start, itemsize, counts, to, by, cell(axes, i, CHUNK))


@kernel
def within_line(step):
    """How many steps a line has, one at least."""
    return max(np.int64(1), LINE // max(abs(step), np.int64(1)))


@kernel
def ask_each(start, count, step, skip):
    """Prefetch every so many of some elements at equal steps, and the last one."""
    within()
    k = np.int64(0)
    while k < count:
        prefetch(start + k * step)
        k += skip
    prefetch(start + (count - 1) * step)


@kernel
def patch(target, source, itemsize, rows, columns, height, width, steps, stream):
    """Copy a rectangle in tiles, a few elements of a column at a time; arguments as of `staged`.

    So lines of the target are written once, though it is not dense; what comes next on both sides
    is asked for, if the target is larger than the caches.
    """
    apart()
    skips = within_line(steps[0]), within_line(steps[1])
    count = TILE if stream or is_crowded(rows, height) else LONG
    for first in range(0, width, TILE):
        n = min(TILE, width - first)
        for part in range((height + count - 1) // count):
            low = part * count
            m = min(count, height - low)
            if stream:
                for i in range(low + 2 * count, min(low + 3 * count, height)):
                    ask_each(source + entry(rows, i) + first * steps[1], n, steps[1], skips[1])
            for j in range(first, first + n):
                place = target + entry(columns, j) + low * steps[0]
                if stream:
                    ask_each(place + 4 * count * steps[0], m, steps[0], skips[0])
                start = source + j * steps[1]
                strided(place, start, m, steps[0], np.int64(0), rows + 8 * low, itemsize)
