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
    if out is None and threads is None and type(axes) is tuple and moving.is_small(source):
        try:
            if len(axes) == source.ndim:
                return source.transpose(axes).copy()
        except ValueError:
            normal_axes(axes, source.ndim)  # says what is wrong with them
            raise
    check_dtype(source.dtype, "src")
    view = source.transpose(normal_axes(axes, source.ndim))
    if out is None:
        result = np.empty(view.shape, view.dtype)
    else:
        result = out
        _check_out(result, view)
    moving.move_whole(result, view, threads)
    return result


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
    if out.shape != view.shape:
        raise ValueError(f"out has shape {out.shape}, but the result has {view.shape}")
    if out.dtype != view.dtype:
        raise TypeError(f"out has dtype {out.dtype}, but src has {view.dtype}")
    check_writeable(out, "out")
