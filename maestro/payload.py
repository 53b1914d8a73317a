"""Parts as flat bytes and back, without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layouts.orders import Order, slowest_first

__all__ = ["as_bytes", "as_part", "element"]


def element(itemsize: int) -> np.dtype[Any]:
    """A dtype for elements of which only the size matters."""
    return np.dtype(f"V{itemsize}")


def as_bytes(array: NDArray[Any], order: Order) -> NDArray[np.uint8]:
    """The bytes of an array that lies in memory in ``order``; a view."""
    if array.nbytes == 0:
        return np.empty(0, np.uint8)
    memory = array.transpose(slowest_first(order, array.ndim))
    return memory.reshape(-1).view(np.uint8)


def as_part(
    memory: NDArray[np.uint8],
    shape: Sequence[int],
    dtype: np.dtype[Any],
    order: Order,
) -> NDArray[Any]:
    """The array whose bytes in ``order`` are ``memory``; a view."""
    axes = slowest_first(order, len(shape))
    if not len(memory):
        return np.empty(shape, dtype)
    array = memory.view(dtype).reshape([shape[axis] for axis in axes])
    return array.transpose(np.argsort(axes)) if axes else array
