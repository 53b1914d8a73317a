"""The one move that every plan comes down to: a product of pieces between two strided arrays.

::

    axis 1 ->   source         pieces of axis 1: [1, 2] -> [0, 1]  and  [4] -> [2]
    axis 0    . . . . .
      |       . a b . c        target
      v       . d e . f        a b c .         each element of (a piece of axis 0) x (a piece of
              . . . . .        d e f .         axis 1) is copied; the dots are left alone
              . g h . i        g h i .
                               . . . .
    pieces of axis 0: [1, 2] -> [0, 1]  and  [4] -> [2]

Both arrays name their axes alike: axis k of the source is axis k of the target. Another order in
memory is nothing but other strides, so a transposition is the move of one whole piece per axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from kernels.by_numpy import copied
from kernels.checks import Array, address, bounds_cross, check_move
from kernels.loading import kernel
from kernels.nest import Nest, nest
from kernels.pieces import Pieces
from kernels.threads import Task, check_threads, run_all, usable_cpus

STREAM_BYTES = 4 << 20  # from here on the target is written past the caches
PARALLEL_BYTES = 8 << 20  # below this, handing work to a thread costs more than it saves


def move(
    target: Array,
    source: Array,
    pieces: Sequence[Pieces],
    threads: int | None = None,
    stream: bool | None = None,
) -> None:
    """Copy a product of pieces from one strided array into another.

    Elements are copied as bytes. All strides will do: negative, zero in the source, not aligned.

    Parameters
    ----------
    target, source : numpy.ndarray
        Equal dtype (without object fields) and number of dimensions; they must not overlap. Two
        pieces may read the same indices, but must not write the same ones (this is not checked).
    pieces : sequence of Pieces
        One per axis.
    threads : int, optional
        Parts into which the work is cut, which as many threads share as are free. By default 1 for
        less than 8 MiB, otherwise the number of CPUs that this process may use.
    stream : bool, optional
        Whether to write past the caches: for what is not read soon, as some of a large target. By
        default from 4 MiB on.

    Raises
    ------
    TypeError
        If the dtypes differ or hold objects, or an argument has the wrong type.
    ValueError
        If the numbers of dimensions differ, a piece lies outside an array, the target is read-only
        or has stride 0 where it is written, or the two may overlap. Overlap is judged by the
        lowest and highest address touched; where these cross, by
        :func:`numpy.may_share_memory` on the whole arrays with bounded work.

    Examples
    --------
    >>> import numpy as np
    >>> source = np.arange(25).reshape(5, 5)
    >>> target = np.full((4, 4), -1)
    >>> axis = Pieces.explicit([1, 4], [0, 2], [2, 1])
    >>> move(target, source, [axis, axis])
    >>> target
    array([[ 6,  7,  9, -1],
           [11, 12, 14, -1],
           [21, 22, 24, -1],
           [-1, -1, -1, -1]])
    """
    check_threads(threads)
    nbytes = check_move(target, source, pieces)
    _move_checked(target, source, tuple(pieces), nbytes, threads, stream)


def move_all(
    moves: Sequence[tuple[Array, Array, Sequence[Pieces]]], threads: int | None = None
) -> None:
    """Several moves, given as the first arguments of `move`, in any order and at the same time.

    Threads go on with the next one where, with one call after the other, they wait for the last of
    them each time: four times 32 MiB by two threads take nine tenths of that.

    Parameters
    ----------
    moves : sequence of (target, source, pieces)
        No two may write the same elements (this is not checked).
    threads : int, optional
        As for `move`, by the bytes of all of them.

    Raises
    ------
    TypeError, ValueError
        As `move`, before anything is copied.
    """
    check_threads(threads)
    sizes = []
    for target, source, pieces in moves:
        sizes.append(check_move(target, source, pieces))
    total = sum(sizes)
    number = threads or (1 if total < PARALLEL_BYTES else usable_cpus())
    tasks: list[Task] = []
    for (target, source, pieces), nbytes in zip(moves, sizes, strict=True):
        if nbytes:
            # So small that they come out even, however they differ.
            parts = min(number, -(-2 * number * nbytes // total))
            tasks += _tasks(target, source, tuple(pieces), nbytes >= STREAM_BYTES, parts)
    run_all(tasks, number)


def move_whole(
    target: Array, source: Array, threads: int | None = None, stream: bool | None = None
) -> None:
    """Copy every element of an array into another of equal shape and dtype: a change of order.

    What NumPy does as fast is left to NumPy, whose call costs less: a microsecond or two. The rest
    is as for `move`, but the loops for a shape are made once.

    Raises
    ------
    ValueError
        As :func:`move`, for a target that overlaps the source or has stride 0.
    """
    done = copied(target, source) if threads is None else False
    if not done:
        move_by_kernel(target, source, threads, stream, apart=done is None)


def move_by_kernel(
    target: Array,
    source: Array,
    threads: int | None = None,
    stream: bool | None = None,
    apart: bool = False,
) -> None:
    """The same where it is known not to be NumPy's, and maybe that they are `apart` in memory."""
    pieces = _whole(target.shape)
    if not apart:
        check_threads(threads)
        if 0 in target.strides or bounds_cross(target, source):
            check_move(target, source, pieces)
    _move_checked(target, source, pieces, target.nbytes, threads, stream)


