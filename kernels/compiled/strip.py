# mypy: ignore-errors
"""A strip of whole lines: rows are transposed into columns, and these are written."""

import numpy as np

from kernels.axes import LINE
from kernels.compiled.memory import (
    ask,
    ask_rows,
    copy_line,
    prefetch,
    prefetch_near,
    put,
    stream_pair,
)
from kernels.compiled.room import NARROW, PITCH, RACK
from kernels.compiled.tables import assign, entry
from kernels.compiled.transposition import (
    batch,
    bundle,
    part_lanes,
    parts,
    quarter,
    transpose,
    transpose_to,
)
from kernels.compiled.words import LANES, U1, U2, U4, U8, U16, apart, kernel, within

# Bytes of a row that are asked for before they are needed: by the second level, which takes more
# requests at once (the first drops what it has no room for: the mean of long u2, f4 and f8 matrices
# was 0.56 of np.copyto with it, and 0.82 with the second), and then by the first. The last byte of
# a line, as rows need not begin on one.
AHEAD, SOON = 6 * LINE - 1, 2 * LINE - 1
EDGES_AHEAD = 2  # lines of the source: columns so far ahead are asked for where they jut out
RACK_AHEAD = 4  # how many rows ahead are asked for that go to the rack as a whole


@kernel
def next_rows(first, end, at, further, limits):
    """Which rows are needed when byte `at` + `further` is their turn, and where that is from `at`.

    Beyond the end of the rows these are the ones of the next strip; after the last strip the first
    ones, if more columns follow.
    """
    within()
    width, low, strip, height, more = limits
    if at + further < width:
        return first, end, further
    if low + strip < height:
        return first + strip, min(end + strip, height), further - width
    return (first - low, end - low, further) if more else (end, end, further)


