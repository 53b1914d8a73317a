# mypy: ignore-errors
"""The move itself: a product of pieces, whose inner loops are picked by the tables."""

import numpy as np
from numba import types

from kernels.axes import LINE
from kernels.box import BOX
from kernels.compiled.elements import LONG, TILE, patch, walk, walk_parts
from kernels.compiled.memory import fence
from kernels.compiled.room import (
    LANED,
    PACK,
    PITCH,
    RACK,
    RACK_ROWS,
    SHELF,
    STAGE,
    STRIP,
    workspace,
)
from kernels.compiled.runs import bars, is_barred, runs
from kernels.compiled.staging import packed, staged
from kernels.compiled.tables import assign, cell, entry, piece
from kernels.compiled.transposition import DIRECT, is_bundled
from kernels.compiled.words import LANE, kernel
from kernels.nest import CHUNK, COUNT, GROUP, SOURCE_STRIDE, TARGET_STRIDE


@kernel
def tiles(target, source, itemsize, stream, k, axes, base, offsets, room):
    """The inner loops over axes `k` and `k` + 1: each pair of pieces is cut into rectangles.

    Each is copied in the way that fits it: here, for Numba goes over all that lies below at every
    level of calls again, which takes half a second.
    """
    m = k + 1
    down, across = cell(axes, k, CHUNK), cell(axes, m, CHUNK)
    strides = cell(axes, k, TARGET_STRIDE), cell(axes, k, SOURCE_STRIDE)
    others = cell(axes, m, TARGET_STRIDE), cell(axes, m, SOURCE_STRIDE)
    groups = cell(axes, k, GROUP), cell(axes, m, GROUP)
    columns = offsets + down * groups[0] * 8
    steps = (
        strides[0] // groups[0],
        others[1] // groups[1],
        strides[1] if groups[0] == 1 else 0,
        others[0] if groups[1] == 1 else 0,
    )
    dense, odd = steps[0] == itemsize, not is_bundled(itemsize)
    one, none = np.int64(1), np.int64(0)
    packs = dense and itemsize < LANE and steps[1] == itemsize
    for q in range(cell(axes, k, COUNT)):
        row_start, row_to, n = piece(axes, base, k, q)
        for p in range(cell(axes, m, COUNT)):
            start, to, c = piece(axes, base, m, p)
            start, to = start + source + row_start, to + target + row_to
            for chunk in range(-(-n // down) * -(-c // across)):
                i, j = chunk // -(-c // across) * down, chunk % -(-c // across) * across
                place = to + i * strides[0] + j * others[0]
                first = start + i * strides[1] + j * others[1]
                height, width = min(down, n - i) * groups[0], min(across, c - j) * groups[1]
                size = height * itemsize
                beside = packs and steps[3] == size and size <= PITCH
                thin = not dense or size < LINE
                enough = stream != 0 and (itemsize < DIRECT or size >= 2 * LINE)
                if odd:
                    counts, steps_to = (one, width, height), (none, steps[3], steps[0])
                    by = none, steps[1], steps[2]
                    walk_parts(place, first, itemsize, counts, steps_to, by, LONG)
                elif beside and (height >= TILE if thin else enough):
                    packed(place, first, itemsize, offsets, height, width, steps, stream, room)
                elif thin:
                    patch(place, first, itemsize, offsets, columns, height, width, steps, stream)
                else:
                    past = stream if size >= STRIP else 0
                    staged(
                        place, first, itemsize, offsets, columns, height, width, steps, past, room
                    )


def _move_product(target, source, itemsize, stream, inner, rows, axes, columns, base_at, offsets):
    """Move a product of pieces. The outer axes are an odometer over (piece, index in the piece).

    The tables come as addresses, with the rows of `axes` and the columns of `base`; `base` goes on
    as the addresses of its rows. There is at least one outer axis, two for runs, so that the inner
    loops are compiled in one place only.
    """
    base = base_at, base_at + 8 * columns, base_at + 16 * columns
    outer = rows - inner
    barred = inner == 1 and stream != 0 and is_barred(itemsize, outer, axes, base)
    if barred:
        outer -= 1
    # Stage and shelf from a line on, the table of where the shelf's rows start, the pack, the rack
    # with such a table, and the odometer.
    stage = (workspace() + LINE - 1) & -LINE
    lanes = stage + STAGE + SHELF
    lines = lanes + LANED
    pack = lines + 8 * SHELF // LINE
    rack = pack + PACK
    room = (stage, stage + STAGE, lines, pack, rack, rack + RACK, lanes)
    for k in range(SHELF // LINE):
        assign(room[2], k, k * LINE)
    # Per outer axis: next piece, indices done and indices in this piece, and the address of both
    # sides with all axes further out added in.
    state = rack + RACK + 8 * RACK_ROWS
    for k in range(3):
        assign(state, k, 0)
    k = np.int64(0)
    while k >= 0:
        now, before = state + 40 * k, state + 40 * (k - 1)
        if entry(now, 1) < entry(now, 2):
            assign(now, 1, entry(now, 1) + 1)
            assign(now, 3, entry(now, 3) + cell(axes, k, SOURCE_STRIDE))
            assign(now, 4, entry(now, 4) + cell(axes, k, TARGET_STRIDE))
        elif entry(now, 0) < cell(axes, k, COUNT):
            start, to, n = piece(axes, base, k, entry(now, 0))
            assign(now, 0, entry(now, 0) + 1)
            assign(now, 1, 1)
            assign(now, 2, n)
            assign(now, 3, start + (entry(before, 3) if k > 0 else source))
            assign(now, 4, to + (entry(before, 4) if k > 0 else target))
        else:
            k -= 1
            continue
        source_at, target_at = entry(now, 3), entry(now, 4)
        if k < outer - 1:
            k += 1
            for i in range(3):
                assign(now + 40, i, 0)
        elif barred:
            bars(target_at, source_at, itemsize, outer, axes, base, room)
        elif inner == BOX:
            walk(target_at, source_at, itemsize, outer, axes)
        elif inner == 1:
            runs(target_at, source_at, itemsize, stream, outer, axes, base)
        else:
            tiles(target_at, source_at, itemsize, stream, outer, axes, base, offsets, room)
    if stream:
        fence()


def move_entry():
    """The move and its signature."""
    return _move_product, types.void(*[types.int64] * 10)


#: What :mod:`kernels.loading` compiles: by kind, a function that returns a function and its
#: signature. All arguments are int64 or pointers, nothing is returned; nothing may be allocated or
#: raised: no np.zeros, no range() with a step that is not constant, and error_model="numpy".
ENTRIES = {"move": move_entry}
