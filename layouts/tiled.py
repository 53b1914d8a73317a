"""Arrays whose memory lies in tiles, and the move of pieces to and from them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

import kernels
from kernels import Pieces, Tiling
from kernels.checks import check_dtype
from layouts.numbers import as_index
from layouts.orders import Tiled, normalize, slowest_first

__all__ = ["AnyArray", "TiledArray", "as_array", "move"]

#: NumPy counts the bytes of a view as if none overlapped, and refuses more than int64 holds.
LARGEST_VIEW = (1 << 63) - 1


class TiledArray:
    """An array whose memory lies in the tiles of a `Tiled` order.

    It only says where the elements are; ``np.asarray(tiled)`` or ``convert(tiled)`` gives the
    array to calculate with, and `tiles` the memory itself, without a copy. Made by `convert`,
    `empty` and `from_memory`.

    Examples
    --------
    >>> from layouts import convert
    >>> a = convert(np.arange(15).reshape(3, 5), order=Tiled((2, 2)))
    >>> a
    TiledArray of shape (3, 5), dtype int64, order Tiled((2, 2)): 2x3 tiles
    >>> a.tiles[0, 1]
    array([[2, 3],
           [7, 8]])
    >>> np.asarray(a)
    array([[ 0,  1,  2,  3,  4],
           [ 5,  6,  7,  8,  9],
           [10, 11, 12, 13, 14]])
    """

    __slots__ = ("_bytes", "_memory", "_order", "_shape", "_strides", "_tiles", "_tilings")

    def __init__(self, memory: NDArray[Any], shape: tuple[int, ...], order: Tiled) -> None:
        # `memory` has one dimension and holds whole tiles; from_memory is the public way.
        check_dtype(memory.dtype, "memory")
        self._memory, self._shape, self._order = memory, shape, order
        self._bytes = memory.view(np.uint8) if memory.nbytes else np.empty(0, np.uint8)
        n = order.ndim
        grid, axes = order.grid(shape), _memory_axes(order)
        extents = (*grid, *order.tiles)
        laid = memory.reshape([extents[axis] for axis in axes])
        self._tiles = laid.transpose(np.argsort(axes)) if n else laid
        strides = _dense_strides(extents, axes)
        self._strides = tuple(stride * memory.itemsize for stride in strides[n:])
        # The stride between tiles is a whole number of strides within one, as tiles are dense.
        self._tilings = tuple(
            Tiling(tile, between // within) if count > 1 else kernels.PLAIN
            for count, tile, between, within in zip(
                grid, order.tiles, strides[:n], strides[n:], strict=True
            )
        )

    @classmethod
    def empty(cls, shape: Sequence[int], dtype: DTypeLike, order: Tiled) -> TiledArray:
        """An array with uninitialised elements; what pads its tiles is zero.

        Raises
        ------
        ValueError
            If the order is one of another number of axes.
        """
        extents = _checked(shape, order)
        padded = order.padded(extents)
        make = np.empty if padded == extents else np.zeros
        return cls(make(prod(padded), dtype), extents, order)

    @classmethod
    def from_memory(
        cls, memory: Any, shape: Sequence[int], order: Tiled, dtype: DTypeLike | None = None
    ) -> TiledArray:
        """Take existing memory for an array in tiles, without a copy.

        Parameters
        ----------
        memory : ndarray or buffer
            An array shaped as `tiles`, lying in the order's own way; or one dimension that holds
            all tiles, one after the other, padding included: an array, or anything with the
            buffer protocol.
        shape : sequence of int
            The array's shape, without padding.
        order : Tiled
            How it lies.
        dtype : dtype, optional
            Type of the elements; the memory's own by default.

        Raises
        ------
        ValueError, TypeError
            If the memory is not as long as the tiles, or does not lie in this order without gaps.

        Examples
        --------
        >>> a = TiledArray.from_memory(np.arange(8), (2, 3), Tiled((2, 2)))
        >>> np.asarray(a)
        array([[0, 1, 4],
               [2, 3, 6]])
        """
        extents = _checked(shape, order)
        flat = _flat(memory, (*order.grid(extents), *order.tiles), _memory_axes(order))
        expected = prod(order.padded(extents))
        if dtype is not None:
            flat = _retyped(flat, np.dtype(dtype), expected)
        if flat.size != expected:
            raise ValueError(
                f"memory: got {flat.size} elements of dtype {flat.dtype}, expected {expected}:"
                f" {order.grid(extents)} tiles of {order.tiles} for shape {extents}"
            )
        return cls(flat, extents, order)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each axis, without padding."""
        return self._shape

    @property
    def order(self) -> Tiled:
        """How it lies in memory."""
        return self._order

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._memory.dtype

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self._memory.itemsize

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """Number of elements, without padding."""
        return prod(self._shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the memory, padding included."""
        return self._memory.nbytes

    @property
    def tiles(self) -> NDArray[Any]:
        """The memory, as the grid's axes and then a tile's: ``tiles[i0, i1, ..., j0, j1, ...]``."""
        return self._tiles

    @property
    def memory(self) -> NDArray[np.uint8]:
        """The memory as bytes, from its first to its last, padding included; a view."""
        return self._bytes

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The elements as a plain array, row-major; always a copy."""
        from layouts.conversion import convert

        if copy is False:
            raise ValueError(f"a plain array of {self!r} is always a copy, expected copy=None")
        array: NDArray[Any] = convert(self, dtype=dtype)
        return array

    def __repr__(self) -> str:
        grid = "x".join(map(str, self._order.grid(self._shape))) or "1"
        return (
            f"TiledArray of shape {self._shape}, dtype {self.dtype}, order {self._order}:"
            f" {grid} tiles"
        )


def _memory_axes(order: Tiled) -> tuple[int, ...]:
    """The axes of `tiles` from slowest to fastest: the grid's, then those within a tile."""
    n = order.ndim
    return (
        *slowest_first(order.outer, n),
        *(n + axis for axis in slowest_first(order.inner, n)),
    )


def _dense_strides(extents: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Strides, in elements, of dense memory whose axes lie in this way, slowest first."""
    strides, step = [0] * len(extents), 1
    for axis in reversed(axes):
        strides[axis] = step
        step *= extents[axis]
    return strides


def _checked(shape: Sequence[int], order: Tiled) -> tuple[int, ...]:
    if not isinstance(order, Tiled):
        raise TypeError(f"order: got {order!r}, expected Tiled")
    extents = tuple(as_index(n, "shape") for n in shape)
    normalize(order, len(extents))
    return extents


def _flat(memory: Any, extents: tuple[int, ...], axes: Sequence[int]) -> NDArray[Any]:
    """All of the memory in one dimension, a view."""
    try:
        array = np.asarray(memory if isinstance(memory, np.ndarray) else memoryview(memory))
    except TypeError:
        raise TypeError(
            f"memory: got {type(memory).__name__}, expected an array or a buffer"
        ) from None
    if array.shape == extents:
        laid = array.transpose(axes)
    elif array.ndim == 1:
        laid, axes = array, (0,)
    else:
        raise ValueError(
            f"memory: its shape is {array.shape}, expected one dimension, or {extents}: the grid"
            " of tiles and a tile"
        )
    if not laid.flags.c_contiguous:
        raise ValueError(
            f"memory: its strides are {array.strides}, expected memory without gaps whose axes"
            f" are, slowest first, {tuple(axes)}"
        )
    return laid.reshape(-1)


def _retyped(flat: NDArray[Any], dtype: np.dtype[Any], elements: int) -> NDArray[Any]:
    """The same bytes as elements of another type."""
    if flat.dtype == dtype:
        return flat
    if flat.nbytes != elements * dtype.itemsize:
        raise ValueError(
            f"memory: got {flat.nbytes} bytes, expected {elements * dtype.itemsize}:"
            f" {elements} elements of dtype {dtype}, padding included"
        )
    return flat.view(np.uint8).view(dtype) if flat.nbytes else np.empty(elements, dtype)


AnyArray: TypeAlias = NDArray[Any] | TiledArray


def as_array(value: Any) -> AnyArray:
    """An array in tiles as it is, all else as NumPy takes it."""
    return value if isinstance(value, TiledArray) else np.asarray(value)


def move(
    target: AnyArray,
    source: AnyArray,
    pieces: Sequence[Pieces],
    threads: int | None = None,
    stream: bool | None = None,
) -> None:
    """`kernels.move` for plain arrays and for arrays in tiles, on either side.

    A tiled axis is one with gaps: its pieces are cut at the tiles and move between plain strided
    views, of which only what lies in tiles is touched (see `kernels.refine`).

    Raises
    ------
    ValueError, TypeError
        As `kernels.move`.
    """
    if isinstance(target, np.ndarray) and isinstance(source, np.ndarray):
        kernels.move(target, source, pieces, threads, stream)
        return
    _check(target, source, pieces)
    if target.itemsize and all(p.size for p in pieces):
        refined = [
            kernels.refine(p, s, t)
            for p, s, t in zip(pieces, _tilings(source), _tilings(target), strict=True)
        ]
        _move_views((target, 0), (source, 0), refined, threads, stream)


def move_all(
    moves: Sequence[tuple[AnyArray, AnyArray, Sequence[Pieces]]], threads: int | None = None
) -> None:
    """`kernels.move_all` for plain arrays; those in tiles come one after the other."""
    plain: list[tuple[np.ndarray, np.ndarray, Sequence[Pieces]]] = []
    for target, source, pieces in moves:
        if isinstance(target, np.ndarray) and isinstance(source, np.ndarray):
            plain.append((target, source, pieces))
        else:
            move(target, source, pieces, threads)
    kernels.move_all(plain, threads)


def _check(target: AnyArray, source: AnyArray, pieces: Sequence[Pieces]) -> None:
    """What is wrong with a move as its caller sees it, who knows nothing of views."""
    if target.dtype != source.dtype:
        raise TypeError(f"target has dtype {target.dtype}, but source has {source.dtype}")
    if not target.ndim == source.ndim == len(pieces):
        raise ValueError(
            f"target has {target.ndim} dimensions, source has {source.ndim} and there are "
            f"pieces for {len(pieces)} axes; they must be equal"
        )
    for axis, p in enumerate(pieces):
        for name, array, (low, high) in (
            ("target", target, p.target_extent),
            ("source", source, p.source_extent),
        ):
            if low < 0 or high > array.shape[axis]:
                raise ValueError(
                    f"pieces[{axis}] reach from index {low} to {high - 1} of {name}, which has"
                    f" {array.shape[axis]} indices along axis {axis}"
                )


def _tilings(array: AnyArray) -> tuple[Tiling, ...]:
    return array._tilings if isinstance(array, TiledArray) else (kernels.PLAIN,) * array.ndim


#: One side of a move: an array, and for one in tiles where its view begins, in bytes.
_Side: TypeAlias = tuple[AnyArray, int]


def _move_views(
    target: _Side,
    source: _Side,
    pieces: Sequence[Pieces],
    threads: int | None,
    stream: bool | None,
) -> None:
    """Move pieces whose offsets are those of the views; in halves where a view is too large."""
    if _widest(target, source, pieces) is not None:
        for axis, p in enumerate(pieces):  # what comes before the pieces need not be in the view
            to, start = p.target_extent[0], p.source_extent[0]
            target, source = _onward(target, axis, to), _onward(source, axis, start)
            pieces = [*pieces[:axis], _back(p, start, to), *pieces[axis + 1 :]]
        long = _widest(target, source, pieces)
        if long is not None:
            for half in pieces[long].cut(2):
                halves = [*pieces[:long], half, *pieces[long + 1 :]]
                _move_views(target, source, halves, threads, stream)
            return
    kernels.move(
        _view(*target, [p.target_extent[1] for p in pieces]),
        _view(*source, [p.source_extent[1] for p in pieces]),
        pieces,
        threads,
        stream,
    )


def _widest(target: _Side, source: _Side, pieces: Sequence[Pieces]) -> int | None:
    """The longest axis of the view that is too large, if one is."""
    for (array, _), shape in (
        (target, [p.target_extent[1] for p in pieces]),
        (source, [p.source_extent[1] for p in pieces]),
    ):
        if isinstance(array, TiledArray) and prod(shape) * array.itemsize > LARGEST_VIEW:
            return shape.index(max(shape))
    return None


def _view(array: AnyArray, offset: int, shape: Sequence[int]) -> NDArray[Any]:
    """The plain strided view in which a refined piece's offsets are indices."""
    if isinstance(array, np.ndarray):
        return array
    return np.ndarray(shape, array.dtype, array._bytes, offset, array._strides)


def _onward(side: _Side, axis: int, low: int) -> _Side:
    """The side from index `low` of its view on."""
    array, offset = side
    if isinstance(array, np.ndarray):
        return array[(slice(None),) * axis + (slice(low, None),)], 0
    return array, offset + low * array._strides[axis]


def _back(pieces: Pieces, source: int, target: int) -> Pieces:
    """The pieces with all offsets reduced."""
    return Pieces(
        pieces.source - source,
        pieces.target - target,
        pieces.length,
        pieces.count,
        pieces.source_step,
        pieces.target_step,
        pieces.last,
        pieces.skip,
    )
