# mypy: ignore-errors
"""The compiled move: addresses and byte strides in, bytes moved. Importing this imports numba.

One function, :func:`_move_product`, for all sizes of elements and any number of axes; it knows no
dtypes. Within it, loops over elements of 1, 2, 4, 8 and 16 bytes have loads, shuffles and stores of
that width, as vectors in LLVM's portable form; the width is carried by the *type* of their first
argument (U1 to U16, and ANY for every other size).

ENTRIES, at the end, is what is compiled for use from outside.

The loop nest arrives in three int64 tables, made by :mod:`kernels.nest`:

``axes[k]``
    one row per axis, outermost first; the columns are the constants below.
``base``
    three rows: source offset and target offset in bytes, length in indices, of the base pieces of
    all axes, one axis after the other; an axis starts at its column FIRST.
``offsets``
    for tiles only: where each row of a rectangle starts in the source, then where each column
    starts in the target, in bytes. It comes as an address.

The last ``inner`` rows of ``axes`` are the inner loops: 1 means runs, 2 means rectangles, and BOX a
walk from element to element. Runs that are streamed take in the row before.

A rectangle that is dense along its rows in the target is moved in three steps, so that memory sees
whole cache lines on both sides and nothing else::

    source   64 bytes of each row        stage (in L1)                      target
    row r    | c c+1 ... |  --transpose-->   column c    | r r+1 ... |  --whole lines-->  column c
    row r+1  | c c+1 ... |   in registers    column c+1  | r r+1 ... |

Where the target is larger than the caches the lines are streamed past them (nontemporal stores),
which saves reading what is overwritten. Each column has its own offset to the next line, so a strip
of the stage holds one line more than it gives away. See *What Every Programmer Should Know About
Memory* (Drepper, 2007), section 6.1.

Where all columns have the same offset to the next line they need no stage: registers hold whole
lines, and these are streamed at once. Elements of one and two bytes are so many to a line that four
rows at a time are parted into lanes of 16 bytes first. Wider ones gain nothing, except by shorter
strips, where rows lie a power of two apart: these share a few sets of the caches, which lose the
lines of some before all are read. If such rows need the stage, they come by way of a rack, a line
of each at a time or, where a few lines of each are all, whole: a plain copy has many lines under
way at once, a transposition only a few.
"""

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.axes import LINE
from kernels.box import BOX, CROWDED
from kernels.nest import (
    BASES,
    CHUNK,
    COLUMNS,
    COUNT,
    FIRST,
    GROUP,
    LAST,
    SKIP,
    SOURCE_STEP,
    SOURCE_STRIDE,
    TARGET_STEP,
    TARGET_STRIDE,
)

ir = cgutils.ir  # llvmlite, as numba has it

# Arguments whose type says how wide an element is.
U1, U2, U4, U8, U16, ANY = np.uint8(0), np.uint16(0), np.uint32(0), np.uint64(0), 0j, None
WIDTHS = {
    types.uint8: 1,
    types.uint16: 2,
    types.uint32: 4,
    types.uint64: 8,
    types.complex128: 16,
    types.none: 0,
}
# Others say how wide two words are that make up an element; they overlap or touch.
P2, P4, P8, P16 = np.int8(0), np.int16(0), np.int32(0), np.int64(0)
P32, P64, P128 = np.float32(0), np.float64(0), np.complex64(0)
PAIRS = {
    types.int8: 2,
    types.int16: 4,
    types.int32: 8,
    types.int64: 16,
    types.float32: 32,
    types.float64: 64,
    types.complex64: 128,
}

TILE = 16  # elements: 16 x 16 keeps both sides of a tile in L1 for every element width
LONG = 128  # elements: columns of a tile whose rows lie anyhow and are in the caches
LANE = 16  # bytes: within these all machines' vector registers interleave
LANES = LINE // LANE  # registers hold a line; where they are narrower, LLVM takes several
STRIP = 256  # bytes of a target row that are staged at a time, as a rule
# Bytes between stage rows, for each byte of an element: a line more, and what a bundle sticks out.
PITCH = STRIP + 2 * LINE
WIDE_PITCH = PITCH + 128  # the same in all for elements of up to a line that have no bundles

