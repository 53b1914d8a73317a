"""Everything that can be wrong with a move, found before an address is handed to the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.pieces import Pieces

Array = npt.NDArray[Any]

# Work that numpy may spend on telling interleaved arrays apart (the problem is NP-complete).
MAX_OVERLAP_WORK = 10_000


def check_move(target: Array, source: Array, pieces: Sequence[Pieces]) -> None:
    """Raise unless the product of pieces can be moved from `source` to `target`."""
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
    for axis, p in enumerate(pieces):
        if not isinstance(p, Pieces):
            raise TypeError(f"pieces[{axis}] must be Pieces, got {type(p).__name__}")
        _check_bounds("source", axis, p.source_extent, source.shape[axis])
        _check_bounds("target", axis, p.target_extent, target.shape[axis])
    if target.itemsize and prod(p.size for p in pieces):
        _check_strides(target, pieces)
        _check_apart(target, source, pieces)


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Raise for element types that refer to objects: their bytes must not be copied."""
    if dtype.hasobject:
        raise TypeError(f"{name} has dtype {dtype}, which holds objects; only plain bytes move")


def check_writeable(array: Array, name: str) -> None:
    """Raise for read-only arrays."""
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only, it must be writeable")


def _check_bounds(name: str, axis: int, extent: tuple[int, int], size: int) -> None:
    if extent[0] < 0 or extent[1] > size:
        raise ValueError(
            f"pieces[{axis}] reach from index {extent[0]} to {extent[1] - 1} of {name}, "
            f"which has indices 0 to {size - 1} along axis {axis}"
            if size
            else f"pieces[{axis}] are not empty, but {name} has no index along axis {axis}"
        )


def _check_strides(target: Array, pieces: Sequence[Pieces]) -> None:
    for axis, p in enumerate(pieces):
        low, high = p.target_extent
        if target.strides[axis] == 0 and high - low > 1:
            raise ValueError(
                f"target has stride 0 along axis {axis} (it was broadcast), so the indices "
                f"{low} to {high - 1} that pieces[{axis}] write are one and the same"
            )


def _check_apart(target: Array, source: Array, pieces: Sequence[Pieces]) -> None:
    """Raise if the two sides may share memory.

    Compared are the bounds of what the pieces touch, so two halves of one buffer are fine. Where
    these cross, numpy looks at the whole arrays, with bounded work: interleaved slices are told
    apart in ordinary cases; in doubt the answer is that they overlap.
    """
    written = touched_bytes(target, [p.target_extent for p in pieces])
    read = touched_bytes(source, [p.source_extent for p in pieces])
    if written[0] >= read[1] or read[0] >= written[1]:
        return
    # numpy's stubs know two of the values that it takes
    if np.may_share_memory(target, source, max_work=MAX_OVERLAP_WORK):  # type: ignore[arg-type]
        raise ValueError(
            "target and source overlap in memory: the pieces write to addresses "
            f"{written[0]:#x}-{written[1]:#x} and read {read[0]:#x}-{read[1]:#x}"
        )


def touched_bytes(array: Array, extents: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The lowest address within the extents (low, high index per axis), and one past the last."""
    low = high = address(array)
    for (first, end), stride in zip(extents, array.strides, strict=True):
        ends = first * stride, (end - 1) * stride
        low += min(ends)
        high += max(ends)
    return low, high + array.itemsize


def address(array: Array) -> int:
    """Where element 0 is."""
    return int(array.__array_interface__["data"][0])