def _move_checked(
    target: Array,
    source: Array,
    pieces: tuple[Pieces, ...],
    nbytes: int,
    threads: int | None,
    stream: bool | None = None,
) -> None:
    if nbytes == 0:
        return
    if stream is None:
        stream = nbytes >= STREAM_BYTES
    if threads is None:
        threads = 1 if nbytes < PARALLEL_BYTES else usable_cpus()
    if threads == 1:
        move_serially(target, source, pieces, stream)
    else:
        run_all(_tasks(target, source, pieces, stream, threads))


def _tasks(
    target: Array, source: Array, pieces: tuple[Pieces, ...], stream: bool, parts: int
) -> list[Task]:
    """A move cut into at most so many."""
    products = share(pieces, target.strides, parts)
    return [partial(move_serially, target, source, product, stream) for product in products]


@lru_cache(maxsize=1024)
def _whole(shape: tuple[int, ...]) -> tuple[Pieces, ...]:
    return tuple(Pieces.whole(n) for n in shape)


class Loops(NamedTuple):
    """A loop nest and the kernel's last arguments: to find an address takes a fifth of a us."""

    target_offset: int
    source_offset: int
    itemsize: int
    tables: tuple[int, ...]
    nest: Nest  # what the addresses are of


@lru_cache(maxsize=128)
def _loops(
    pieces: tuple[Pieces, ...],
    source_strides: tuple[int, ...],
    target_strides: tuple[int, ...],
    itemsize: int,
    stream: bool,
) -> Loops:
    """Programs move the same shapes again and again. Pieces are told apart by identity."""
    loops = nest(pieces, source_strides, target_strides, itemsize, stream)
    axes, base, offsets = (address(table) for table in (loops.axes, loops.base, loops.offsets))
    tables = (loops.inner, len(loops.axes), axes, loops.base.shape[1], base, offsets)
    return Loops(loops.target_offset, loops.source_offset, loops.itemsize, tables, loops)


def move_serially(target: Array, source: Array, pieces: tuple[Pieces, ...], stream: bool) -> None:
    """The move, with checked arguments and in this thread; past the caches if `stream`."""
    to, start, itemsize, tables, _ = _loops(
        pieces, source.strides, target.strides, target.itemsize, stream
    )
    kernel("move")(address(target) + to, address(source) + start, itemsize, stream, *tables)


def share(
    pieces: Sequence[Pieces], target_strides: Sequence[int], parts: int
) -> list[tuple[Pieces, ...]]:
    """Cut a product into at most `parts` products, along the axis outermost in the target.

    Threads then write far from each other. An axis with fewer indices than `parts` is passed over
    for the next one; if all are short, the longest is cut.

    >>> [tuple(p.size for p in s) for s in share([Pieces.whole(8), Pieces.whole(3)], (8, 64), 2)]
    [(8, 1), (8, 2)]
    """
    if parts == 1 or not pieces:
        return [tuple(pieces)]
    outermost = sorted(range(len(pieces)), key=lambda k: -abs(target_strides[k]))
    long = [k for k in outermost if pieces[k].size >= parts]
    k = long[0] if long else max(outermost, key=lambda k: pieces[k].size)
    return [(*pieces[:k], part, *pieces[k + 1 :]) for part in pieces[k].cut(parts)]
