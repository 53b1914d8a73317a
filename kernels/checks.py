"""Everything that can be wrong with a move, found before an address is handed to the kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import c_size_t
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.pieces import Pieces

Array = npt.NDArray[Any]

# Work that numpy may spend on telling interleaved arrays apart (the problem is NP-complete).
MAX_OVERLAP_WORK = 10_000
HEAD = object.__basicsize__  # bytes
# Whether the bounds of two arrays in memory cross. NumPy's function itself: to look first whether
# the arrays are of types that answer for themselves takes it longer than to answer.
bounds_cross: Callable[[Array, Array], bool] = getattr(
    np.may_share_memory, "_implementation", np.may_share_memory
)


def check_move(target: Array, source: Array, pieces: Sequence[Pieces]) -> int:
    """Raise unless the product of pieces can be moved from `source` to `target`.

    Returns how many bytes it has. All is seen to in one loop, for this comes before every move, and
    calls cost several times as much where the move before has emptied the caches.
    """
    for name, array in (("target", target), ("source", source)):
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
        check_dtype(array.dtype, name)
    if target.dtype != source.dtype:
        raise TypeError(f"target has dtype {target.dtype}, but source has {source.dtype}")
    if not target.ndim == source.ndim == len(pieces):
        raise ValueError(
            f"target has {target.ndim} dimensions, source has {source.ndim} and there are "
            f"pieces for {len(pieces)} axes; they must be equal"
        )
    check_writeable(target, "target")
    nbytes, still = target.itemsize, -1
    # The lowest byte touched on either side, and the lowest of the highest element.
    written = written_last = address(target)
    read = read_last = address(source)
    sides = zip(source.shape, source.strides, target.shape, target.strides, strict=True)
    for axis, (p, (size, step, room, stride)) in enumerate(zip(pieces, sides, strict=True)):
        if not isinstance(p, Pieces):
            raise TypeError(f"pieces[{axis}] must be Pieces, got {type(p).__name__}")
        nbytes *= p.size
        low, end = p.source_extent
        if low < 0 or end > size:
            raise _outside("source", axis, (low, end), size)
        read += (low if step > 0 else end - 1) * step
        read_last += (end - 1 if step > 0 else low) * step
        low, end = p.target_extent
        if low < 0 or end > room:
            raise _outside("target", axis, (low, end), room)
        written += (low if stride > 0 else end - 1) * stride
        written_last += (end - 1 if stride > 0 else low) * stride
        if not stride and end - low > 1:
            still = axis
    if nbytes:
        if still >= 0:
            raise _same(still, pieces[still].target_extent)
        if written < read_last + source.itemsize and read < written_last + target.itemsize:
            _check_apart(target, source, (written, written_last), (read, read_last))
    return nbytes


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Raise for element types that refer to objects: their bytes must not be copied."""
    if dtype.hasobject:
        raise TypeError(f"{name} has dtype {dtype}, which holds objects; only plain bytes move")


def check_writeable(array: Array, name: str) -> None:
    """Raise for read-only arrays."""
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only, it must be writeable")


def _outside(name: str, axis: int, extent: tuple[int, int], size: int) -> ValueError:
    return ValueError(
        f"pieces[{axis}] reach from index {extent[0]} to {extent[1] - 1} of {name}, "
        f"which has indices 0 to {size - 1} along axis {axis}"
        if size
        else f"pieces[{axis}] are not empty, but {name} has no index along axis {axis}"
    )


def _same(axis: int, extent: tuple[int, int]) -> ValueError:
    return ValueError(
        f"target has stride 0 along axis {axis} (it was broadcast), so the indices "
        f"{extent[0]} to {extent[1] - 1} that pieces[{axis}] write are one and the same"
    )


def _check_apart(
    target: Array, source: Array, written: tuple[int, int], read: tuple[int, int]
) -> None:
    """Raise if the two sides may share memory, though their bounds cross.

    Numpy looks at the whole arrays, with bounded work: interleaved slices are told apart in
    ordinary cases; in doubt the answer is that they overlap.
    """
    # numpy's stubs know two of the values that it takes
    if np.may_share_memory(target, source, max_work=MAX_OVERLAP_WORK):  # type: ignore[arg-type]
        end = target.itemsize
        raise ValueError(
            "target and source overlap in memory: the pieces write to addresses "
            f"{written[0]:#x}-{written[1] + end:#x} and read {read[0]:#x}-{read[1] + end:#x}"
        )


def address(array: Array) -> int:
    """Where element 0 is: what an array object in CPython begins with, after its own head.

    NumPy's C interface says so, and whatever is compiled for it relies on that. To ask in Python,
    by `ctypes` or `__array_interface__`, takes 1.5 us instead of 0.2: a third of a small move.
    """
    return c_size_t.from_address(id(array) + HEAD).value


def distance(target: Array, source: Array) -> int:
    """How many bytes after element 0 of the source that of the target is."""
    at = c_size_t.from_address
    return at(id(target) + HEAD).value - at(id(source) + HEAD).value
