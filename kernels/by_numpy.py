"""What NumPy copies no slower than a kernel does, with what its call costs: left to NumPy.

That is what is small, and what stays in the caches if both sides are walked along one axis. Calls
of Python are what such a copy costs, so each function does all it has to do itself.
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import gcd, prod
from typing import Any, Literal

import numpy as np
from numpy import ndarray

from kernels.checks import Array, bounds_cross, distance

SMALL_SIZE = 16384  # elements: up to here NumPy's strided copy is as fast as a kernel
KERNEL_BYTES = 16 << 20  # from here on kernels are faster where both sides lie alike, too
# Between these sizes the C library's copy has the processor copy (rep movsb), and these need up to
# fifteen times as long if the target lies 1 to 31 bytes after the source, modulo 4096: 64 KiB take
# 30 us. Malloc puts whole pages 16 bytes after each other.
SLOW_PROCESSORS, SLOW_FROM, SLOW_TO = ("znver3", "znver4"), 1 << 15, 1 << 19
# What is neither small nor large, nor walked along one axis: ns for each element and each row by
# NumPy, and by a kernel for the call and each element by its width. They count against each other
# only, so the processor's speed hardly matters. So many elements stay in the caches.
NUMPY_COST, NUMPY_ROW, CACHED_SIZE = 0.57, 9, 100_000
KERNEL_CALL, KERNEL_COST = 13e3, {1: 0.17, 2: 0.25, 4: 0.4, 8: 0.8, 16: 1.1}
# The first level's cache: lines, and how many of them may lie whole pages apart.
LINES, WAYS, PAGE = 512, 8, 4096
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
        What the target must be of, if not of the source's dtype: real numbers are cast.

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
    # An element has a byte at least.
    if nbytes > SMALL_SIZE and not _is_numpys(target, source, nbytes):
        return None
    if exact:
        target[...] = source  # 0.3 us less than copyto
    else:
        np.copyto(target, source, casting="unsafe")
    return True


def _is_numpys(target: Array, source: Array, nbytes: int) -> bool:
    """Whether NumPy is no slower where that is a question."""
    small = target.size <= SMALL_SIZE
    if small and nbytes < SLOW_FROM:
        return True
    strides, steps = target.strides, source.strides
    if strides == steps:
        if SLOW_FROM <= nbytes < SLOW_TO:
            return not (0 < distance(target, source) & 4095 < 32 and _is_slow_processor())
        return small or nbytes < KERNEL_BYTES
    return small or (
        nbytes < KERNEL_BYTES and _walks_well(target.shape, strides, steps, source.itemsize)
    )


@lru_cache(maxsize=1024)
def _walks_well(
    shape: tuple[int, ...], strides: tuple[int, ...], steps: tuple[int, ...], itemsize: int
) -> bool:
    """Whether NumPy, which walks along the target, is no slower than a kernel.

    It is where both sides are walked along one axis. Else NumPy takes so much for each element, and
    again for each row, if the first level's cache has room for the lines that a row touches in the
    source; a kernel takes so much for the call, and for each element by its width.
    """
    row = _fastest(shape, strides)
    if row == _fastest(shape, steps):
        return True
    size, length = prod(shape), shape[row]
    sets = min(LINES // WAYS, PAGE // gcd(steps[row], PAGE))
    if size > CACHED_SIZE or itemsize not in KERNEL_COST or length > sets * WAYS:
        return False
    return size * (NUMPY_COST + NUMPY_ROW / length) <= KERNEL_CALL + size * KERNEL_COST[itemsize]


def _fastest(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    return min(range(len(shape)), key=lambda k: (shape[k] == 1, abs(strides[k])))


@cache
def _is_slow_processor() -> bool:
    from kernels.machine_code import processor  # here, for it takes a while to be imported

    return processor().name in SLOW_PROCESSORS


def copy_if_small(array: Array, order: Literal["C", "F"]) -> Array | None:
    """A copy in this order, if NumPy makes it no slower than a kernel; otherwise None."""
    dtype, nbytes = array.dtype, array.nbytes
    if dtype.num not in PLAIN and (dtype.names is not None or dtype.hasobject):
        return None
    if nbytes <= SMALL_SIZE:
        return array.copy(order)
    if SLOW_FROM <= nbytes < SLOW_TO and not nbytes & 4095 and array.flags[order]:
        result = np.empty(array.shape, dtype, order)
        if 0 < distance(result, array) & 4095 < 32 and _is_slow_processor():
            # While this one is there, another one lies elsewhere.
            result = np.empty(array.shape, dtype, order)
        result[...] = array
        return result
    if array.size <= SMALL_SIZE or (nbytes < KERNEL_BYTES and is_along(array, order)):
        return array.copy(order)
    return None


def is_along(array: Array, order: Literal["C", "F"]) -> bool:
    """Whether the axis that is the fastest one in this order is so in the array."""
    strides = array.strides
    if not strides:
        return True
    fastest = -1 if order == "C" else 0
    return array.shape[fastest] > 1 and abs(strides[fastest]) == min(map(abs, strides))
