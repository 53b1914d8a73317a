"""Another order of the axes in memory: the move of one whole piece per axis."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import numpy as np
import numpy.typing as npt

from kernels import moving
from kernels.checks import Array, check_dtype, check_writeable


def permute(
    src: npt.ArrayLike,
    axes: Sequence[int],
    out: Array | None = None,
    threads: int | None = None,
) -> Array:
    """A C-contiguous copy of ``src.transpose(axes)``.

    Parameters
    ----------
    src : array_like
        Any number of dimensions, strides and element size; no object fields.
    axes : sequence of int
        Axis k of the result is axis ``axes[k]`` of `src`; negative ones count from the end.
    out : numpy.ndarray, optional
        Takes the result instead of a new array: its shape and dtype must be those of
        ``src.transpose(axes)``, its strides are free. It must not overlap `src`.
    threads : int, optional
        As in :func:`move`.

    Returns
    -------
    numpy.ndarray
        `out` if it was given.

    Raises
    ------
    TypeError
        If the dtype of `src` holds objects or differs from that of `out`.
    ValueError
        If `axes` is not a permutation, or `out` has another shape, is read-only or overlaps `src`.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.arange(6).reshape(1, 2, 3)
    >>> permute(a, (2, 0, 1)).tolist()
    [[[0, 3]], [[1, 4]], [[2, 5]]]
    """
    source = np.asarray(src)
    view = _transposed(source, axes)
    if out is None:
        small = moving.copy_if_small(view, "C") if threads is None else None
        if small is not None:
            return small
        check_dtype(view.dtype, "src")
        out = np.empty(view.shape, view.dtype)
    else:
        _check_out(out, view)
    moving.move_whole(out, view, threads)
    return out


def _transposed(source: Array, axes: Sequence[int]) -> Array:
    """The view; by NumPy's call alone where `axes` are as they should be."""
    if type(axes) is tuple and len(axes) == source.ndim:
        try:
            return source.transpose(axes)
        except (TypeError, ValueError):
            pass  # `normal_axes` says what is wrong
    return source.transpose(normal_axes(axes, source.ndim))


def normal_axes(axes: Sequence[int], ndim: int) -> tuple[int, ...]:
    """The axes counted from the front.

    >>> normal_axes((-1, 0, 1), 3)
    (2, 0, 1)
    """
    given = tuple(index(axis) for axis in axes)
    normal = tuple(axis + ndim if axis < 0 else axis for axis in given)
    if sorted(normal) != list(range(ndim)):
        raise ValueError(f"axes must be a permutation of the {ndim} axes of src, got {given}")
    return normal


def _check_out(out: Array, view: Array) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    dtype = view.dtype
    if out.shape != view.shape:
        raise ValueError(f"out has shape {out.shape}, but the result has {view.shape}")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, but src has {dtype}")
    if dtype.hasobject:
        check_dtype(dtype, "src")
    if not out.flags.writeable:
        check_writeable(out, "out")
