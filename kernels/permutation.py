"""Another order of the axes in memory: the move of one whole piece per axis."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import numpy as np
import numpy.typing as npt

from kernels.by_numpy import copied, copy_if_cheap
from kernels.checks import Array, check_dtype, check_writeable
from kernels.moving import move_by_kernel, move_whole


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
    source = src if type(src) is np.ndarray else np.asarray(src)
    try:
        if type(axes) is tuple or type(axes) is list:
            view = source.transpose(axes)
        else:  # None and one integer mean something to NumPy, too
            view = source.transpose(normal_axes(axes, source.ndim))
    except (TypeError, ValueError):
        view = source.transpose(normal_axes(axes, source.ndim))  # says what is wrong
    if out is None:
        small = copy_if_cheap(view, "C") if threads is None else None
        if small is not None:
            return small
        check_dtype(view.dtype, "src")
        out = np.empty(view.shape, view.dtype)
        move_whole(out, view, threads)
        return out
    done = threads is None and copied(out, view)
    if not done:
        if done is False:
            _check_out(out, view)
        move_by_kernel(out, view, threads, apart=done is None)
    return out


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
