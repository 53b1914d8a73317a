"""Memory order of one array or part: which axis is slowest, which is fastest.

An order is ``"C"`` (row-major: the last axis fastest), ``"F"`` (column-major: the first axis
fastest) or a permutation of the axes, slowest first. Logical index order never changes: an order
only says where an element lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

import kernels
from layouts.numbers import as_index

__all__ = ["Order", "convert", "empty", "in_order", "normalize", "slowest_first"]

#: ``"C"``, ``"F"``, or the axes from slowest to fastest.
Order: TypeAlias = str | tuple[int, ...]


def slowest_first(order: Order | Sequence[int], ndim: int) -> tuple[int, ...]:
    """The axes from slowest to fastest.

    Raises
    ------
    ValueError, TypeError
        If ``order`` is neither ``"C"`` nor ``"F"`` nor a permutation of ``ndim`` axes.

    Examples
    --------
    >>> slowest_first("F", 3)
    (2, 1, 0)
    """
    if isinstance(order, str):
        if order not in ("C", "F"):
            raise ValueError(f'order: got {order!r}, expected "C", "F" or a permutation of axes')
        return tuple(range(ndim)) if order == "C" else tuple(reversed(range(ndim)))
    try:
        axes = tuple(as_index(axis, "order") for axis in order)
    except TypeError:
        raise TypeError(
            f'order: got {order!r}, expected "C", "F" or a permutation of axes'
        ) from None
    if sorted(axes) != list(range(ndim)):
        raise ValueError(f"order: got {axes}, expected a permutation of the {ndim} axes, each once")
    return axes


def normalize(order: Order | Sequence[int], ndim: int) -> Order:
    """The one spelling of an order: ``"C"`` or ``"F"`` where it is one of them.

    Examples
    --------
    >>> normalize((0, 1, 2), 3), normalize([2, 1, 0], 3), normalize((1, 2, 0), 3)
    ('C', 'F', (1, 2, 0))
    """
    axes = slowest_first(order, ndim)
    if axes == tuple(range(ndim)):
        return "C"
    if axes == tuple(reversed(range(ndim))):
        return "F"
    return axes


def empty(shape: Sequence[int], dtype: DTypeLike, order: Order = "C") -> NDArray[Any]:
    """An uninitialised array of ``shape`` whose memory lies in ``order``.

    Examples
    --------
    >>> empty((2, 3, 4), "f8", order=(1, 2, 0)).strides
    (8, 64, 16)
    """
    axes = slowest_first(order, len(shape))
    memory = np.empty([shape[axis] for axis in axes], dtype)
    return memory.transpose(np.argsort(axes)) if axes else memory


def in_order(array: NDArray[Any], order: Order) -> bool:
    """Whether the array lies in memory in ``order``, without gaps."""
    return array.transpose(slowest_first(order, array.ndim)).flags.c_contiguous


def convert(
    array: NDArray[Any],
    order: Order = "C",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Copy an array into another memory order; its shape, dtype and elements stay.

    Parameters
    ----------
    array : ndarray
        Any shape, strides and dtype except those that hold Python objects.
    order : "C", "F" or tuple of int
        Order of the result in memory; a tuple names the axes, slowest first.
    out : ndarray, optional
        Where to write: of the array's shape and dtype, in memory not shared with it, lying in
        ``order``. A new array by default.
    threads : int, optional
        Threads to use; chosen by size by default.

    Returns
    -------
    ndarray
        ``out``, or a new array; never a view of ``array``.

    Raises
    ------
    ValueError, TypeError
        If ``out`` does not fit, or ``order`` is no order of the array's axes.

    Examples
    --------
    >>> a = np.arange(6).reshape(2, 3)
    >>> b = convert(a, order="F")
    >>> b.flags.f_contiguous, bool((a == b).all())
    (True, True)
    """
    array = np.asarray(array)
    if out is None:
        out = empty(array.shape, array.dtype, order)
    elif not in_order(out, order):
        raise ValueError(f"out: its strides are {out.strides}, expected memory in order {order!r}")
    # The axes of both, slowest of the result first, make this a plain permutation in C order.
    axes = slowest_first(order, array.ndim)
    if out.shape != array.shape:
        raise ValueError(f"out: its shape is {out.shape}, expected {array.shape}")
    kernels.permute(array, axes, out=out.transpose(axes), threads=threads)
    return out
