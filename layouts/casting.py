"""Elements of one type into memory of another: NumPy's casts, in blocks that stay in cache.

NumPy casts fast along memory and slowly across it, the kernels move fast across it and do not
cast. So where source and target lie in different orders, a block goes through a small buffer: cast
along the source's order and then moved across, or moved across and then cast along the target's,
whichever moves the narrower type::

    source, row-major              buffer, row-major         target, column-major
    +-----------+                                            +-----------+
    |   +---+   |     cast along      +---+    move across   |           |
    |   |   |   |   ------------->    |   |   ------------>  |  +--+     |
    |   +---+   |                     +---+                  |  +--+     |
    +-----------+                                            +-----------+

A block is a few cache lines long along the axis that is dense where it is moved across, and as long
as it may be along the one that it is cast along. What is moved into a target larger than the caches
is streamed past them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import product
from math import isqrt, prod
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels import Pieces
from kernels.by_numpy import LYING, PLAIN, copied
from kernels.checks import MAX_OVERLAP_WORK
from kernels.moving import STREAM_BYTES, move_serially
from kernels.threads import check_threads, run_all, usable_cpus
from layouts.orders import slowest_first
from layouts.tiled import AnyArray, TiledArray, move

__all__ = ["Casting", "cast", "cast_if_small"]

#: Bytes of a block on its wider side, and of its runs where it is moved across: f8 -> f4 across
#: 8192 x 8192 takes 75 to 85 ms with these, 92 to 97 in squares; 136 in squares not streamed.
BLOCK_BYTES, ACROSS_BYTES = 1 << 21, 512
#: Up to here NumPy casts and transposes in one call faster than we can prepare to.
SMALL_ELEMENTS = 1 << 15
#: Below this many bytes a second thread costs more than it saves.
PARALLEL_BYTES = 1 << 22
#: The same where NumPy walks along both sides, for memory is what it waits for.
ALONG_BYTES = 1 << 25
#: From this many elements in a row on, NumPy is as fast along rows that lie anywhere.
LONG_ROW = 64

Casting: TypeAlias = Literal["no", "equiv", "safe", "same_kind", "unsafe"]
#: The first and the last index, plus one, of a block along each axis.
Block: TypeAlias = tuple[tuple[int, int], ...]
Copy: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], None]


def cast(target: AnyArray, source: AnyArray, threads: int | None = None) -> None:
    """Fill ``target`` with the elements of ``source``, cast to its type.

    Parameters
    ----------
    target, source : ndarray or TiledArray
        Of one shape, in memory that they do not share; the types must be such that NumPy casts
        between them.
    threads : int, optional
        Threads to use; chosen by size by default.

    Raises
    ------
    ValueError
        If they may overlap in memory; from NumPy, if a string is no number.

    Warns
    -----
    RuntimeWarning
        If values don't fit, once for all of them and as `numpy.errstate` says. Not where the
        imaginary part of a complex number is dropped: that is known beforehand.
    """
    check_threads(threads)
    _check_apart(target, source)
    if source.size == 0:
        return
    drops = source.dtype.kind == "c" and target.dtype.kind in "iuf"
    copy = _copy_real if drops else _copy
    if source.size <= SMALL_ELEMENTS and not (
        isinstance(target, TiledArray) or isinstance(source, TiledArray)
    ):
        copy(target, source)
        return
    if threads is None:
        nbytes = source.size * max(source.itemsize, target.itemsize)
        threads = 1 if nbytes < PARALLEL_BYTES else usable_cpus()
    orders = _fastest_first(target), _fastest_first(source)
    if _lie_alike(target, source, orders):
        work, extents = _copy_blocks, _slab_extents(target.shape, orders[0], threads)
    else:
        work, extents = _move_blocks, _block_extents(target, source, orders)
    errors = _Errors()
    shares = _shares(target.shape, extents, orders[0], threads)
    run_all([partial(errors.during, work, target, source, blocks, copy) for blocks in shares])
    errors.report()


def cast_if_small(
    array: NDArray[Any],
    order: Literal["C", "F"],
    dtype: DTypeLike,
    casting: Casting,
    out: Any = None,
) -> NDArray[Any] | None:
    """The elements of another type in this order, if NumPy casts them no slower than we.

    Otherwise None, and nothing was done; what is wrong with `out` or the types is left to be said.
    """
    wanted = np.dtype(dtype)
    size = array.size
    if size > SMALL_ELEMENTS and not (
        size * max(wanted.itemsize, array.itemsize) < ALONG_BYTES and _is_along(array, order)
    ):
        return None
    if out is not None:
        fits = casting == "unsafe" and copied(out, array, LYING[order], wanted)
        return out if fits else None
    if wanted.num not in PLAIN and (wanted.hasobject or wanted.subdtype is not None):
        return None
    return None if array.dtype.hasobject else array.astype(wanted, order, casting, False)


def _is_along(array: NDArray[Any], order: Literal["C", "F"]) -> bool:
    """Whether the axis that is the fastest one in this order is so in the array."""
    strides = array.strides
    if not strides:
        return True
    fastest = -1 if order == "C" else 0
    return array.shape[fastest] > 1 and abs(strides[fastest]) == min(map(abs, strides))


def _copy(target: NDArray[Any], source: NDArray[Any]) -> None:
    np.copyto(target, source, casting="unsafe")


def _copy_real(target: NDArray[Any], source: NDArray[Any]) -> None:
    np.copyto(target, source.real, casting="unsafe")


def _check_apart(target: AnyArray, source: AnyArray) -> None:
    out, array = (a.tiles if isinstance(a, TiledArray) else a for a in (target, source))
    # numpy's stubs know two of the values that it takes
    if np.may_share_memory(out, array, max_work=MAX_OVERLAP_WORK):  # type: ignore[arg-type]
        raise ValueError("out overlaps the array in memory, expected memory of its own")


def _fastest_first(array: AnyArray) -> list[int]:
    """The axes from the densest on; those that say nothing about memory come last."""
    if isinstance(array, TiledArray):
        return list(reversed(slowest_first(array.order.inner, array.ndim)))
    strides, shape = array.strides, array.shape
    return sorted(
        range(array.ndim), key=lambda k: (shape[k] == 1 or not strides[k], abs(strides[k]), -k)
    )


def _lie_alike(target: AnyArray, source: AnyArray, orders: tuple[list[int], list[int]]) -> bool:
    """Whether NumPy's own copy walks along both sides."""
    if isinstance(target, TiledArray) or isinstance(source, TiledArray) or not target.ndim:
        return False
    dense = orders[0][0]
    return orders[0] == orders[1] or (dense == orders[1][0] and target.shape[dense] >= LONG_ROW)


