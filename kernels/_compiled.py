# mypy: ignore-errors
"""The compiled move: addresses and byte strides in, bytes moved. Importing this imports numba.

One function, :func:`_move_product`, with one signature per element width: 1, 2, 4, 8 and 16 bytes,
and one for every other size. It knows neither dtypes nor how many axes there are. The width is
carried by the *type* of the first argument (see :data:`ELEMENTS`), so each signature gets loads and
stores of a fixed width.

ENTRIES, at the end, is what is compiled for use from outside.

The loop nest arrives in two int64 tables (made by :mod:`kernels.nest`, which documents them):

``axes[k]``
    one row per axis, outermost first; the columns are the constants below.
``base``
    three rows: source offset and target offset in bytes, length in indices, of the base pieces of
    all axes, one axis after the other; an axis starts at its column FIRST.

The last ``inner`` rows of ``axes`` are the inner loops: 1 means runs, 2 means tiles.
"""

import numpy as np
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

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

COLUMNS = TARGET_STRIDE + 1

ir = cgutils.ir  # llvmlite, as numba has it

# The argument whose type says how wide an element is. None stands for "any other size".
ELEMENTS = {
    1: types.uint8,
    2: types.uint16,
    4: types.uint32,
    8: types.uint64,
    16: types.complex128,
    0: types.none,
}
WIDTHS = {kind: width for width, kind in ELEMENTS.items()}
_VALUES = {1: np.uint8(0), 2: np.uint16(0), 4: np.uint32(0), 8: np.uint64(0), 16: 0j, 0: None}

TILE = 16  # elements: 16 x 16 keeps both sides of a tile in L1 for every element width
SHORT = 64  # bytes: below this a loop beats the call of memcpy


def _pointer(builder, address):
    return builder.inttoptr(address, ir.IntType(8).as_pointer())


@intrinsic
def copy_bytes(typingctx, target, source, size):
    """Copy `size` bytes between addresses that need no alignment."""

    def codegen(context, builder, sig, args):
        to, start, size = args
        cgutils.raw_memcpy(
            builder, _pointer(builder, to), _pointer(builder, start), size, 1, align=1
        )
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), codegen


