"""What memory leaves of a transposition: whole cache lines are moved, and nothing is transposed.

A transposition reads lines of the source, each with elements for many rows of the target, and
writes whole lines of those. Here the same lines are read in the same strips, and written to the
same places, each as it is. So what a transposition takes beyond this is its own work, and what this
takes beyond `np.copyto` is the memory's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from time import perf_counter

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.axes import LINE
from kernels.compiled.memory import fence, prefetch, stream_line
from kernels.threads import run_all

__all__ = ["by_lines"]

STRIPS = 2, 4, 16, 64  # lines of a target row that are written at a time; the best is taken
AHEAD = 6 * LINE  # bytes


@njit(nogil=True, error_model="numpy")
def _move(target, source, first, last, height, steps, itemsize, strip):  # type: ignore[no-untyped-def]
    """Move lines `first` to `last` of `height` rows of the source."""
    rows = LINE // itemsize
    for begin in range(0, height // rows, strip):
        end = min(begin + strip, height // rows)
        for line in range(first, last):
            for k in range(rows):
                to = (target + (line * rows + k) * steps[0] + begin * LINE + LINE - 1) & -LINE
                for block in range(begin, end):
                    start = source + (block * rows + k) * steps[1] + line * LINE
                    prefetch(start + AHEAD)
                    stream_line(to, start)
                    to += LINE
    fence()


def by_lines(
    target: NDArray[np.generic], source: NDArray[np.generic], threads: int
) -> Callable[[], object] | None:
    """For a matrix and its transpose, both dense along their rows; the target needs a line more."""
    itemsize = target.itemsize
    if target.ndim != 2 or not target.strides[1] == source.strides[0] == itemsize <= 16:
        return None
    width, height = (n * itemsize // LINE for n in target.shape)
    if min(width, height) < threads:
        return None
    steps = target.strides[0], source.strides[1]
    places = target.ctypes.data, source.ctypes.data
    cuts = [width * n // threads for n in range(threads + 1)]

    def work(strip: int) -> None:
        run_all(
            [
                partial(_move, *places, low, high, target.shape[1], steps, itemsize, strip)
                for low, high in pairwise(cuts)
            ]
        )

    def seconds(strip: int) -> float:
        begun = perf_counter()
        work(strip)
        return perf_counter() - begun

    work(STRIPS[0])  # compiled now
    return partial(work, min(STRIPS, key=seconds))
