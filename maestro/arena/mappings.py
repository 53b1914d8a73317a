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

from maestro.arena.segments import HEADER, Use, mark_filled, read_use

__all__ = ["Mappings", "resident"]

#: Mappings kept at most; the system allows a process some 65 000 of all kinds.
MOST = 4096


def resident() -> tuple[int, int]:
    """Bytes of this process' pages in memory, in all and shared with files; 0, 0 if unknown.

    Dask's memory monitor goes by the first.
    """
    try:
        with open("/proc/self/statm") as file:
            _, pages, shared, *_ = map(int, file.read().split())
    except OSError:
        return 0, 0
    return pages * mmap.PAGESIZE, shared * mmap.PAGESIZE


class Mappings:
    """Keeps segments mapped. Safe to use from any thread.

    Parameters
    ----------
    limit : int, optional
        Bytes of pages that are to be in this process at most; without limit by default. While they
        stay within it the pages of a new mapping are entered at once, which is several times
        faster than one fault after the other where most of them will be used.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.nbytes = 0
        self._found: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._swept = 16
        self._lock = Lock()

    def empty(self) -> None:
        """Take all pages out of this process. They stay where they are, and come when touched."""
        with self._lock:
            mapped = list(self._found.values())
        for memory in mapped:
            memory.madvise(mmap.MADV_DONTNEED)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, path: str) -> bool:
        return path in self._found

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

    def use(self, path: str) -> Use:
        """What the header of a segment says now."""
        return read_use(memoryview(self._map(path)))

    def mark_filled(self, path: str) -> None:
        """Say that a segment's part is there; whoever has written it does."""
        mark_filled(memoryview(self._map(path)))

    def forget(self, path: str) -> None:
        """Let go of one mapping; arrays over it stay valid."""
        with self._lock:
            self._remove(path)

    def clear(self) -> None:
        """Let go of all of them."""
        with self._lock:
            self._found.clear()
            self.nbytes = 0

    def _map(self, path: str) -> mmap.mmap:
        with self._lock:
            memory = self._found.get(path)
            if memory is None:
                self._sweep()
                memory = self._found[path] = self._open(path)
                self.nbytes += len(memory)
            self._found.move_to_end(path)
            return memory

    def _open(self, path: str) -> mmap.mmap:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return mmap.mmap(file, 0, mmap.MAP_SHARED | self._populate(os.fstat(file).st_size))
        except ValueError as error:  # what mmap says of an empty file
            raise OSError(f"{path}: {error}") from None
        finally:
            os.close(file)

    def _populate(self, nbytes: int) -> int:
        if self.limit is not None and self.nbytes + nbytes > self.limit:
            return 0
        return getattr(mmap, "MAP_POPULATE", 0)

    def _sweep(self) -> None:
        """Let go of those whose file is gone, when there are twice as many as the last time."""
        if len(self._found) >= self._swept:
            for path in [path for path in self._found if not os.path.exists(path)]:
                self._remove(path)
            self._swept = max(16, 2 * len(self._found))
        while len(self._found) >= MOST:
            self._remove(next(iter(self._found)))

    def _remove(self, path: str) -> None:
        memory = self._found.pop(path, None)
        if memory is not None:
            self.nbytes -= len(memory)
