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
from math import prod

import numpy as np

from kernels.checks import Array, address, check_move
from kernels.loading import kernel
from kernels.nest import nest
from kernels.pieces import Pieces
from kernels.threads import check_threads, run_all, usable_cpus

PARALLEL_BYTES = 1 << 20  # below this, handing work to a thread costs more than it saves


def move(
    target: Array, source: Array, pieces: Sequence[Pieces], threads: int | None = None
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
        less than 1 MiB, otherwise the number of CPUs that this process may use.

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
    check_move(target, source, pieces)
    nbytes = prod(axis.size for axis in pieces) * target.itemsize
    if nbytes == 0:
        return
    if threads is None:
        threads = 1 if nbytes < PARALLEL_BYTES else usable_cpus()
    products = share(pieces, target.strides, threads)
    if len(products) == 1:
        move_serially(target, source, products[0])
    else:
        run_all([lambda p=p: move_serially(target, source, p) for p in products])  # type: ignore[misc]


def move_serially(target: Array, source: Array, pieces: Sequence[Pieces]) -> None:
    """The move, with checked arguments and in this thread."""
    loops = nest(pieces, source.strides, target.strides, target.itemsize)
    rows, columns = len(loops.axes), loops.base.shape[1]
    state = np.zeros((rows, 5), np.int64)
    kernel("move", loops.itemsize)(
        address(target) + loops.target_offset,
        address(source) + loops.source_offset,
        loops.itemsize,
        loops.inner,
        rows,
        address(loops.axes),
        columns,
        address(loops.base),
        address(state),
    )


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
