# mypy: ignore-errors
"""Between memory and the caches: copies of words and lines, lines asked for, lines streamed."""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.axes import LINE
from kernels.box import CROWDED
from kernels.compiled.tables import entry
from kernels.compiled.words import apart, ir, kernel, pointer, vector, within

FIRST_LEVEL, SECOND_LEVEL = 1, 2  # of the caches


def _copy_fixed(size):
    """A copy of a fixed number of bytes: one load and one store."""
    word = ir.IntType(8 * size) if size <= 8 else ir.VectorType(ir.IntType(64), size // 8)

    @intrinsic
    def copy(typingctx, target, source):
        def codegen(context, builder, sig, args):
            value = builder.load(pointer(builder, args[1], word), align=1)
            builder.store(value, pointer(builder, args[0], word), align=1)
            return context.get_dummy_value()

        return types.none(types.int64, types.int64), codegen

    return copy


copy_1, copy_4, copy_8, copy_16, copy_32, copy_line = map(_copy_fixed, (1, 4, 8, 16, 32, LINE))


def _stream(size):
    """A copy of whole lines to an address that is a multiple of LINE, past the caches.

    Each line is loaded by an instruction of its own: where that reads at equal steps, the processor
    foresees it.
    """

    @intrinsic
    def stream(typingctx, target, source):
        def codegen(context, builder, sig, args):
            word = vector(8, LINE)
            for at in range(0, size, LINE):
                value = builder.load(pointer(builder, args[1], word, at), align=1)
                store_past(builder, value, pointer(builder, args[0], word, at))
            return context.get_dummy_value()

        return types.none(types.int64, types.int64), codegen

    return stream


def _prefetching(builder, level):
    """A function that has the program bring the line at an address into this level's cache."""
    byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    how = [ir.Constant(flag, value) for value in (0, 4 - level, 1)]  # to be read, and data
    return lambda address: builder.call(function, [pointer(builder, address), *how])


stream_line, stream_pair = _stream(LINE), _stream(2 * LINE)


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


def store_past(builder, value, place):
    """Store whole lines past the caches."""
    hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
    builder.store(value, place, align=LINE).set_metadata("nontemporal", hint)


@intrinsic
def stream_joint(typingctx, target, first, second, size):
    """A line past the caches: `size` bytes of the one at `first`, the rest of the one at `second`.

    Both are loaded as a whole, so that nothing is stored on the way.
    """

    def codegen(context, builder, sig, args):
        word, lane, byte = vector(1, LINE), ir.IntType(32), ir.IntType(8)
        lines = [builder.load(pointer(builder, at, word), align=1) for at in args[1:3]]
        count = builder.trunc(args[3], byte)
        counts = builder.insert_element(ir.Constant(word, ir.Undefined), count, lane(0))
        same = ir.Constant(ir.VectorType(lane, LINE), None)
        counts = builder.shuffle_vector(counts, counts, same)
        numbers = ir.Constant(word, [byte(n) for n in range(LINE)])
        value = builder.select(builder.icmp_unsigned("<", numbers, counts), *lines)
        store_past(builder, value, pointer(builder, args[0], word))
        return context.get_dummy_value()

    return types.none(*[types.int64] * 4), codegen


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
def is_crowded(rows, height):
    """Whether rows share a few sets of the caches, where what was asked for pushes others out."""
    return height > 1 and (entry(rows, 1) - entry(rows, 0)) % CROWDED == 0


@kernel
def ask_rows(source, rows, first, end, further):
    """Ask for so many bytes `further` in some rows."""
    within()
    for k in range(first, end):
        prefetch(source + entry(rows, k) + further)


@kernel
def ask(address, near):
    """Ask for a line, by the first level's cache if `near`."""
    within()
    if near:
        prefetch_near(address)
    else:
        prefetch(address)


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
        stream_line(target + at, source + at)
        at += LINE
    if at < size:
        copy_short(target + at, source + at, size - at)
