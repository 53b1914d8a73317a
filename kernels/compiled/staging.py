# mypy: ignore-errors
"""Rectangles that are dense along their rows in the target: by strips, or put together first."""

import numpy as np

from kernels.axes import LINE
from kernels.compiled.elements import strided
from kernels.compiled.memory import ask_rows, copy_short, is_crowded, prefetch, put
from kernels.compiled.room import NARROW, PITCH, STRIP
from kernels.compiled.strip import give_each, march, take
from kernels.compiled.tables import entry
from kernels.compiled.transposition import DIRECT
from kernels.compiled.words import LANE, apart, kernel

BLOCK = 8192  # bytes of rows along which strips go down: what two of them need stays in the caches


@kernel
def fill(source, itemsize, rows, low, high, columns, step, room):
    """Bring rows `low` to `high` of some columns into the stage, one stage row per column.

    By way of a shelf, where each row of a bundle has a line; a few columns, or some that are not
    dense in the source, come one by one.
    """
    apart()
    stage, shelf = room[0], room[1]
    if step != itemsize or columns * itemsize <= 2 * LANE:
        for m in range(columns):
            to, start = stage + m * PITCH * itemsize, source + m * step
            strided(to, start, high - low, itemsize, np.int64(0), rows + 8 * low, itemsize)
    else:
        count, i = LINE // itemsize, low
        while i < high:
            for k in range(min(count, high - i)):
                copy_short(shelf + k * LINE, source + entry(rows, i + k), columns * itemsize)
            take(stage + (i - low) * itemsize, shelf, room[2], count, itemsize, room[6])
            i += count


@kernel
def edges(target, columns, width):
    """The least and the greatest number of bytes from a column's start to its next line."""
    apart()
    least, greatest = np.int64(LINE), np.int64(0)
    for j in range(width):
        edge = -(target + entry(columns, j)) & (LINE - 1)
        least, greatest = min(least, edge), max(greatest, edge)
    return least, greatest


