"""What NumPy copies no slower than a kernel does, with what its call costs: left to NumPy.

That is what is small, and what stays in the caches if both sides lie alike. Calls of Python are
what such a copy costs, so each function does all it has to do itself.
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import gcd, prod
from typing import Any, Literal

import numpy as np
from numpy import ndarray

from kernels.axes import LINE, WIDEST, Axis, fastest, forwards, merge, outermost_first
from kernels.checks import Array, bounds_cross, distance

SMALL_BYTES = 16384  # up to here a kernel's call costs more than it saves
# From here on kernels are faster where both sides lie alike, too; for runs with gaps from half.
KERNEL_BYTES = 10 << 20
# Between these sizes the C library's copy has the processor copy (rep movsb), and these need up to
# fifteen times as long if the target lies 1 to 31 bytes after the source, modulo 4096: 64 KiB take
# 30 us. Malloc puts whole pages 16 bytes after each other. (Zen 4 is slow up to 15 only, so with
# odd views, and is not looked at: to tell the distance takes everybody a microsecond.)
SLOW_PROCESSORS, SLOW_FROM, SLOW_TO = ("znver3",), 1 << 15, 1 << 19
# What is neither small nor large, in ns: NumPy takes so much for each row and for each element, by
# whether it has loads and stores of that width; a kernel for the call and for each element, by its
# width in rectangles, and otherwise walked. Of runs, each byte counts. They count against each
# other only, so the processor's speed hardly matters. Fitted to 12,000 random shapes.
NUMPY_ROW, NUMPY_COST, NUMPY_ODD_COST, NUMPY_BYTE = 8, 0.38, 2.6, 0.03
KERNEL_CALL, WALK_COST, WALK_WIDE_COST, RUN_BYTE = 4500, 0.5, 0.8, 0.075
SHORT_ROW, WALK_ROW = 12, 2  # elements, and what rows up to this cost beyond them
# Rectangles: rows, and columns with their cost.
LEAST_ROWS, RECTANGLES = 20, {1: (64, 0.2), 2: (32, 0.25), 4: (32, 0.3), 8: (32, 0.36)}
WIDTHS = (1, 2, 4, 8, 16)
# The first level's cache: lines, and how many of them may lie whole pages apart. So many elements
# stay in the caches.
LINES, WAYS, PAGE, CACHED_SIZE = 512, 8, 4096, 200_000
CLOSE = 5  # so many times as much may be read in order, two elements and more of each line
# Of `flags.num`, one number instead of an attribute for each: contiguous in either order, and what
# a target must be if it may lie anyhow, or in this order.
CONTIGUOUS, ANYHOW, LYING = 0x003, 0x400, {"C": 0x401, "F": 0x402}
# Of `dtype.num`: types without Python objects and without fields, between which may be bytes that
# NumPy does not copy; and those among which a cast has nothing to warn of but values.
PLAIN = frozenset(np.dtype(code).num for code in "?bBhHiIlLqQefdgFDGSUMm")
REAL = frozenset(np.dtype(code).num for code in "?bBhHiIlLqQefdg")


def copied(
    target: Any, source: Array, needed: int = ANYHOW, dtype: np.dtype[Any] | None = None
) -> bool | None:
    """Copy into an array of equal shape, if NumPy does it no slower and nothing is wrong.

    Parameters
    ----------
    target : object
        What may be an array to write to.
    source : ndarray
        What is copied, all of it.
    needed : int
        Flags that the target must have.
    dtype : dtype, optional
        What the target must be of, if not of the source's dtype: real numbers are cast, and who
        asks knows that NumPy does it no slower.

    Returns
    -------
    bool or None
        Whether it was copied; else nothing was done. None if nothing is wrong, but a kernel is
        faster; False if something may be, which the long way has to say.
    """
    exact = type(target) is ndarray
    if not exact and not isinstance(target, ndarray):
        return False
    own = source.dtype
    if dtype is None:
        if target.dtype is not own and target.dtype != own:
            return False
        if own.num not in PLAIN and (own.names is not None or own.hasobject):
            return False
    elif target.dtype != dtype or not (
        (own.num in REAL and dtype.num in REAL) or (own.num in PLAIN and own == dtype)
    ):
        return False
    if target.shape != source.shape:
        return False
    flags = target.flags.num
    if flags & needed != needed or not (flags & CONTIGUOUS or 0 not in target.strides):
        return False
    if bounds_cross(target, source):
        return False
    nbytes = source.nbytes
    if dtype is None and nbytes > SMALL_BYTES and not _is_numpys(target, source, nbytes):
        return None
    if exact:
        target[...] = source  # 0.3 us less than copyto
    else:
        np.copyto(target, source, casting="unsafe")
    return True


def _is_numpys(target: Array, source: Array, nbytes: int) -> bool:
    """Whether NumPy is no slower where that is a question."""
    strides, steps = target.strides, source.strides
    if nbytes >= KERNEL_BYTES:
        return False
    if strides == steps and target.flags.num & CONTIGUOUS:
        slow = SLOW_FROM <= nbytes < SLOW_TO and _is_slow_processor()
        return not (slow and 0 < distance(target, source) & 4095 < 32)
    return is_cheap(target.shape, strides, steps, source.itemsize)


@lru_cache(maxsize=1024)
def is_cheap(
    shape: tuple[int, ...], strides: tuple[int, ...], steps: tuple[int, ...], itemsize: int
) -> bool:
    """Whether NumPy, which walks along the target, copies less than KERNEL_BYTES no slower.

    >>> is_cheap((9, 999), (7992, 8), (9000, 8), 8), is_cheap((9, 999), (8, 72), (7992, 8), 3)
    (True, False)
    """
    sides = zip(shape, steps, strides, strict=True)
    axes, _ = forwards([Axis(*side) for side in sides if side[0] > 1])
    axes = merge(outermost_first(axes))
    if not axes:
        return True
    size, row = prod(shape), axes[-1]
    if row.target == row.source == itemsize:
        return len(axes) == 1 or _are_runs_cheap(size // row.size, row.size * itemsize)
    return _are_elements_cheap(axes, size, itemsize)


def _are_runs_cheap(number: int, run: int) -> bool:
    """The same for so many runs of so many bytes."""
    nbytes = number * run
    if run > WIDEST or nbytes >= KERNEL_BYTES / 2:
        return nbytes < KERNEL_BYTES / 2
    numpy = number * NUMPY_ROW + nbytes * NUMPY_BYTE
    return numpy <= KERNEL_CALL + number + nbytes * RUN_BYTE


def _are_elements_cheap(axes: list[Axis], size: int, itemsize: int) -> bool:
    """The same for elements that do not lie side by side on both sides."""
    length, start, to, _ = axes[-1]  # of NumPy's rows: along the source, along the target
    column = axes[fastest(axes)]
    cost = WALK_COST if itemsize < 16 else WALK_WIDE_COST
    if to == abs(column.source) == itemsize and length >= LEAST_ROWS and itemsize in RECTANGLES:
        if not _stays_near(length, abs(start)):
            return False
        least, cost_there = RECTANGLES[itemsize]
        cost = cost_there if column.size >= least else cost
    if length < SHORT_ROW:
        cost += WALK_ROW / length
    each = NUMPY_ODD_COST
    if itemsize in WIDTHS:
        each = NUMPY_COST
        if column is axes[-1]:
            if size * max(to, abs(start)) >= KERNEL_BYTES:
                return False
        elif size > CACHED_SIZE and abs(start) >= LINE:
            return False
    return size / length * NUMPY_ROW + size * each <= KERNEL_CALL + size * cost


def _stays_near(length: int, step: int) -> bool:
    """Whether lines that hold so many elements at this distance are there for their neighbours."""
    if step < LINE:
        return length * step <= LINES * LINE * (CLOSE if 2 * step <= LINE else 1)
    return length <= WAYS * min(LINES // WAYS, PAGE // gcd(step, PAGE))


@cache
def _is_slow_processor() -> bool:
    from kernels.machine_code import processor  # here, for it takes a while to be imported

    return processor().name in SLOW_PROCESSORS


def copy_if_cheap(array: Array, order: Literal["C", "F"]) -> Array | None:
    """A copy in this order, if NumPy makes it no slower than a kernel; otherwise None."""
    dtype, nbytes = array.dtype, array.nbytes
    if dtype.num not in PLAIN and (dtype.names is not None or dtype.hasobject):
        return None
    if nbytes <= SMALL_BYTES:
        return array.copy(order)
    if array.flags[order]:
        if nbytes >= KERNEL_BYTES:
            return None
        if not SLOW_FROM <= nbytes < SLOW_TO or nbytes & 4095 or not _is_slow_processor():
            return array.copy(order)
        result = np.empty(array.shape, dtype, order)
        if 0 < distance(result, array) & 4095 < 32:
            # While this one is there, another one lies elsewhere.
            result = np.empty(array.shape, dtype, order)
        result[...] = array
        return result
    if nbytes < KERNEL_BYTES:
        strides = dense_strides(array.shape, dtype.itemsize, order)
        if is_cheap(array.shape, strides, array.strides, dtype.itemsize):
            return array.copy(order)
    return None


@lru_cache(maxsize=1024)
def dense_strides(
    shape: tuple[int, ...], itemsize: int, order: Literal["C", "F"]
) -> tuple[int, ...]:
    """The strides, in bytes, of a contiguous array in this order.

    >>> dense_strides((2, 3, 4), 8, "C"), dense_strides((2, 3, 4), 8, "F")
    ((96, 32, 8), (8, 16, 48))
    """
    strides, step = [], itemsize
    for n in reversed(shape) if order == "C" else shape:
        strides.append(step)
        step *= n
    return tuple(reversed(strides) if order == "C" else strides)
