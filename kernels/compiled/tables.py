# mypy: ignore-errors
"""Tables of int64 at addresses, and what the tables that the move is given say."""

import numpy as np
from numba import types
from numba.extending import intrinsic

from kernels.compiled.words import INDEX, apart, ir, kernel, pointer
from kernels.nest import (
    BASES,
    COLUMNS,
    COUNT,
    FIRST,
    LAST,
    SKIP,
    SOURCE_STEP,
    SOURCE_STRIDE,
    TARGET_STEP,
    TARGET_STRIDE,
)


@intrinsic
def entry(typingctx, table, index):
    """An entry of a table of int64 at an address."""

    def codegen(context, builder, sig, args):
        return builder.load(builder.gep(pointer(builder, args[0], INDEX), [args[1]]))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def cell(typingctx, axes, k, column):
    """What the table of axes, at an address, says of axis `k`."""

    def codegen(context, builder, sig, args):
        row = builder.mul(args[1], ir.Constant(INDEX, COLUMNS))
        return builder.load(
            builder.gep(pointer(builder, args[0], INDEX), [builder.add(row, args[2])])
        )

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def assign(typingctx, table, index, value):
    """Set an entry of a table of int64 at an address."""

    def codegen(context, builder, sig, args):
        builder.store(args[2], builder.gep(pointer(builder, args[0], INDEX), [args[1]]))
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), codegen


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
