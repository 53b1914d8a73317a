# mypy: ignore-errors
"""The memory on the stack in which rectangles are put together."""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.axes import LINE
from kernels.compiled.words import INDEX, ir

STRIP = 256  # bytes of a target row that are staged at a time, as a rule
# Bytes between stage rows, for each byte of an element: a line more, and what a bundle sticks out.
PITCH = STRIP + 2 * LINE
NARROW = 512  # bytes: rows of rectangles up to this are staged in longer strips
MOST_AXES = 64  # NumPy's own limit

# Bytes of the workspace.
STAGE = LINE * PITCH  # a row for each byte of a line
SHELF = LINE * LINE  # the largest bundle of rows
LANED = LINE * LINE  # the same
PACK = LINE * (PITCH + 1)  # as many columns as a line has bytes, and what was left over
RACK_ROWS = STRIP + 2 * LINE  # what a strip of bytes needs
RACK = 1024 * LINE  # some lines of each of these
TABLES = 8 * (SHELF // LINE + RACK_ROWS + 5 * MOST_AXES)
WORKSPACE = LINE + STAGE + LANED + SHELF + PACK + RACK + TABLES


@intrinsic
def workspace(typingctx):
    """The address of WORKSPACE bytes on the stack."""

    def codegen(context, builder, sig, args):
        memory = cgutils.alloca_once(builder, ir.IntType(8), size=WORKSPACE)
        return builder.ptrtoint(memory, INDEX)

    return types.int64(), codegen