def _slab_extents(shape: Sequence[int], order: Sequence[int], slabs: int) -> list[int]:
    """One block for each thread: the slowest axis that is long enough is cut, or the longest."""
    extents = list(shape)
    long = [axis for axis in reversed(order) if shape[axis] >= slabs]
    axis = long[0] if long else extents.index(max(extents))
    extents[axis] = -(-extents[axis] // slabs)
    return extents


def _block_extents(
    target: AnyArray, source: AnyArray, orders: tuple[list[int], list[int]]
) -> list[int]:
    """A block that fits in cache, long along the dense axis of the side that it is cast along."""
    budget = max(1, BLOCK_BYTES // max(source.itemsize, target.itemsize, 1))
    extents = [1] * target.ndim
    cast_first = _is_cast_first(target, source)
    across = ACROSS_BYTES // max(target.itemsize if cast_first else source.itemsize, 1)
    short = min(_power(across), _power(isqrt(budget)))
    runs = short, _power(budget // short)
    for order, run in zip(orders, runs if cast_first else reversed(runs), strict=True):
        _grow(extents, target.shape, order, run)
    for axis in (*orders[1], *orders[0]):  # what is left, where one of the sides is short
        room = budget // prod(extents)
        extents[axis] = min(target.shape[axis], extents[axis] * max(room, 1))
    for array in (target, source):
        if isinstance(array, TiledArray):
            tiles = array.order.tiles
            whole = [max(e // t, 1) * t for e, t in zip(extents, tiles, strict=True)]
            if prod(whole) <= 4 * budget:
                extents = whole
    return extents


def _power(n: int) -> int:
    """The power of two up to this: such runs end where cache lines do."""
    return 1 << (max(n, 1).bit_length() - 1)


def _is_cast_first(target: AnyArray, source: AnyArray) -> bool:
    """Whether blocks are cast into a buffer and moved from there, not only the other way round."""
    if isinstance(target, TiledArray):
        return True
    return target.itemsize <= source.itemsize and not isinstance(source, TiledArray)


def _grow(extents: list[int], shape: Sequence[int], order: Sequence[int], run: int) -> None:
    """Make a block so long that ``run`` elements lie side by side in this order, if there are."""
    for axis in order:
        extents[axis] = max(extents[axis], min(shape[axis], run))
        run //= extents[axis]
        if run < 2:
            return


def _shares(
    shape: Sequence[int], extents: Sequence[int], order: Sequence[int], shares: int
) -> list[Iterator[Block]]:
    """The blocks, for so many threads, each from one part of the target, as it lies in memory."""
    ranges = [
        [(low, min(low + extent, n)) for low in range(0, n, extent)]
        for n, extent in zip(shape, extents, strict=True)
    ]
    slowest_first = list(reversed(order))
    axis = next((k for k in slowest_first if len(ranges[k]) >= shares), None)
    if axis is None:
        if not ranges:
            return [iter([()])]
        axis = max(slowest_first, key=lambda k: len(ranges[k]))
    whole = ranges[axis]
    shares = min(shares, len(whole))
    result = []
    for share in range(shares):
        ranges[axis] = whole[share * len(whole) // shares : (share + 1) * len(whole) // shares]
        walked = product(*(ranges[k] for k in slowest_first))
        result.append(_in_axis_order(walked, slowest_first))
    return result


def _in_axis_order(blocks: Iterable[Block], axes: Sequence[int]) -> Iterator[Block]:
    place = [axes.index(k) for k in range(len(axes))]
    for block in blocks:
        yield tuple(block[k] for k in place)


def _copy_blocks(target: AnyArray, source: AnyArray, blocks: Iterable[Block], copy: Copy) -> None:
    for block in blocks:
        copy(_part(target, block), _part(source, block))


def _move_blocks(target: AnyArray, source: AnyArray, blocks: Iterable[Block], copy: Copy) -> None:
    """Through one buffer, or two where both sides lie in tiles."""
    cast_first = _is_cast_first(target, source)
    move_first = isinstance(source, TiledArray) or not cast_first
    stream = target.size * target.itemsize >= STREAM_BYTES
    along_target = _Buffer(source.dtype, _fastest_first(target))
    along_source = _Buffer(target.dtype, _fastest_first(target if move_first else source))
    for block in blocks:
        extents = [high - low for low, high in block]
        if move_first:
            have = along_target.array(extents)
            _move_block(have, source, block, into=False, stream=False)
        else:
            have = _part(source, block)
        if cast_first:
            want = along_source.array(extents)
            copy(want, have)
            _move_block(target, want, block, into=True, stream=stream)
        else:
            copy(_part(target, block), have)


def _part(array: AnyArray, block: Block) -> NDArray[Any]:
    """A view of the block; only of plain arrays."""
    index: Any = (..., *(slice(*ends) for ends in block))
    view: NDArray[Any] = array[index]  # type: ignore[index]
    return view


def _move_block(target: AnyArray, source: AnyArray, block: Block, into: bool, stream: bool) -> None:
    """Move a block of one side, from or to a buffer on the other."""
    if isinstance(target, TiledArray) or isinstance(source, TiledArray):
        pieces = [_piece(0 if into else low, low if into else 0, high - low) for low, high in block]
        move(target, source, pieces, threads=1)
        return
    target, source = (_part(target, block), source) if into else (target, _part(source, block))
    move_serially(target, source, tuple(Pieces.whole(n) for n in target.shape), stream)


@lru_cache(maxsize=4096)
def _piece(source: int, target: int, length: int) -> Pieces:
    return Pieces.explicit([source], [target], [length])


class _Buffer:
    """Memory for one block at a time, whose axes lie as an array's do."""

    def __init__(self, dtype: np.dtype[Any], fastest_first: Sequence[int]) -> None:
        self._memory = np.empty(0, dtype)
        self._axes = list(reversed(fastest_first))
        self._inverse = [self._axes.index(k) for k in range(len(self._axes))]

    def array(self, extents: Sequence[int]) -> NDArray[Any]:
        size = prod(extents)
        if size > self._memory.size:
            self._memory = np.empty(size, self._memory.dtype)
        laid = self._memory[:size].reshape([extents[k] for k in self._axes])
        return laid.transpose(self._inverse)


class _Errors:
    """Floating-point errors of all threads, told once they are through, as NumPy tells its own.

    Threads of a pool know nothing of the caller's `numpy.errstate`, and every block would warn.
    """

    #: The processor's flags, as NumPy numbers them, and a cast that raises each.
    CASTS = ((2, 1e300, "f4"), (4, 1e-300, "f4"), (8, np.nan, "i4"))

    def __init__(self) -> None:
        self.flags = 0

    def during(self, work: Callable[..., None], *args: Any) -> None:
        """Do work, and take note of its errors."""
        with np.errstate(all="call", call=self._note):
            work(*args)

    def _note(self, _: str, flags: int) -> None:
        self.flags |= flags

    def report(self) -> None:
        """Let NumPy warn, raise or call, as the caller has set it."""
        for flag, value, dtype in self.CASTS:
            if self.flags & flag:
                np.array([value]).astype(dtype)
