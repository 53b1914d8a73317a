"""Segments mapped into this process: each once, and for as long as its file is there.

A mapping that is new costs a page fault for every page, which is more than filling the page, even
where the pages themselves are warm; so mappings are kept.
"""

from __future__ import annotations

import mmap
import os
from collections import OrderedDict
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from maestro.arena.segments import HEADER, read_header

__all__ = ["Mappings"]

#: Mappings kept at most; the system allows a process some 65 000 of all kinds.
MOST = 4096


class Mappings:
    """Keeps segments mapped. Safe to use from any thread.

    Parameters
    ----------
    populate : bool
        Whether the pages of a new mapping are entered at once, which is several times faster than
        one fault after the other where most of them will be used.
    """

    def __init__(self, populate: bool = True) -> None:
        self._flags = mmap.MAP_SHARED | (getattr(mmap, "MAP_POPULATE", 0) if populate else 0)
        self._found: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._swept = 16
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._found)

    def attach(self, path: str, nbytes: int) -> NDArray[np.uint8]:
        """The first bytes of a segment's part, to read and to write.

        Raises
        ------
        FileNotFoundError
            If the segment is gone.
        PermissionError
            If it belongs to somebody else.
        OSError
            If it is smaller than that, or the system has no room for another mapping.
        """
        memory = self._map(path)
        if len(memory) < HEADER + nbytes:
            raise OSError(f"{path}: it holds {len(memory) - HEADER} bytes, expected {nbytes}")
        return np.frombuffer(memory, np.uint8, nbytes, HEADER)

    def generation(self, path: str) -> int:
        """The use of a segment that its header speaks of now; 0 if it is in none."""
        return read_header(memoryview(self._map(path)))[0]

    def forget(self, path: str) -> None:
        """Let go of one mapping; arrays over it stay valid."""
        with self._lock:
            self._found.pop(path, None)

    def clear(self) -> None:
        """Let go of all of them."""
        with self._lock:
            self._found.clear()

    def _map(self, path: str) -> mmap.mmap:
        with self._lock:
            memory = self._found.get(path)
            if memory is None:
                self._sweep()
                memory = self._found[path] = self._open(path)
            self._found.move_to_end(path)
            return memory

    def _open(self, path: str) -> mmap.mmap:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return mmap.mmap(file, 0, self._flags)
        except ValueError as error:  # what mmap says of an empty file
            raise OSError(f"{path}: {error}") from None
        finally:
            os.close(file)

    def _sweep(self) -> None:
        """Let go of those whose file is gone, when there are twice as many as the last time."""
        if len(self._found) >= self._swept:
            for path in [path for path in self._found if not os.path.exists(path)]:
                del self._found[path]
            self._swept = max(16, 2 * len(self._found))
        while len(self._found) >= MOST:
            self._found.popitem(last=False)