@kernel
def staged(target, source, itemsize, rows, columns, height, width, steps, stream, room):
    """Copy a rectangle that is dense along its rows in the target, strip by strip.

    Element (i, j) goes from rows[i] + j * steps[1] to columns[j] + i * steps[0]; `rows` and
    `columns` are addresses of tables of as many offsets as there are rows and columns. The loop
    along the target's rows is outermost, so that the source is read in as many streams of
    consecutive lines as the strip has rows.
    """
    batch, strip = LINE // itemsize, np.int64(STRIP)
    least, greatest, head, whole = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    if stream:
        least, greatest = edges(target, columns, width)
    racked = lined = False
    crowded = is_crowded(rows, height)
    if not stream:
        lined = True
    elif (crowded or itemsize < DIRECT) and steps[1] == itemsize:
        lined = least == greatest and least % itemsize == 0
        if width * itemsize <= NARROW:
            lined = lined and greatest == 0 and height * itemsize <= NARROW
        racked = crowded and not lined
    if width * itemsize <= NARROW:
        # As much as the rack or the stage holds, so that they are fewer.
        strip = np.int64(NARROW) if racked and itemsize > 1 else STRIP * itemsize
    elif itemsize >= DIRECT and ((stream and lined) or (crowded and not racked)):
        strip = np.int64(STRIP // 2)
    if not stream:  # so that the last strip can begin earlier, with whole bundles
        strip = min(strip, max(height * itemsize & -LINE, np.int64(LINE)))
    if steps[1] == itemsize:
        # Columns up to a line of the source, unless a rack takes all there is.
        if width > 2 * batch and not (racked and width * itemsize <= NARROW):
            head = (-(source + entry(rows, 0)) & (LINE - 1)) // itemsize
        whole = (width - head) // batch * batch
    first, block = np.int64(0), BLOCK // itemsize
    while first < width:
        n, now = width - first, whole
        if whole > block:
            n, now = head + block, block
        strips(
            target,
            source + first * steps[1],
            itemsize,
            rows,
            columns + 8 * first,
            (height, n, head, now, np.int64(n < width - first)),
            steps,
            (stream, racked, lined, strip, least, greatest),
            room,
        )
        first, head, whole = first + n, np.int64(0), whole - now


@kernel
def strips(target, source, itemsize, rows, columns, sizes, steps, ways, room):
    """Copy a rectangle strip by strip, in the ways that `staged` has found.

    Of its columns there are `head` before and some after those that are `whole` lines of rows.
    """
    apart()
    height, width, head, whole, more = sizes
    stream, racked, lined, strip, least, greatest = ways
    size, batch = height * itemsize, LINE // itemsize
    done = np.int64(0)  # bytes after the edge of each column
    while done == 0 or greatest + done < size:
        end = greatest + done + strip
        last = end > size or (end == size and least != greatest)
        low = (least + done) // itemsize if done else np.int64(0)
        high = height if last else -(-end // itemsize)
        bundled_rows = -(-(high - low) // batch) * batch
        if last and bundled_rows <= height:  # bundles that begin with rows which are done
            low = height - bundled_rows
        bundles_end = low + bundled_rows
        skip = whole if bundles_end <= height else np.int64(0)
        heads = done == 0 and greatest > 0 and not last
        direct = lined and not (stream and (heads or last))
        modes = stream, heads, size if last else 0, racked, direct, strip
        j = np.int64(0)
        while j < width:
            n = min(batch if j or not head else head, width - j)
            first, count, until, ahead = j, n, bundles_end, np.int64(0)
            if skip and j == head:
                n = count = skip
                until, ahead = height, more
            elif skip and n > 1:  # a line, of which the rest is done twice
                first, count = min(j, width - batch), batch
            start, places = source + first * steps[1], columns + 8 * first
            if stream and n != skip:
                ask_rows(start, rows, low, high, np.int64(0))
                ask_rows(start, rows, low, high, count * abs(steps[1]) - 1)
            if skip and n > 1:
                limits = count * itemsize, low, bundles_end - low, until, ahead
                march(
                    target,
                    start,
                    itemsize,
                    rows,
                    places,
                    low,
                    bundles_end,
                    count,
                    done,
                    modes,
                    limits,
                    room,
                )
            else:
                fill(start, itemsize, rows, low, high, n, steps[1], room)
                begin, pitch = room[0] - low * itemsize, PITCH * itemsize
                give_each(target, places, n, begin, pitch, done, modes)
            j += n
        done += strip


@kernel
def packed(target, source, itemsize, rows, height, width, steps, stream, room):
    """Copy a rectangle whose columns lie side by side in the target.

    Short columns end within lines, which can't be streamed in parts: so columns are put together
    first, and what does not fill a line yet stays for the next ones. Arguments as of `staged`.
    """
    apart()
    stage, pack, size, zero = room[0], room[3], height * itemsize, np.int64(0)
    batch, pitch = LINE // itemsize, PITCH * itemsize
    begin = end = target & (LINE - 1)  # of what lies in the pack; it begins with a whole line
    line = target - begin
    for k in range((width + batch - 1) // batch):  # a step that may be 0 would have to be reported
        j = k * batch
        n = min(batch, width - j)
        ask_wide(source, itemsize, rows, height, width, j, batch)
        fill(source + j * steps[1], itemsize, rows, zero, height, n, steps[1], room)
        for m in range(n):
            copy_short(pack + end, stage + m * pitch, size)
            end += size
        whole = end & -LINE
        if whole:
            put(line + begin, pack + begin, whole - begin, stream)
            copy_short(pack, pack + whole, np.int64(LINE))
            line, begin, end = line + whole, np.int64(0), end - whole
    copy_short(line + begin, pack + begin, end - begin)


@kernel
def ask_wide(source, itemsize, rows, height, width, j, batch):
    """Prefetch part of what follows batch `j` of a rectangle, four lines of a row at a time.

    A few dozen rows that lie far apart are read twice as fast so as line by line.
    """
    apart()
    turn = j // batch & 3
    start = (j - turn * batch + 4 * batch) * itemsize
    end = min(start + 4 * batch * itemsize, width * itemsize)
    for k in range(height * turn // 4, height * (turn + 1) // 4):
        for at in range(start, end, LINE):
            prefetch(source + entry(rows, k) + at)
