# mypy: ignore-errors
"""Pieces that are runs on both sides."""

import numpy as np

from kernels.axes import LINE
from kernels.compiled.elements import strided
from kernels.compiled.memory import (
    copy_short,
    prefetch,
    put,
    stream_joint,
    stream_line,
    stream_pair,
)
from kernels.compiled.room import STRIP
from kernels.compiled.tables import assign, cell, entry, piece
from kernels.compiled.words import apart, kernel, within
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

BAR = 128  # indices of which one chain comes after the other: their pages have places in the TLB
CHAIN = 4096  # bytes of runs that lie side by side in the target
PAGE = 4096  # bytes, the least there is
BAR_AHEAD = 4096  # bytes: how far ahead chains are asked for


@kernel
def is_within_page(address):
    """Whether a whole line may be read there if its first byte may, or its last one."""
    return address & (PAGE - 1) <= PAGE - LINE


@kernel
def join(target, first, second, size, scrap):
    """Stream a line: `size` bytes that are at `first`, and what follows these at `second`."""
    within()
    if is_within_page(first) and is_within_page(second):
        stream_joint(target, first, second, size)
    else:
        copy_short(scrap, first, size)
        copy_short(scrap + size, second + size, LINE - size)
        stream_line(target, scrap)


@kernel
def link(target, source, size, begins, follows, scrap):
    """Copy a run of a chain past the caches.

    A line that it shares with the run before is left to that one, unless the chain `begins` here;
    one that it shares with the next run, which is at `follows`, is made whole by that. By pairs of
    lines: one by one took a third longer, by fours a tenth.
    """
    within()
    at = -target & (LINE - 1)
    if at and begins:
        copy_short(target, source, at)
    while at + 2 * LINE <= size:
        stream_pair(target + at, source + at)
        at += 2 * LINE
    if at + LINE <= size:
        stream_line(target + at, source + at)
        at += LINE
    if at < size:
        if follows:
            join(target + at, source + at, follows - (size - at), size - at, scrap)
        else:
            copy_short(target + at, source + at, size - at)


@kernel
def bar(target, source, chain, links, count, target_step, source_step, scrap):
    """Copy as many chains of runs, at equal steps.

    `chain` is a table: where each run of the first one starts in the source, in the target, and its
    size in bytes. What a later one needs is asked for at once, before anything is streamed: lines
    asked for one by one between those that are streamed wait behind these, and all took half as
    long again. Of a source without gaps the processor foresees every line by itself.
    """
    apart()
    first, last = entry(chain, 1), 3 * links - 3
    total = entry(chain, last + 1) + entry(chain, last + 2) - first
    asked = links if source_step != total else np.int64(0)
    ahead = max(1, BAR_AHEAD // total)
    for j in range(count):
        if j + ahead < count:
            for q in range(asked):
                later = source + entry(chain, 3 * q) + ahead * source_step
                size = entry(chain, 3 * q + 2)
                for at in range(0, size, LINE):
                    prefetch(later + at)
                prefetch(later + size - 1)
            later = target + first + ahead * target_step
            if later & (LINE - 1):
                prefetch(later)
            if (later + total) & (LINE - 1):
                prefetch(later + total)
        for at in range(0, 3 * links, 3):
            start, to = source + entry(chain, at), target + entry(chain, at + 1)
            follows = source + entry(chain, at + 3) if at < last else np.int64(0)
            link(to, start, entry(chain, at + 2), at == 0, follows, scrap)
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
def forge(itemsize, axes, base, m, q, chain):
    """A chain: pieces of axis `m` from `q` on that lie side by side in the target.

    Returns how many pieces there are in it, none if piece `q` is too short for one.
    """
    apart()
    links, end = np.int64(0), np.int64(0)
    while q + links < cell(axes, m, COUNT):
        start, to, n = piece(axes, base, m, q + links)
        size = n * itemsize
        if size < 2 * LINE or (links and (to != end or to + size - entry(chain, 1) > CHAIN)):
            break
        assign(chain, 3 * links, start)
        assign(chain, 3 * links + 1, to)
        assign(chain, 3 * links + 2, size)
        links, end = links + 1, to + size
    return links


@kernel
def bars(target, source, itemsize, k, axes, base, room):
    """The inner loops over axis `k` and the last one, of which each piece is a run.

    Of some indices of axis `k` one chain of runs comes after the other.
    """
    m, chain, scrap = k + 1, room[6], room[0]
    steps = cell(axes, k, TARGET_STRIDE), cell(axes, k, SOURCE_STRIDE)
    for p in range(cell(axes, k, COUNT)):
        start, to, rows = piece(axes, base, k, p)
        source_at, target_at = source + start, target + to
        for chunk in range((rows + BAR - 1) // BAR):
            count = min(BAR, rows - chunk * BAR)
            q = np.int64(0)
            while q < cell(axes, m, COUNT):
                links = forge(itemsize, axes, base, m, q, chain)
                if links:
                    bar(target_at, source_at, chain, links, count, steps[0], steps[1], scrap)
                else:
                    start, to, n = piece(axes, base, m, q)
                    for j in range(count):
                        places = target_at + to + j * steps[0], source_at + start + j * steps[1]
                        copy_short(places[0], places[1], n * itemsize)
                q += max(links, np.int64(1))
            target_at += BAR * steps[0]
            source_at += BAR * steps[1]
