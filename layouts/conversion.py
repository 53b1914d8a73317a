"""One array in another memory order, of another type, or both: one pass over memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kernels import Pieces
from kernels.by_numpy import LYING, copied, copy_if_cheap
from kernels.checks import check_dtype, check_writeable
from kernels.moving import move_by_kernel, move_whole
from kernels.threads import check_threads
from layouts.casting import Casting, cast, cast_if_small
from layouts.orders import AxisOrder, Order, Tiled, empty, in_order, normalize, slowest_first
from layouts.tiled import AnyArray, TiledArray, move

__all__ = ["Casting", "convert"]


@overload
def convert(
    array: ArrayLike | TiledArray,
    order: AxisOrder = "C",
    out: NDArray[Any] | None = None,
    threads: int | None = None,
    *,
    dtype: DTypeLike | None = None,
    casting: Casting = "unsafe",
) -> NDArray[Any]: ...
@overload
def convert(
    array: ArrayLike | TiledArray,
    order: Tiled,
    out: TiledArray | None = None,
    threads: int | None = None,
    *,
    dtype: DTypeLike | None = None,
    casting: Casting = "unsafe",
) -> TiledArray: ...
@overload
def convert(
    array: ArrayLike | TiledArray,
    order: Order = "C",
    out: NDArray[Any] | TiledArray | None = None,
    threads: int | None = None,
    *,
    dtype: DTypeLike | None = None,
    casting: Casting = "unsafe",
) -> NDArray[Any] | TiledArray: ...
def convert(
    array: ArrayLike | TiledArray,
    order: Order = "C",
    out: NDArray[Any] | TiledArray | None = None,
    threads: int | None = None,
    *,
    dtype: DTypeLike | None = None,
    casting: Casting = "unsafe",
) -> NDArray[Any] | TiledArray:
    """Copy an array into another memory order, another type, or both in one pass.

    Parameters
    ----------
    array : array_like or TiledArray
        Any shape, strides and dtype except those that hold Python objects.
    order : "C", "F", tuple of int, or Tiled
        Order of the result in memory; a tuple names the axes, slowest first.
    out : ndarray or TiledArray, optional
        Where to write: of the array's shape and the result's dtype, in memory not shared with the
        array, lying in ``order``. A new array by default.
    threads : int, optional
        Threads to use; chosen by size by default.
    dtype : dtype, optional
        Type of the result, byte order included; the array's own by default.
    casting : "no", "equiv", "safe", "same_kind" or "unsafe"
        Which changes of type are allowed, as in `numpy.ndarray.astype`: by default all that NumPy
        knows, also those that lose something.

    Returns
    -------
    ndarray or TiledArray
        ``out``, or a new array; never a view of ``array``.

    Raises
    ------
    ValueError, TypeError
        If ``out`` does not fit, ``order`` is no order of the array's axes, or ``casting`` does not
        allow the change of type.

    Warns
    -----
    ComplexWarning, RuntimeWarning
        As NumPy does for the same cast, each once: where imaginary parts are dropped, and where
        values don't fit. The latter follow `numpy.errstate`.

    Notes
    -----
    Values are those of ``np.asarray(array).astype(dtype, casting=casting)``; NumPy's own loops cast
    them, in blocks that stay in cache. Two changes of type go through a temporary array: strings
    to datetimes of no given unit, and records with complex fields.

    Examples
    --------
    >>> a = np.arange(6).reshape(2, 3)
    >>> b = convert(a, order="F")
    >>> b.flags.f_contiguous, bool((a == b).all())
    (True, True)
    >>> convert(a, order="F", dtype=">f4").dtype
    dtype('>f4')
    >>> convert(a, order=Tiled((2, 2))).tiles.shape
    (1, 2, 2, 2)
    """
    if type(array) is not np.ndarray and not isinstance(array, TiledArray):
        array = np.asarray(array)
    if threads is None and type(array) is np.ndarray:
        if order == "C" or order == "F":
            if dtype is not None:
                made = cast_if_small(array, order, dtype, casting, out)  # type: ignore[arg-type]
                if made is not None:
                    return made
            elif out is not None:
                done = copied(out, array, LYING[order])
                if done is None:
                    move_by_kernel(out, array, apart=True)  # type: ignore[arg-type]
                if done is not False:
                    return out
            else:
                made = copy_if_cheap(array, order)  # type: ignore[arg-type]
                if made is not None:
                    return made
        elif not isinstance(order, Tiled):
            made = _if_small(array, order, out, dtype, casting)
            if made is not None:
                return made
    return _by_kernel(array, order, out, threads, dtype, casting)


def _by_kernel(
    array: ArrayLike | TiledArray,
    order: Order,
    out: NDArray[Any] | TiledArray | None,
    threads: int | None,
    dtype: DTypeLike | None,
    casting: Casting,
) -> NDArray[Any] | TiledArray:
    """The same, whatever it is; here is said what is wrong."""
    if not isinstance(array, TiledArray):
        array = np.asarray(array)
        check_dtype(array.dtype, "array")
        if dtype is None and not isinstance(order, Tiled):
            return _reordered(array, order, out, threads)
    wanted = array.dtype
    if dtype is not None:
        check_threads(threads)
        wanted = _checked(np.dtype(dtype))
        if _needs_whole(array.dtype, wanted):
            array = np.asarray(array).astype(wanted, casting=casting)
            wanted = array.dtype
        else:
            # The cast of nothing says what the type is in full, whether it is allowed, and what
            # NumPy warns of.
            wanted = np.empty(0, array.dtype).astype(wanted, casting=casting).dtype
    order = normalize(order, array.ndim)
    if out is None:
        out = empty(array.shape, wanted, order)
    else:
        _check_out(out, array.shape, wanted, order)
    if wanted == array.dtype:
        move(out, array, [Pieces.whole(n) for n in array.shape], threads)
    else:
        cast(out, array, threads)
    return out


def _if_small(
    array: NDArray[Any], order: Any, out: Any, dtype: DTypeLike | None, casting: Casting
) -> NDArray[Any] | None:
    """The result with the axes in any order, if NumPy makes it no slower than we; or None."""
    laid, axes, places = _laid(array, order)
    if out is None:
        if dtype is None:
            made = copy_if_cheap(laid, "C")
        else:
            made = cast_if_small(laid, "C", dtype, casting)
        return None if made is None else made.transpose(places)
    if not isinstance(out, np.ndarray) or out.ndim != array.ndim:
        return None
    target = out.transpose(axes)
    if dtype is None:
        done = copied(target, laid, LYING["C"])
        if done is None:
            move_by_kernel(target, laid, apart=True)
        return None if done is False else out
    return None if cast_if_small(laid, "C", dtype, casting, target) is None else out


def _laid(array: NDArray[Any], order: Any) -> tuple[NDArray[Any], tuple[int, ...], tuple[int, ...]]:
    """The array with its axes slowest first, those axes, and the place among them of each."""
    if type(order) is tuple:
        try:
            # NumPy refuses 1.0 and True, whose places are those of 1.
            return array.transpose(order), order, _places(order)
        except (TypeError, ValueError):
            pass  # `slowest_first` says what is wrong
    axes = slowest_first(order, array.ndim)
    return array.transpose(axes), axes, _places(axes)


@lru_cache(maxsize=1024)
def _places(axes: tuple[int, ...]) -> tuple[int, ...]:
    slowest_first(axes, len(axes))  # no negative ones
    return tuple(axes.index(axis) for axis in range(len(axes)))


def _reordered(
    array: NDArray[Any],
    order: AxisOrder,
    out: NDArray[Any] | TiledArray | None,
    threads: int | None,
) -> NDArray[Any]:
    """A plain array of the same type in another plain order."""
    if out is None:
        result = empty(array.shape, array.dtype, order)
        move_whole(result, array, threads)
        return result
    _check_out(out, array.shape, array.dtype, order)
    plain: Any = out
    move_by_kernel(plain, array, threads)
    return plain  # type: ignore[no-any-return]


def _checked(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.hasobject:
        check_dtype(dtype, "the result")
    if dtype.subdtype is not None:
        raise TypeError(f"dtype: got {dtype}, which adds axes; expected a type of one element")
    return dtype


def _needs_whole(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Whether the result's type depends on the values, or NumPy would warn block by block."""
    if target.kind in "mM" and source.kind in "SU":
        return np.datetime_data(target)[0] == "generic"
    return source.fields is not None and _has_complex(source)


def _has_complex(dtype: np.dtype[Any]) -> bool:
    if dtype.fields is None:
        return dtype.base.kind == "c"
    return any(_has_complex(field[0].base) for field in dtype.fields.values())


def _check_out(out: AnyArray, shape: tuple[int, ...], dtype: np.dtype[Any], order: Order) -> None:
    if not isinstance(out, np.ndarray) and not isinstance(out, TiledArray):
        raise TypeError(f"out: got {type(out).__name__}, expected an array")
    if out.shape != shape:
        raise ValueError(f"out: its shape is {out.shape}, expected {shape}")
    if isinstance(out, TiledArray):
        if out.order != order:
            raise ValueError(f"out: its order is {out.order}, expected {order!r}")
        check_writeable(out.tiles, "out")
    else:
        if isinstance(order, Tiled):
            raise TypeError(f"out: got a plain array, expected a TiledArray in order {order}")
        if not in_order(out, order):
            raise ValueError(
                f"out: its strides are {out.strides}, expected memory in order {order!r}"
            )
        if not out.flags.writeable:
            check_writeable(out, "out")
    if out.dtype != dtype:
        raise TypeError(f"out: its dtype is {out.dtype}, expected {dtype}")
