"""Bytes that lie in runs at several places, read from a socket or written to it without a copy.

For the system's ``readv`` and ``writev``: so what lies in rows need not be packed to be sent, nor
unpacked when it has come.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layouts.orders import slowest_first

__all__ = ["Runs"]

_LIBRARY = ctypes.CDLL(None, use_errno=True)
_CALL = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_int, use_errno=True
)
_READ, _WRITE = (_CALL((name, _LIBRARY)) for name in ("readv", "writev"))

#: Runs that the system takes at once.
_AT_ONCE = 1024


class Runs:
    """What is left to be read or written, in this order.

    Parameters
    ----------
    memory : ndarray
        Where they are, for it to be there as long as this is.
    places : int64 array, shape (n, 2)
        Address and length of each run, in bytes.

    Attributes
    ----------
    left : int
        Bytes.
    """

    def __init__(self, memory: NDArray[Any], places: NDArray[np.int64]) -> None:
        self._memory, self._places = memory, places
        self.left = int(places[:, 1].sum())

    @classmethod
    def of(
        cls, region: NDArray[Any], order: str | Sequence[int] = "C", least: int = 0
    ) -> Runs | None:
        """The bytes of a region in an order; None if runs of them are of fewer bytes than that."""
        view = region.transpose(slowest_first(order, region.ndim))
        run, outer = view.itemsize, view.ndim
        while outer and (view.strides[outer - 1] == run or view.shape[outer - 1] == 1):
            outer -= 1
            run *= view.shape[outer]
        if run < least:
            return None
        addresses = np.array([view.ctypes.data], np.int64)
        for axis in range(outer):
            steps = np.arange(view.shape[axis], dtype=np.int64) * view.strides[axis]
            addresses = np.add.outer(addresses, steps).ravel()
        return cls(view, np.stack([addresses, np.full_like(addresses, run)], axis=1))

    def read(self, number: int) -> int:
        """Read from a file's number what is there, up to what is left; how much that was.

        Raises
        ------
        OSError
            As the system says; BlockingIOError where nothing is there yet.
        """
        return self._move(_READ, number)

    def write(self, number: int) -> int:
        """Write as much as is taken; how much that was. Errors as for `read`."""
        return self._move(_WRITE, number)

    def _move(self, call: Any, number: int) -> int:
        places = self._places[:_AT_ONCE]
        done = int(call(number, places.ctypes.data, len(places)))
        if done < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        self.left -= done
        ends = np.cumsum(places[:, 1])
        through = int(np.searchsorted(ends, done, side="right"))
        self._places = self._places[through:]
        if through < len(places) and (into := done - int(ends[through - 1] if through else 0)):
            self._places[0] += into, -into
        return done
