# mypy: ignore-errors
"""Pieces that are runs on both sides."""

import numpy as np

from kernels.axes import LINE
from kernels.compiled.elements import strided
from kernels.compiled.memory import (
    copy_short,
    prefetch,
    put,
    stream_eight,
    stream_four,
    stream_line,
    stream_pair,
)
from kernels.compiled.room import STRIP
from kernels.compiled.tables import cell, entry, piece
from kernels.compiled.words import apart, kernel
from kernels.nest import (
    BASES,
    COUNT,
    FIRST,
    LAST,
    SKIP,
    SOURCE_STEP,
    SOURCE_STRIDE,
    TARGET_STEP,
    TARGET_STRIDE,
)

BAR = 128  # indices of which one run comes after the other: their pages have places in the TLB
BAR_AHEAD = 2048  # bytes: how far ahead runs are asked for


@kernel
def bar(target, source, count, target_step, source_step, size):
    """`put` of as many runs of equal size, at equal steps, past the caches.

    Each asks for one that follows, and for the target's lines that this writes in part. Lines are
    taken in eights, fours and so on, so that equal lines of all runs are loaded by the same
    instruction.
    """
    apart()
    ahead = max(1, BAR_AHEAD // size)
    for q in range(count):
        further, later = np.int64(0), target
        if q + ahead < count:
            further, later = ahead * source_step, target + ahead * target_step
        if later & (LINE - 1):
            prefetch(later)
        if (later + size) & (LINE - 1):
            prefetch(later + size)
        at = -target & (LINE - 1)
        if at:
            copy_short(target, source, at)
        while at + 8 * LINE <= size:
            stream_eight(target + at, source + at, further)
            at += 8 * LINE
        if at + 4 * LINE <= size:
            stream_four(target + at, source + at, further)
            at += 4 * LINE
        if at + 2 * LINE <= size:
            stream_pair(target + at, source + at, further)
            at += 2 * LINE
        if at + LINE <= size:
            stream_line(target + at, source + at, further)
            at += LINE
        if at < size:
            copy_short(target + at, source + at, size - at)
        target += target_step
        source += source_step


@kernel
def runs(target, source, itemsize, stream, k, axes, base):
    """The inner loop over axis `k`, the last one: each piece is a run."""
    steps = cell(axes, k, TARGET_STRIDE), cell(axes, k, SOURCE_STRIDE)
    dense = steps[0] == itemsize and steps[1] == itemsize
    first, count = cell(axes, k, FIRST), cell(axes, k, COUNT)
    end = first + cell(axes, k, BASES)
    row, ahead, behind = first, source, target
    for q in range(count):  # as `piece`, without a division for each
        start, to, n = (
            ahead + entry(base[0], row),
            behind + entry(base[1], row),
            entry(base[2], row),
        )
        row += 1
        if row == end:
            row = first
            ahead += cell(axes, k, SOURCE_STEP)
            behind += cell(axes, k, TARGET_STEP)
        if q == count - 1:
            n = cell(axes, k, LAST)
        if q == 0:
            skip = cell(axes, k, SKIP)
            start += skip * steps[1]
            to += skip * steps[0]
            n -= skip
        if dense:
            # Short runs are not streamed: most of their lines are written in parts.
            put(to, start, n * itemsize, stream if n * itemsize >= STRIP else np.int64(0))
        else:
            strided(to, start, n, steps[0], steps[1], np.int64(0), itemsize)


@kernel
def is_barred(itemsize, k, axes, base):
    """Whether the pieces of axis `k`, the last one, are contiguous and long enough for `bars`."""
    dense = cell(axes, k, TARGET_STRIDE) == itemsize and cell(axes, k, SOURCE_STRIDE) == itemsize
    return dense and entry(base[2], cell(axes, k, FIRST)) * itemsize >= 2 * LINE


@kernel
def bars(target, source, itemsize, k, axes, base):
    """The inner loops over axis `k` and the last one, of which each piece is a run.

    Of some indices of axis `k` one run comes after the other, for these lie at equal steps, which
    the processor foresees: halves of each KiB take 1.4 to 1.6 times np.copyto so, and 2 to 2.4
    times index by index.
    """
    m = k + 1
    steps = cell(axes, k, TARGET_STRIDE), cell(axes, k, SOURCE_STRIDE)
    for p in range(cell(axes, k, COUNT)):
        start, to, rows = piece(axes, base, k, p)
        source_at, target_at = source + start, target + to
        for chunk in range((rows + BAR - 1) // BAR):
            count = min(BAR, rows - chunk * BAR)
            for q in range(cell(axes, m, COUNT)):
                start, to, n = piece(axes, base, m, q)
                size = n * itemsize
                if size >= 2 * LINE:
                    bar(target_at + to, source_at + start, count, steps[0], steps[1], size)
                else:
                    for j in range(count):
                        places = target_at + to + j * steps[0], source_at + start + j * steps[1]
                        copy_short(places[0], places[1], size)
            target_at += BAR * steps[0]
            source_at += BAR * steps[1]
