# mypy: ignore-errors
"""What all that is compiled is made of: the widths of elements as types, vectors, addresses."""

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.axes import LINE

ir = cgutils.ir  # llvmlite, as numba has it
INDEX = ir.IntType(64)

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

LANE = 16  # bytes: within these all machines' vector registers interleave
LANES = LINE // LANE  # registers hold a line; where they are narrower, LLVM takes several

# Of everything compiled; only the entry point is ever called from Python.
kernel = njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


def pointer(builder, address, kind=None, offset=0):
    """A pointer to so many bytes after an address, to bytes if nothing else is said."""
    if offset:
        address = builder.add(address, ir.Constant(INDEX, offset))
    return builder.inttoptr(address, (kind or ir.IntType(8)).as_pointer())


def vector(width, size):
    """`size` bytes as a vector of elements; 16-byte elements are two words."""
    bits = 64 if width == 16 else 8 * width
    return ir.VectorType(ir.IntType(bits), 8 * size // bits)


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
