"""Parts as flat bytes and back, without a copy.

A part in tiles counts with all that pads them; pieces of it travel without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kernels
from layouts import Distribution
from layouts.orders import AxisOrder, Order, Tiled, in_order, slowest_first
from layouts.tiled import AnyArray, TiledArray, move

__all__ = ["as_bytes", "as_part", "box_bytes", "copy_part", "element", "message_order"]


def element(itemsize: int) -> np.dtype[Any]:
    """A dtype for elements of which only the size matters."""
    return np.dtype(f"V{itemsize}")


def message_order(order: Order) -> AxisOrder:
    """The order in which pieces of a part in ``order`` travel: for tiles, that within a tile."""
    return order.inner if isinstance(order, Tiled) else order


def as_bytes(array: AnyArray, order: Order) -> NDArray[np.uint8]:
    """The bytes of an array that lies in memory in ``order``; a view."""
    if isinstance(array, TiledArray):
        return array.memory
    if array.nbytes == 0:
        return np.empty(0, np.uint8)
    memory = array.transpose(slowest_first(order, array.ndim))
    return memory.reshape(-1).view(np.uint8)


def box_bytes(
    part: AnyArray, box: Sequence[tuple[int, int]], order: AxisOrder
) -> NDArray[np.uint8] | None:
    """The bytes of a box of a part, if they lie side by side in this order; a view.

    Parameters
    ----------
    part : ndarray or TiledArray
        The part.
    box : sequence of (int, int)
        Low and high end along each axis.
    order : "C", "F" or tuple of int
        How they are to lie.
    """
    if not isinstance(part, np.ndarray) or not part.size:
        return None
    inside: Any = (*(slice(*ends) for ends in box), ...)  # a view also without axes
    place = part[inside].transpose(slowest_first(order, part.ndim))
    return place.reshape(-1).view(np.uint8) if place.flags.c_contiguous else None


def as_part(
    memory: NDArray[np.uint8],
    shape: Sequence[int],
    dtype: np.dtype[Any],
    order: Order,
) -> Any:
    """The array whose bytes in ``order`` are ``memory``; a view, a `TiledArray` for tiles."""
    if isinstance(order, Tiled):
        return TiledArray.from_memory(memory, shape, order, dtype)
    axes = slowest_first(order, len(shape))
    if not len(memory):
        return np.empty(shape, dtype)
    array = memory.view(dtype).reshape([shape[axis] for axis in axes])
    return array.transpose(sorted(range(len(axes)), key=axes.__getitem__)) if axes else array


def copy_part(memory: NDArray[np.uint8], part: AnyArray, layout: Distribution, rank: int) -> None:
    """Copy a rank's part, whatever its strides, into memory that lies as its distribution says."""
    if in_order(part, layout.order):
        flat = as_bytes(part, layout.order)
        kernels.move(memory, flat, [kernels.Pieces.whole(len(flat))])
        return
    place = as_part(memory, layout.local_shape(rank), part.dtype, layout.order)
    if isinstance(place, TiledArray):
        memory[...] = 0  # what pads the tiles
    move(place, part, [kernels.Pieces.whole(n) for n in part.shape])