@intrinsic
def copy_element(typingctx, element, target, source, itemsize):
    """Copy one element between addresses that need no alignment.

    Fixed widths are one load and one store (16 bytes as a vector of two words, which stays within
    the baseline of every 64-bit machine); other sizes call memcpy.
    """
    width = WIDTHS[element]

    def codegen(context, builder, sig, args):
        _, to, start, size = args
        if width == 0:
            cgutils.raw_memcpy(
                builder, _pointer(builder, to), _pointer(builder, start), size, 1, align=1
            )
            return context.get_dummy_value()
        word = ir.VectorType(ir.IntType(64), 2) if width == 16 else ir.IntType(8 * width)
        value = builder.load(builder.inttoptr(start, word.as_pointer()), align=1)
        builder.store(value, builder.inttoptr(to, word.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.none(element, types.int64, types.int64, types.int64), codegen


@njit(nogil=True, error_model="numpy")
def piece(axes, base, k, q):
    """Piece `q` of axis `k`: source and target offset in bytes, length in indices."""
    bases = axes[k, BASES]
    period = np.int64(0)
    if q >= bases:  # explicit pieces never divide
        period = q // bases
    row = axes[k, FIRST] + q - period * bases
    source = base[0, row] + period * axes[k, SOURCE_STEP]
    target = base[1, row] + period * axes[k, TARGET_STEP]
    length = base[2, row]
    if q == axes[k, COUNT] - 1:
        length = axes[k, LAST]
    if q == 0:
        skip = axes[k, SKIP]
        source += skip * axes[k, SOURCE_STRIDE]
        target += skip * axes[k, TARGET_STRIDE]
        length -= skip
    return source, target, length


@njit(nogil=True, error_model="numpy")
def run(element, target, source, itemsize, n, target_stride, source_stride):
    """Copy `n` elements along one axis."""
    if target_stride == itemsize and source_stride == itemsize and n * itemsize > SHORT:
        copy_bytes(target, source, n * itemsize)
        return
    for i in range(n):
        copy_element(element, target + i * target_stride, source + i * source_stride, itemsize)


@njit(nogil=True, error_model="numpy")
def patch(element, target, source, itemsize, rows, columns, row, column):
    """Copy a small rectangle; `row` and `column` are (target, source) strides in bytes."""
    for i in range(rows):
        for j in range(columns):
            to = target + i * row[0] + j * column[0]
            copy_element(element, to, source + i * row[1] + j * column[1], itemsize)


@njit(nogil=True, error_model="numpy")
def rectangle(element, target, source, itemsize, rows, columns, row, column):
    """Copy a rectangle in tiles, with fixed bounds where the tile is whole.

    A row runs along the axis that is dense in the target, a column along the one that is dense in
    the source. The loop along the target's rows is outermost: the source is then read in TILE
    streams of consecutive lines (0.24 of a plain copy at f4, against 0.13 the other way round).
    """
    for j in range(0, columns, TILE):
        width = min(TILE, columns - j)
        for i in range(0, rows, TILE):
            height = min(TILE, rows - i)
            to = target + i * row[0] + j * column[0]
            start = source + i * row[1] + j * column[1]
            if width == TILE and height == TILE:
                patch(element, to, start, itemsize, TILE, TILE, row, column)
            else:
                patch(element, to, start, itemsize, height, width, row, column)


@njit(nogil=True, error_model="numpy")
def runs(element, target, source, itemsize, axes, base):
    """The inner loop over one axis: each piece is a run."""
    k = axes.shape[0] - 1
    for q in range(axes[k, COUNT]):
        start, to, n = piece(axes, base, k, q)
        run(
            element,
            target + to,
            source + start,
            itemsize,
            n,
            axes[k, TARGET_STRIDE],
            axes[k, SOURCE_STRIDE],
        )


@njit(nogil=True, error_model="numpy")
def tiles(element, target, source, itemsize, axes, base):
    """The inner loops over two axes: each pair of pieces is a rectangle."""
    k, m = axes.shape[0] - 2, axes.shape[0] - 1
    row = (axes[k, TARGET_STRIDE], axes[k, SOURCE_STRIDE])
    column = (axes[m, TARGET_STRIDE], axes[m, SOURCE_STRIDE])
    for q in range(axes[k, COUNT]):
        row_start, row_to, rows = piece(axes, base, k, q)
        for p in range(axes[m, COUNT]):
            start, to, columns = piece(axes, base, m, p)
            rectangle(
                element,
                target + row_to + to,
                source + row_start + start,
                itemsize,
                rows,
                columns,
                row,
                column,
            )


def _move_product(element, target, source, itemsize, inner, axes, base, state):
    """Move a product of pieces. The outer axes are an odometer over (piece, index in the piece).

    There is at least one outer axis, so that the inner loops are compiled in one place only.
    """
    outer = axes.shape[0] - inner
    # Per outer axis: next piece, indices done and indices in this piece, and the address of both
    # sides with all axes further out added in.
    k = 0
    while k >= 0:
        if state[k, 1] < state[k, 2]:
            state[k, 1] += 1
            state[k, 3] += axes[k, SOURCE_STRIDE]
            state[k, 4] += axes[k, TARGET_STRIDE]
        elif state[k, 0] < axes[k, COUNT]:
            start, to, n = piece(axes, base, k, state[k, 0])
            state[k, 0] += 1
            state[k, 1] = 1
            state[k, 2] = n
            state[k, 3] = start + (state[k - 1, 3] if k > 0 else source)
            state[k, 4] = to + (state[k - 1, 4] if k > 0 else target)
        else:
            k -= 1
            continue
        if k < outer - 1:
            k += 1
            state[k, 0] = state[k, 1] = state[k, 2] = 0
        elif inner == 1:
            runs(element, state[k, 4], state[k, 3], itemsize, axes, base)
        else:
            tiles(element, state[k, 4], state[k, 3], itemsize, axes, base)


def move_entry(width):
    """The move for one width (0: any other size), and its signature.

    It takes target, source and itemsize; the number of inner loops; the rows of the table of axes
    and its address; the columns of the table of base pieces and its address; and the address of
    5 int64 per row to work with, all 0.
    """
    element = _VALUES[width]
    move = njit(nogil=True, error_model="numpy")(_move_product)

    def entry(target, source, itemsize, inner, rows, axes, columns, base, state):
        move(
            element,
            target,
            source,
            itemsize,
            inner,
            carray(axes, (rows, COLUMNS)),
            carray(base, (3, columns)),
            carray(state, (rows, 5)),
        )

    number, table = types.int64, types.CPointer(types.int64)
    arguments = number, number, number, number, number, table, number, table, table
    return entry, types.void(*arguments)


#: What :mod:`kernels.loading` compiles: by kind, a function of the width that returns a function
#: and its signature. All arguments are int64 or pointers, nothing is returned; nothing may be
#: allocated or raised (so no np.zeros, and error_model="numpy" in every decorator).
ENTRIES = {"move": move_entry}
