"""Others that transpose: NumPy always, PyTorch and MKL where they are installed.

And one that does not, and only moves as many cache lines (`lines`). Each gives, for one
transposition and a number of threads, a function that does it once into the given target, or None
if it cannot.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from lines import by_lines
from numpy.typing import NDArray

__all__ = ["NAMES", "Array", "Work", "peers"]

Array = NDArray[Any]
Work = Callable[[], object]

#: What the columns of a table are called.
NAMES = ("lines", "NumPy", "PyTorch", "MKL")


def peers(target: Array, source: Array, threads: int) -> dict[str, Work]:
    """Who can copy `source`, a view in another order of axes, into `target`; by name."""
    made = zip(NAMES, (by_lines, by_numpy, by_torch, by_mkl), strict=True)
    found = ((name, make(target, source, threads)) for name, make in made)
    return {name: work for name, work in found if work is not None}


def by_numpy(target: Array, source: Array, threads: int) -> Work | None:
    """NumPy copies in one thread only."""
    return (lambda: np.copyto(target, source)) if threads == 1 else None


def by_torch(target: Array, source: Array, threads: int) -> Work | None:
    """PyTorch takes arrays whose elements are aligned."""
    torch = _torch()
    if torch is None or not (target.flags.aligned and source.flags.aligned):
        return None
    if target.dtype == np.dtype("u2"):  # there as a type, but hardly supported
        target, source = target.view("i2"), source.T.view("i2").T
    into, values = torch.from_numpy(target), torch.from_numpy(source)

    def work() -> None:
        torch.set_num_threads(threads)
        into.copy_(values)

    return work


def by_mkl(target: Array, source: Array, threads: int) -> Work | None:
    """MKL transposes matrices of floats, with any leading dimensions."""
    library = _mkl()
    name, number = _MKL_TYPES.get(target.dtype.char, ("", ctypes.c_double))
    dense = target.ndim == 2 and target.strides[1] == source.strides[0] == target.itemsize
    if library is None or not name or not dense:
        return None
    transpose = getattr(library, f"MKL_{name}omatcopy")
    size, address = ctypes.c_size_t, ctypes.c_void_p
    transpose.restype = None
    transpose.argtypes = [
        *(ctypes.c_char, ctypes.c_char, size, size, number),
        *(address, size, address, size),
    ]
    rows, columns = source.shape[1], source.shape[0]
    leading = [array // target.itemsize for array in (source.strides[1], target.strides[0])]
    one = number(1.0)

    def work() -> None:
        library.MKL_Set_Num_Threads(threads)
        given, into = source.ctypes.data, target.ctypes.data
        transpose(b"R", b"T", rows, columns, one, given, leading[0], into, leading[1])

    return work


class _Complex8(ctypes.Structure):
    _fields_ = (("real", ctypes.c_float), ("imag", ctypes.c_float))


class _Complex16(ctypes.Structure):
    _fields_ = (("real", ctypes.c_double), ("imag", ctypes.c_double))


_MKL_TYPES: dict[str, tuple[str, Any]] = {
    "f": ("S", ctypes.c_float),
    "d": ("D", ctypes.c_double),
    "F": ("C", _Complex8),
    "D": ("Z", _Complex16),
}


@cache
def _torch() -> ModuleType | None:
    return importlib.import_module("torch") if importlib.util.find_spec("torch") else None


@cache
def _mkl() -> ctypes.CDLL | None:
    """The library as pip installs it, or as the system knows it."""
    for name in _mkl_names():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _mkl_names() -> Iterator[str]:
    yield from map(str, sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*")))
    name = ctypes.util.find_library("mkl_rt")
    if name:
        yield name