@kernel
def set_rack(count, size, starts):
    """How many lines of each of so many rows the rack takes, and a table of where they start.

    One, unless a few are all that the rows have: then there is room for one more after each row, so
    that no row lies a power of two after another.
    """
    apart()
    lines, pitch = np.int64(1), np.int64(LINE)
    if size <= NARROW:
        lines = min(size, RACK // count - LINE) // LINE
    if lines > 1:
        pitch += lines * LINE
    for i in range(count):
        assign(starts, i, i * pitch)
    return lines


@kernel
def fill_rack(source, rows, low, high, at, lines, limits, room):
    """Bring so many lines, the first of which is byte `at`, of each of some rows together.

    A single line of as many rows is asked for that are needed later, or the rows that follow.
    """
    apart()
    k, end, further = next_rows(low, high, at, AHEAD, limits)
    for i in range(low, high):
        start, to = source + entry(rows, i), room[4] + entry(room[5], i - low)
        if lines > 1:
            later = source + entry(rows, min(i + RACK_AHEAD, high - 1))
            for n in range(0, lines * LINE, LINE):
                prefetch_near(later + n + LINE - 1)
                copy_line(to + n, start + n)
        else:
            if k < end:
                prefetch(source + entry(rows, k) + further)
                k += 1
            copy_line(to, start)


@kernel
def take_bundles(
    element, stage, places, source, rows, low, high, itemsize, asking, at, limits, lanes
):
    """Transpose a line of each of some rows, which is byte `at` of these, into the stage.

    If `places` is not 0, straight to the columns that it is a table of; `stage` is the target then.
    If `asking`, what follows is asked for, and such columns, which begin on a line of the target
    there, are streamed.
    """
    within()
    i = low
    while i < high:
        first = end = further = np.int64(0)
        if asking:
            first, end, further = next_rows(i, i + bundle(element), at, AHEAD, limits)
        for k in range(quarter(element) if places else 0):
            ask_rows(source, rows, first, min(first + LANES, end), further)
            first += LANES
            part_lanes(element, lanes + k * LINE, source, rows, i + k)
        ask_rows(source, rows, first, end, further)
        if places:
            for part in range(parts(element)):
                to = stage + i * itemsize
                transpose_to(element, to, places, source, rows, i, part, lanes, asking)
        else:
            for k in range(bundle(element) // batch(element)):
                row = i + k * batch(element)
                for part in range(parts(element)):
                    transpose(element, stage + (row - low) * itemsize, source, rows, row, part)
        i += bundle(element)


@kernel
def take(stage, source, rows, count, itemsize, lanes):
    """`take_bundles` into the stage by the size of the element."""
    zero = np.int64(0)
    none = zero, zero, zero, zero, zero
    if itemsize == 8:
        take_bundles(U8, stage, zero, source, rows, zero, count, itemsize, zero, zero, none, lanes)
    elif itemsize == 4:
        take_bundles(U4, stage, zero, source, rows, zero, count, itemsize, zero, zero, none, lanes)
    elif itemsize == 2:
        take_bundles(U2, stage, zero, source, rows, zero, count, itemsize, zero, zero, none, lanes)
    elif itemsize == 1:
        take_bundles(U1, stage, zero, source, rows, zero, count, itemsize, zero, zero, none, lanes)
    elif itemsize == 16:
        take_bundles(U16, stage, zero, source, rows, zero, count, itemsize, zero, zero, none, lanes)


@kernel
def give_each(target, places, count, begin, pitch, done, modes):
    """Move so many stage rows to where their columns are at: a strip, or all that is left."""
    within()
    stream, size, strip = modes[0], modes[2], modes[5]
    for m in range(count):
        to = target + entry(places, m)
        edge = -to & (LINE - 1) if stream else np.int64(0)
        at = edge + done if done else np.int64(0)
        end = size if size else edge + done + strip
        put(to + at, begin + m * pitch + at, end - at, stream)


@kernel
def give(target, places, begin, itemsize, done, modes, source, rows, asked):
    """Move as many stage rows as are transposed at a time to where their columns are at.

    The loop is kept this small because stores that are still under way fill a short queue, and only
    what fits in it runs while memory works. While they are, two lines of the source are asked for
    with two of the target: of the rows from one to another, so many bytes further, as `asked`.
    """
    within()
    stream, heads, size, near, strip = modes[0], modes[1], modes[2], not modes[3], modes[5]
    k, end, further = asked
    count, pitch, zero = LINE // itemsize, PITCH * itemsize, np.int64(0)
    if size:
        give_each(target, places, count, begin, pitch, done, modes)
    for m in range(0 if size else count):
        to = target + entry(places, m)
        if stream:
            line = ((to + LINE - 1) & -LINE) + done
            for at in range(line - to, line - to + strip, 2 * LINE):
                if k + 1 < end:
                    ask(source + entry(rows, k) + further, near)
                    ask(source + entry(rows, k + 1) + further, near)
                    k += 2
                stream_pair(to + at, begin + m * pitch + at)
        else:
            for at in range(done, done + strip, LINE):
                copy_line(to + at, begin + m * pitch + at)
    while k < end:
        ask(source + entry(rows, k) + further, near)
        k += 1
    if heads:
        for m in range(count):
            to = target + entry(places, m)
            put(to, begin + m * pitch, -to & (LINE - 1), zero)


@kernel
def ask_edges(target, columns, first, end, heads, size):
    """Ask for the lines of some columns that are written in part: at `heads`, at ends of `size`.

    What is stored after such a line waits for it.
    """
    within()
    for m in range(first, end):
        to = target + entry(columns, m)
        if heads:
            prefetch(to)
        if size:
            prefetch(to + size - 1)


@kernel
def march_each(
    element, target, source, itemsize, rows, columns, low, high, width, done, modes, limits, room
):
    """Move one strip of every column, a line of the source's rows at a time.

    The last one if `size` is not 0: to the end of columns of that many bytes. All there is to do
    where nothing is ragged.
    """
    apart()
    stage, rack, lanes = room[0], room[4], room[6]
    stream, racked, lined = modes[0], modes[3], modes[4]
    size, lines, zero = width * itemsize, np.int64(1), np.int64(0)
    whole = racked and size <= NARROW
    if racked:
        lines = set_rack(high - low, size, room[5])
    j = zero
    while j < width:
        at, places = j * itemsize, columns + 8 * j
        if stream and (modes[1] or modes[2]):
            begin = j + EDGES_AHEAD * LINE // itemsize
            until = min(begin + LINE // itemsize, width)
            ask_edges(target, columns, begin if j else zero, until, modes[1], modes[2])
        start, table, asking = source + at, rows, stream
        if racked:
            n = at // LINE % lines
            if n == 0:
                more = min(lines, (size - at) // LINE)
                fill_rack(start, rows, low, high, at, more, limits, room)
            start, table, asking = rack + n * LINE, room[5] - 8 * low, zero
        to, direct = (target, places) if lined else (stage, zero)
        take_bundles(
            element, to, direct, start, table, low, high, itemsize, asking, at, limits, lanes
        )
        if not lined:
            asked = zero, zero, zero
            if stream:
                further = size if whole else np.int64(SOON)  # the rows of the next strip
                asked = next_rows(low, high, at, further, limits)
            begin = stage - low * itemsize
            give(target, places, begin, itemsize, done, modes, source + at, rows, asked)
        j += LINE // itemsize


@kernel
def march(target, source, itemsize, rows, columns, low, high, width, done, modes, limits, room):
    """`march_each` by the size of the element."""
    apart()
    if itemsize == 8:
        march_each(
            U8, target, source, itemsize, rows, columns, low, high, width, done, modes, limits, room
        )
    elif itemsize == 4:
        march_each(
            U4, target, source, itemsize, rows, columns, low, high, width, done, modes, limits, room
        )
    elif itemsize == 2:
        march_each(
            U2, target, source, itemsize, rows, columns, low, high, width, done, modes, limits, room
        )
    elif itemsize == 1:
        march_each(
            U1, target, source, itemsize, rows, columns, low, high, width, done, modes, limits, room
        )
    elif itemsize == 16:
        march_each(
            U16,
            target,
            source,
            itemsize,
            rows,
            columns,
            low,
            high,
            width,
            done,
            modes,
            limits,
            room,
        )
