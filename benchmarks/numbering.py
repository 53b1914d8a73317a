"""Array contents that anyone can make and check alone: each element is its own C-order number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layouts import Distribution

__all__ = ["check", "dask_array", "numbers", "part"]

LARGEST = 2**53  # whole numbers up to here are exact as f8
SLAB = 2**20  # elements that are made at a time


def numbers(shape: Sequence[int], indices: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """The elements at the product of these indices of an array of this shape, in C order.

    Examples
    --------
    >>> numbers((10, 10), [np.array([0, 9]), np.array([1, 2])])
    array([[ 1.,  2.],
           [91., 92.]])
    """
    if math.prod(shape) > LARGEST:
        raise ValueError(f"shape: got {shape}, expected at most {LARGEST} elements")
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    grid = np.ix_(*(index.astype(np.float64) for index in indices))
    result = np.zeros([len(index) for index in indices])
    for axis, stride in zip(grid, strides, strict=True):
        result += axis * stride
    return result


def part(distribution: Distribution, rank: int) -> NDArray[np.float64]:
    """The rank's part, in the distribution's order."""
    result = distribution.empty(rank, np.float64)
    for slab, values in _slabs(distribution, rank):
        result[slab] = values
    return result


def _slabs(distribution: Distribution, rank: int) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """A part, some indices of the first axis at a time: so that there is none beside the part."""
    first, *others = distribution.indices(rank)
    step = max(1, SLAB // max(1, math.prod(map(len, others))))
    for low in range(0, len(first), step):
        slab = slice(low, low + step)
        yield slab, numbers(distribution.shape, [first[slab], *others])


def check(distribution: Distribution, rank: int, given: NDArray[Any]) -> None:
    """Compare a part with what it must be, memory order included.

    Raises
    ------
    ArithmeticError
        If an element, the shape, the dtype or the memory order is wrong.
    """
    wanted = distribution.empty(rank, np.float64)  # never touched: it takes no memory
    alike = (given.dtype, given.shape, given.strides) == (
        wanted.dtype,
        wanted.shape,
        wanted.strides,
    )
    slabs = _slabs(distribution, rank)
    if not (alike and all(np.array_equal(given[slab], values) for slab, values in slabs)):
        raise ArithmeticError(f"rank {rank} of {distribution}: its part is wrong")


def dask_array(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Any:
    """The whole array in Dask chunks, each made where it is needed."""
    import dask.array as da  # here, for the processes of the ranks have no use for it

    meta = np.empty((0,) * len(shape))
    cut = da.core.normalize_chunks(chunks, shape)
    return da.map_blocks(_block, shape, chunks=cut, dtype=meta.dtype, meta=meta)


def _block(shape: tuple[int, ...], block_info: Any = None) -> NDArray[np.float64]:
    where = block_info[None]["array-location"]
    return numbers(shape, [np.arange(low, high) for low, high in where])
