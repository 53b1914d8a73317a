# mypy: ignore-errors
"""A few lines of rows become parts of columns, in registers."""

from numba import types
from numba.extending import intrinsic

from kernels.axes import LINE
from kernels.compiled.memory import store_past
from kernels.compiled.room import PITCH
from kernels.compiled.words import INDEX, LANE, LANES, WIDTHS, ir, kernel, pointer, vector

DIRECT = 4  # bytes: narrower elements of a bundle do not fit into registers


def _mask(indices):
    word = ir.IntType(32)
    return ir.Constant(ir.VectorType(word, len(indices)), [ir.Constant(word, i) for i in indices])


@kernel
def is_bundled(itemsize):
    """Whether elements of this size are among TRANSPOSED (`in` takes 25 s to compile)."""
    return itemsize <= LANE and itemsize & (itemsize - 1) == 0


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
    """Rows of a bundle that are transposed at a time into the stage."""
    return (LINE if width >= DIRECT else 2 * LANE) // width


@intrinsic
def part_lanes(typingctx, element, lanes, source, rows, row):
    """Put a line of each of four rows, a fourth of a bundle apart, among the lanes of all rows.

    There, the first lanes of these four are side by side; the second ones follow after those of
    all other rows, and so on. Nothing else is loaded between the halves of a line: rows a power of
    two apart share a few sets of the cache, and push each other out. And lines are stored as they
    are loaded later: a part of one that is still on its way to the cache would come late.
    """
    width = WIDTHS[element]

    def codegen(context, builder, sig, args):
        _, lanes, source, table, row = args
        if 0 < width < DIRECT:
            half, step = vector(width, LINE // 2), LANE // width
            starts = list(_starts(builder, source, table, row, LANES, step))
            for part, at in ((0, 0), (2, LINE // 2)):
                places = [pointer(builder, start, half, at) for start in starts]
                values = [builder.load(place, align=1) for place in places]
                for k, line in enumerate(_lanes_exchanged(builder, values, 2), start=part):
                    place = pointer(builder, lanes, line.type, k * step * LINE)
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
                place = pointer(builder, stage, column.type, m * PITCH * width)
                builder.store(column, place, align=LANE)
        return context.get_dummy_value()

    return types.none(element, *[types.int64] * 5), codegen


def _columns(builder, width, source, table, row):
    """The columns, as vectors, of a part of each of some rows."""
    size = _part(width)
    kind, group = vector(width, size), LANE // width
    starts = _starts(builder, source, table, row, _batch(width))
    lines = [builder.load(pointer(builder, start, kind), align=1) for start in starts]
    if width < DIRECT:
        join = _mask(range(2 * kind.count))
        pairs = zip(lines[:group], lines[group:], strict=True)
        return _interleaved(builder, [builder.shuffle_vector(a, b, join) for a, b in pairs], 2)
    return _transposed(builder, lines, group, size // LANE)


def _columns_of_lanes(builder, width, lanes, part):
    """The columns, as vectors, of a part of a line of each row of a bundle."""
    kind, group = vector(width, LINE), LANE // width
    lanes = builder.add(lanes, builder.mul(part, ir.Constant(INDEX, group * LINE)))
    places = [pointer(builder, lanes, kind, k * LINE) for k in range(group)]
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
                (column, pointer(builder, to, column.type))
                for to, column in zip(places, columns, strict=True)
            ]
            past = builder.icmp_signed("!=", stream, ir.Constant(INDEX, 0))
            with builder.if_else(past) as (so, otherwise):
                with so:
                    for column, place in stores:
                        store_past(builder, column, place)
                with otherwise:
                    for column, place in stores:
                        builder.store(column, place, align=1)
        return context.get_dummy_value()

    return types.none(element, *[types.int64] * 8), codegen


def _starts(builder, address, table, first, count, step=1):
    """The address plus, one by one, so many entries of a table, at equal steps."""
    entries = builder.gep(pointer(builder, table, INDEX), [first])
    for k in range(0, count * step, step):
        yield builder.add(address, builder.load(builder.gep(entries, [ir.Constant(INDEX, k)])))


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