NARROW = 512  # bytes: rows of rectangles up to this are staged in longer strips
BLOCK = 8192  # bytes of rows along which strips go down: what two of them need stays in the caches
FIRST_LEVEL, SECOND_LEVEL = 1, 2  # of the caches
# Bytes of a row that are asked for before they are needed: by the second level, which takes more
# requests at once (the first drops what it has no room for: the mean of long u2, f4 and f8 matrices
# was 0.56 of np.copyto with it, and 0.82 with the second), and then by the first. The last byte of
# a line, as rows need not begin on one.
AHEAD, SOON = 6 * LINE - 1, 2 * LINE - 1
EDGES_AHEAD = 2  # lines of the source: so many columns ahead are those asked for that jut out
RACK_AHEAD = 4  # how many rows ahead are asked for that go to the rack as a whole
BAR = 128  # indices of which one run comes after the other: their pages have places in the TLB
BAR_AHEAD = 2048  # bytes: how far ahead runs are asked for
DIRECT = 4  # bytes: narrower elements of a bundle do not fit into registers
MOST_AXES = 64  # NumPy's own limit

# Bytes of the workspace.
STAGE = LINE * PITCH  # a row for each byte of a line, or 16 rows of WIDE_PITCH
SHELF = LINE * LINE  # the largest bundle of rows
LANED = LINE * LINE  # the same
PACK = LINE * (PITCH + 1)  # as many columns as a line has bytes, and what was left over
RACK_ROWS = STRIP + 2 * LINE  # what a strip of bytes needs
RACK = 1024 * LINE  # some lines of each of these
TABLES = 8 * (SHELF // LINE + RACK_ROWS + 5 * MOST_AXES)
WORKSPACE = LINE + STAGE + LANED + SHELF + PACK + RACK + TABLES

INDEX = ir.IntType(64)

# Of everything compiled; only the entry point is ever called from Python.
kernel = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _pointer(builder, address, kind=None, offset=0):
    if offset:
        address = builder.add(address, ir.Constant(INDEX, offset))
    return builder.inttoptr(address, (kind or ir.IntType(8)).as_pointer())


def _vector(width, size):
    """`size` bytes as a vector of elements; 16-byte elements are two words."""
    bits = 64 if width == 16 else 8 * width
    return ir.VectorType(ir.IntType(bits), 8 * size // bits)


def _mask(indices):
    word = ir.IntType(32)
    return ir.Constant(ir.VectorType(word, len(indices)), [ir.Constant(word, i) for i in indices])


@intrinsic
def apart(typingctx):
    """Keep the function that calls this out of its callers: what is inlined is compiled again."""

    def codegen(context, builder, sig, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.none(), codegen


@intrinsic
def within(typingctx):
    """Put the function that calls this into its callers.

    A call stores what it must keep, and stores queue up behind those that are still on their way to
    memory: calls between lines that are streamed took up to a tenth of the time.
    """

    def codegen(context, builder, sig, args):
        builder.function.attributes.add("alwaysinline")
        return context.get_dummy_value()

    return types.none(), codegen


@intrinsic
def entry(typingctx, table, index):
    """An entry of a table of int64 at an address."""

    def codegen(context, builder, sig, args):
        return builder.load(builder.gep(_pointer(builder, args[0], INDEX), [args[1]]))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def cell(typingctx, axes, k, column):
    """What the table of axes, at an address, says of axis `k`."""

    def codegen(context, builder, sig, args):
        row = builder.mul(args[1], ir.Constant(INDEX, COLUMNS))
        return builder.load(
            builder.gep(_pointer(builder, args[0], INDEX), [builder.add(row, args[2])])
        )

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def assign(typingctx, table, index, value):
    """Set an entry of a table of int64 at an address."""

    def codegen(context, builder, sig, args):
        builder.store(args[2], builder.gep(_pointer(builder, args[0], INDEX), [args[1]]))
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), codegen


@intrinsic
def workspace(typingctx):
    """The address of WORKSPACE bytes on the stack."""

    def codegen(context, builder, sig, args):
        memory = cgutils.alloca_once(builder, ir.IntType(8), size=WORKSPACE)
        return builder.ptrtoint(memory, INDEX)

    return types.int64(), codegen


def _copy_fixed(size):
    """A copy of a fixed number of bytes: one load and one store."""
    word = ir.IntType(8 * size) if size <= 8 else ir.VectorType(ir.IntType(64), size // 8)

    @intrinsic
    def copy(typingctx, target, source):
        def codegen(context, builder, sig, args):
            value = builder.load(_pointer(builder, args[1], word), align=1)
            builder.store(value, _pointer(builder, args[0], word), align=1)
            return context.get_dummy_value()

        return types.none(types.int64, types.int64), codegen

    return copy


copy_1, copy_4, copy_8, copy_16, copy_32, copy_line = map(_copy_fixed, (1, 4, 8, 16, 32, LINE))


def _stream(size):
    """A copy of whole lines to an address that is a multiple of LINE, past the caches.

    Asked for are as many lines so many bytes `further` in the source, if that is not None. Each
    line is loaded by an instruction of its own: where that reads at equal steps, the processor
    foresees it.
    """

    @intrinsic
    def stream(typingctx, target, source, further):
        def codegen(context, builder, sig, args):
            word = _vector(8, LINE)
            ask = None if further is types.none else _prefetching(builder, SECOND_LEVEL)
            for at in range(0, size, LINE):
                if ask:
                    later = builder.add(args[1], ir.Constant(INDEX, at))
                    ask(builder.add(later, args[2]))
                value = builder.load(_pointer(builder, args[1], word, at), align=1)
                _store_past(builder, value, _pointer(builder, args[0], word, at))
            return context.get_dummy_value()

        return types.none(types.int64, types.int64, further), codegen

    return stream


def _prefetching(builder, level):
    """A function that has the program bring the line at an address into this level's cache."""
    byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    how = [ir.Constant(flag, value) for value in (0, 4 - level, 1)]  # to be read, and data
    return lambda address: builder.call(function, [_pointer(builder, address), *how])


stream_line, stream_pair, stream_four, stream_eight = (_stream(n * LINE) for n in (1, 2, 4, 8))


@kernel
def is_bundled(itemsize):
    """Whether there is code that transposes elements of this size."""
    return itemsize <= LANE and itemsize & (itemsize - 1) == 0


def _prefetch(level):
    """Ask for the line at an address, which need not be one that may be read."""

    @intrinsic
    def prefetch(typingctx, address):
        def codegen(context, builder, sig, args):
            _prefetching(builder, level)(args[0])
            return context.get_dummy_value()

        return types.none(types.int64), codegen

    return prefetch


prefetch_near, prefetch = map(_prefetch, (FIRST_LEVEL, SECOND_LEVEL))


@intrinsic
def fence(typingctx):
    """Make streamed lines visible to other threads before anything that is written after."""

    def codegen(context, builder, sig, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), codegen


def _constant(value):
    """A number that follows from the width of an element, known where its loops are compiled."""

    @intrinsic
    def constant(typingctx, element):
        def codegen(context, builder, sig, args):
            return ir.Constant(INDEX, value(WIDTHS[element]))

        return types.int64(element), codegen

    return constant


def _part(width):
    """Bytes of a line that are transposed at a time.

    All parts together fit into sixteen registers of 32 bytes, and so does what they become: to
    keep some on the stack takes a third longer. Of narrow elements, into as many of 64 bytes.
    """
    return {1: LANE, 2: LANE, 4: 2 * LANE}.get(width, LINE)


# What is transposed at a time: a line, in so many parts, of each row of a bundle of so many. Those
# of narrow elements go by way of the lanes first, four rows at a time.
parts = _constant(lambda width: LINE // _part(width))
bundle = _constant(lambda width: LINE // width if width else 0)
batch = _constant(lambda width: _batch(width) if width else 0)
quarter = _constant(lambda width: LANE // width if 0 < width < DIRECT else 0)


def _batch(width):
    return (LINE if width >= DIRECT else 2 * LANE) // width


@intrinsic
def part_lanes(typingctx, element, lanes, source, rows, row):
    """Put a line of each of four rows, a fourth of a bundle apart, among the lanes of all rows.

    There, the first lanes of these four are side by side; the second ones follow after those of
    all other rows, and so on. Each line is loaded once: rows a power of two apart share a few sets
    of the cache, so that one that is loaded part by part has to be fetched again. And lines are
    stored as they are loaded later: a part of what is still on its way to the cache comes late.
    """
    width = WIDTHS[element]

    def codegen(context, builder, sig, args):
        _, lanes, source, table, row = args
        if 0 < width < DIRECT:
            half, step = _vector(width, LINE // 2), LANE // width
            starts = list(_starts(builder, source, table, row, LANES, step))
            for at in (0, LINE // 2):
                places = [_pointer(builder, start, half, at) for start in starts]
                values = [builder.load(place, align=1) for place in places]
                for k, line in enumerate(_lanes_exchanged(builder, values, 2)):
                    part = 2 * at // LINE * 2 + k
                    place = _pointer(builder, lanes, line.type, part * step * LINE)
                    builder.store(line, place, align=LINE)
        return context.get_dummy_value()

    return types.none(element, *[types.int64] * 4), codegen


@intrinsic
def transpose(typingctx, element, stage, source, rows, row, part):
    """Put a part of a line of each of some rows into the stage, column by column.

    Rows start at `source` plus their entry in the table at `rows`, from entry `row` on. Nothing for
    odd sizes.
    """
    width = WIDTHS[element]

    def codegen(context, builder, sig, args):
        _, stage, source, table, row, part = args
        if width:
            at = builder.mul(part, ir.Constant(INDEX, _part(width)))
            stage = builder.add(stage, builder.mul(at, ir.Constant(INDEX, PITCH)))
            columns = _columns(builder, width, builder.add(source, at), table, row)
            for m, column in enumerate(columns):
                place = _pointer(builder, stage, column.type, m * PITCH * width)
                builder.store(column, place, align=LANE)
        return context.get_dummy_value()

    return types.none(element, *[types.int64] * 5), codegen


def _columns(builder, width, source, table, row):
    """The columns, as vectors, of a part of each of some rows."""
    size = _part(width)
    kind, group = _vector(width, size), LANE // width
    starts = _starts(builder, source, table, row, _batch(width))
    lines = [builder.load(_pointer(builder, start, kind), align=1) for start in starts]
    if width < DIRECT:
        join = _mask(range(2 * kind.count))
        pairs = zip(lines[:group], lines[group:], strict=True)
        return _interleaved(builder, [builder.shuffle_vector(a, b, join) for a, b in pairs], 2)
    return _transposed(builder, lines, group, size // LANE)


def _columns_of_lanes(builder, width, lanes, part):
    """The columns, as vectors, of a part of a line of each row of a bundle."""
    kind, group = _vector(width, LINE), LANE // width
    lanes = builder.add(lanes, builder.mul(part, ir.Constant(INDEX, group * LINE)))
    places = [_pointer(builder, lanes, kind, k * LINE) for k in range(group)]
    return _interleaved(builder, [builder.load(place, align=LINE) for place in places], LANES)


@intrinsic
def transpose_to(typingctx, element, target, columns, source, rows, row, part, lanes, stream):
    """The same straight to the target: a whole line of each column.

    Columns are at `target` plus their entries in the table at `columns`; these are multiples of
    LINE if it goes past the caches.
    """
    width = WIDTHS[element]

    def codegen(context, builder, sig, args):
        _, target, places, source, table, row, part, lanes, stream = args
        if width:
            count = _part(width) // width
            first = builder.mul(part, ir.Constant(INDEX, count))
            places = _starts(builder, target, places, first, count)
            if width < DIRECT:
                columns = _columns_of_lanes(builder, width, lanes, part)
            else:
                at = builder.mul(part, ir.Constant(INDEX, _part(width)))
                columns = _columns(builder, width, builder.add(source, at), table, row)
            stores = [
                (column, _pointer(builder, to, column.type))
                for to, column in zip(places, columns, strict=True)
            ]
            past = builder.icmp_signed("!=", stream, ir.Constant(INDEX, 0))
            with builder.if_else(past) as (so, otherwise):
                with so:
                    for column, place in stores:
                        _store_past(builder, column, place)
                with otherwise:
                    for column, place in stores:
                        builder.store(column, place, align=1)
        return context.get_dummy_value()

    return types.none(element, *[types.int64] * 8), codegen


def _starts(builder, address, table, first, count, step=1):
    """The address plus, one by one, so many entries of a table, at equal steps."""
    entries = builder.gep(_pointer(builder, table, INDEX), [first])
    for k in range(0, count * step, step):
        yield builder.add(address, builder.load(builder.gep(entries, [ir.Constant(INDEX, k)])))


def _store_past(builder, value, place):
    """Store whole lines past the caches."""
    hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
    builder.store(value, place, align=LINE).set_metadata("nontemporal", hint)


def _transposed(builder, lines, group, lanes):
    """The columns of a square of elements, given its rows as vectors.

    Parts of lines are as large as registers allow: rows a page apart share a few sets of the cache
    and push each other out, so that a line may have to be fetched again for its next part. First
    log2 rounds of interleaving put `group` rows of one column side by side in each lane; then lanes
    change places between groups.
    """
    groups = [
        _interleaved(builder, lines[first : first + group], lanes)
        for first in range(0, len(lines), group)
    ]
    found = [_lanes_exchanged(builder, values, lanes) for values in zip(*groups, strict=True)]
    return [column for lane in zip(*found, strict=True) for column in lane]


def _lanes_exchanged(builder, values, lanes):
    """Lane i of each of four registers, side by side; for each lane."""
    size = values[0].type.count // lanes

    def chosen(a, b, lanes):
        return builder.shuffle_vector(
            a, b, _mask([lane * size + i for lane in lanes for i in range(size)])
        )

    a, b, c, d = values
    if lanes == 2:
        ends = [(chosen(a, b, two), chosen(c, d, two)) for two in ((0, 2), (1, 3))]
        return [chosen(x, y, (0, 1, 2, 3)) for x, y in ends]
    ends = [(chosen(a, b, four), chosen(c, d, four)) for four in ((0, 1, 4, 5), (2, 3, 6, 7))]
    return [chosen(x, y, four) for x, y in ends for four in ((0, 2, 4, 6), (1, 3, 5, 7))]


def _interleaved(builder, values, lanes):
    """Rows as columns, within each of so many lanes."""
    count = values[0].type.count // lanes
    low, high = [], []
    for lane in range(0, lanes * count, count):
        for i in range(lane, lane + count // 2):
            low += [i, i + lanes * count]
            high += [i + count // 2, i + count // 2 + lanes * count]
    half, masks = len(values) // 2, (_mask(low), _mask(high))
    for _ in range(len(values).bit_length() - 1):
        pairs = zip(values[:half], values[half:], strict=True)
        values = [builder.shuffle_vector(a, b, m) for a, b in pairs for m in masks]
    return values


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
            values = [builder.load(_pointer(builder, at, word), align=1) for _, at in places]
            for (at, _), value in zip(places, values, strict=True):
                builder.store(value, _pointer(builder, at, word), align=1)
        else:
            cgutils.raw_memcpy(
                builder, _pointer(builder, to), _pointer(builder, start), size, 1, align=1
            )
        return context.get_dummy_value()

    return types.none(element, types.int64, types.int64, types.int64), codegen


@kernel
def copy_short(target, source, size):
    """Copy up to a line by two words that may overlap each other; more by lines, the last one so.

    Not by memcpy: where the C library's has the processor copy (rep movsb), that takes up to ten
    times as long if the target lies 1 to 31 bytes after the source, modulo 4096 (AMD Zen 3).
    """
    apart()
    if size > LINE:
        for at in range(0, size - LINE, LINE):
            copy_line(target + at, source + at)
        copy_line(target + size - LINE, source + size - LINE)
    elif size >= 32:
        copy_32(target, source)
        copy_32(target + size - 32, source + size - 32)
    elif size >= 16:
        copy_16(target, source)
        copy_16(target + size - 16, source + size - 16)
    elif size >= 8:
        copy_8(target, source)
        copy_8(target + size - 8, source + size - 8)
    elif size >= 4:
        copy_4(target, source)
        copy_4(target + size - 4, source + size - 4)
    else:
        for i in range(size):
            copy_1(target + i, source + i)


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
def walk(target, source, itemsize, k, axes):
    """Copy a box of four plain axes, of which `k` is the first, element by element.

    So many indices of the last one at a time: the lines that these touch are still in the first
    level's cache when the axes before come to their next index.
    """
    apart()
    p, j, i = k + 1, k + 2, k + 3
    to = cell(axes, p, TARGET_STRIDE), cell(axes, j, TARGET_STRIDE), cell(axes, i, TARGET_STRIDE)
    by = cell(axes, p, SOURCE_STRIDE), cell(axes, j, SOURCE_STRIDE), cell(axes, i, SOURCE_STRIDE)
    part = cell(axes, i, CHUNK)
    for q in range(cell(axes, k, LAST)):
        place = target + q * cell(axes, k, TARGET_STRIDE)
        start = source + q * cell(axes, k, SOURCE_STRIDE)
        left = cell(axes, i, LAST)
        while left > 0:
            counts = cell(axes, p, LAST), cell(axes, j, LAST), min(part, left)
            walk_box(place, start, itemsize, counts, to, by)
            place += part * to[2]
            start += part * by[2]
            left -= part


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
def ask_rows(source, rows, first, end, further):
    """Ask for so many bytes `further` in some rows."""
    within()
    for k in range(first, end):
        prefetch(source + entry(rows, k) + further)


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
def ask(address, near):
    """Ask for a line, by the first level's cache if `near`."""
    within()
    if near:
        prefetch_near(address)
    else:
        prefetch(address)


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
    pitch, zero = PITCH * itemsize, np.int64(0)
    for m in range(LINE // itemsize):
        to = target + entry(places, m)
        if size:
            at = done + (-to & (LINE - 1)) if stream and done else done
            put(to + at, begin + m * pitch + at, size - at, stream)
        elif stream:
            line = ((to + LINE - 1) & -LINE) + done
            for at in range(line - to, line - to + strip, 2 * LINE):
                if k + 1 < end:
                    ask(source + entry(rows, k) + further, near)
                    ask(source + entry(rows, k + 1) + further, near)
                    k += 2
                stream_pair(to + at, begin + m * pitch + at, None)
        else:
            for at in range(done, done + strip, LINE):
                copy_line(to + at, begin + m * pitch + at)
    while k < end:
        ask(source + entry(rows, k) + further, near)
        k += 1
    if heads:
        for m in range(LINE // itemsize):
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
    stage, rack, lanes, stream, racked, lined = (
        room[0],
        room[4],
        room[6],
        modes[0],
        modes[3],
        modes[4],
    )
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
        if lined:
            take_bundles(
                element,
                target,
                places,
                start,
                table,
                low,
                high,
                itemsize,
                asking,
                at,
                limits,
                lanes,
            )
        else:
            take_bundles(
                element, stage, zero, start, table, low, high, itemsize, asking, at, limits, lanes
            )
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


@kernel
def is_crowded(rows, height):
    """Whether rows share a few sets of the caches, where what was asked for pushes others out."""
    return height > 1 and (entry(rows, 1) - entry(rows, 0)) % CROWDED == 0


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


@kernel
def fill(source, itemsize, rows, low, high, columns, step, room, lines):
    """Bring rows `low` to `high` of some columns into the stage, one stage row per column.

    By whole `lines`, of which the rest is of no use, if they lie within the rows and the rows are
    whole bundles. If not, by way of a shelf, where each row of a bundle has a line; a few columns,
    or some that are not dense in the source, come one by one.
    """
    apart()
    stage, shelf = room[0], room[1]
    bundled = is_bundled(itemsize)
    if not bundled or step != itemsize or (columns * itemsize <= 2 * LANE and not lines):
        pitch = PITCH * itemsize if bundled else np.int64(WIDE_PITCH)
        for m in range(columns):
            to, start = stage + m * pitch, source + m * step
            strided(to, start, high - low, itemsize, np.int64(0), rows + 8 * low, itemsize)
    else:
        count, i = LINE // itemsize, low
        while i < high:
            start, table = source, rows + 8 * i
            if not lines:
                start, table = shelf, room[2]
                for k in range(min(count, high - i)):
                    copy_short(shelf + k * LINE, source + entry(rows, i + k), columns * itemsize)
            to = stage + (i - low) * itemsize
            take(to, start, table, count, itemsize, room[6])
            i += count


@kernel
def put(target, source, size, stream):
    """Copy contiguous bytes; if asked to, past the caches in whole lines of the target.

    What juts out of these is copied through the caches.
    """
    apart()
    if not stream:
        copy_short(target, source, size)
        return
    at = min(-target & (LINE - 1), size)
    if at:
        copy_short(target, source, at)
    while at + LINE <= size:
        stream_line(target + at, source + at, None)
        at += LINE
    if at < size:
        copy_short(target + at, source + at, size - at)


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
def piece(axes, base, k, q):
    """Piece `q` of axis `k`: source and target offset in bytes, length in indices."""
    apart()
    bases = cell(axes, k, BASES)
    period = np.int64(0)
    if q >= bases:  # explicit pieces never divide
        period = q // bases
    row = cell(axes, k, FIRST) + q - period * bases
    source = entry(base[0], row) + period * cell(axes, k, SOURCE_STEP)
    target = entry(base[1], row) + period * cell(axes, k, TARGET_STEP)
    length = entry(base[2], row)
    if q == cell(axes, k, COUNT) - 1:
        length = cell(axes, k, LAST)
    if q == 0:
        skip = cell(axes, k, SKIP)
        source += skip * cell(axes, k, SOURCE_STRIDE)
        target += skip * cell(axes, k, TARGET_STRIDE)
        length -= skip
    return source, target, length


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
    bundled = is_bundled(itemsize)
    batch, strip = LINE // itemsize if bundled else TILE, np.int64(STRIP)
    least, greatest, head, whole = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    if stream:
        least, greatest = edges(target, columns, width)
    racked = lined = False
    crowded = is_crowded(rows, height)
    if not stream:
        lined = bundled
    elif (crowded or itemsize < DIRECT) and bundled and steps[1] == itemsize:
        lined = least == greatest and least % itemsize == 0
        if width * itemsize <= NARROW:
            lined = lined and greatest == 0 and height * itemsize <= NARROW
        racked = crowded and not lined
    if bundled and width * itemsize <= NARROW:
        # As much as the rack or the stage holds, so that they are fewer.
        strip = np.int64(NARROW) if racked and itemsize > 1 else STRIP * itemsize
    elif itemsize >= DIRECT and ((stream and lined) or (crowded and not racked)):
        strip = np.int64(STRIP // 2)
    if not stream:  # so that the last strip can begin earlier, with whole bundles
        strip = min(strip, max(height * itemsize & -LINE, np.int64(LINE)))
    if bundled and steps[1] == itemsize:
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
    size, bundled = height * itemsize, is_bundled(itemsize)
    batch, bundle_rows = TILE, np.int64(1)
    if bundled:
        batch, bundle_rows = LINE // itemsize, LINE // itemsize
    done = np.int64(0)  # bytes after the edge of each column
    while done == 0 or greatest + done < size:
        end = greatest + done + strip
        last = end > size or (end == size and least != greatest)
        low = (least + done) // itemsize if done else np.int64(0)
        high = height if last else -(-end // itemsize)
        bundled_rows = -(-(high - low) // bundle_rows) * bundle_rows
        if last and bundled_rows <= height:  # bundles that begin with rows which are done
            low = height - bundled_rows
        bundles_end = low + bundled_rows
        skip = whole if bundles_end <= height else np.int64(0)
        heads = done == 0 and greatest > 0 and not last
        if skip:
            modes = (
                stream,
                heads,
                size if last else 0,
                racked,
                lined and not (stream and (heads or last)),
                strip,
            )
            limits = skip * itemsize, low, bundles_end - low, height, more
            march(
                target,
                source + head * itemsize,
                itemsize,
                rows,
                columns + 8 * head,
                low,
                bundles_end,
                skip,
                done,
                modes,
                limits,
                room,
            )
        j = np.int64(0)
        while j < width:
            if skip and j == head:
                j += skip
                continue
            n, back, until = min(batch if j or not head else head, width - j), np.int64(0), high
            lines = skip != 0 and n > 1
            if lines:  # also those that would end beyond the row: they begin earlier
                back, until = max(0, j + batch - width), bundles_end
            start = source + (j - back) * steps[1]
            if stream:
                ask_rows(start, rows, low, until, np.int64(0))
                ask_rows(start, rows, low, until, n * abs(steps[1]) - 1)
            fill(start, itemsize, rows, low, until, n, steps[1], room, lines)
            step = PITCH * itemsize if bundled else WIDE_PITCH
            for m in range(n):
                to = target + entry(columns, j + m)
                edge = -to & (LINE - 1) if stream else np.int64(0)
                at = edge + done if done else np.int64(0)
                end = size if last else edge + done + strip
                begin = room[0] + (back + m) * step + at - low * itemsize
                put(to + at, begin, end - at, stream)
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
    lines = pack == 0  # never; of the type that `staged` compiles `fill` for
    batch, pitch = LINE // itemsize, PITCH * itemsize
    begin = end = target & (LINE - 1)  # of what lies in the pack; it begins with a whole line
    line = target - begin
    for k in range((width + batch - 1) // batch):  # a step that may be 0 would have to be reported
        j = k * batch
        n = min(batch, width - j)
        ask_wide(source, itemsize, rows, height, width, j, batch)
        fill(source + j * steps[1], itemsize, rows, zero, height, n, steps[1], room, lines)
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
    dense = steps[0] == itemsize and itemsize <= LINE
    packs = dense and is_bundled(itemsize) and itemsize < LANE and steps[1] == itemsize
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
                if beside and (height >= TILE if thin else enough):
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
            bars(target_at, source_at, itemsize, outer, axes, base)
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
