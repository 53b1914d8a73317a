"""Memory for arrays that a program gets, used again when it has let go of them.

The first touch of fresh pages costs several times what filling them costs afterwards.
"""

from __future__ import annotations

import mmap
import weakref
from collections import deque
from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

__all__ = ["SMALLEST", "Recycler", "fits"]

#: What is smaller is left to NumPy, in bytes.
SMALLEST = 1 << 16


def fits(capacity: int, nbytes: int) -> bool:
    """Whether a block is large enough for so many bytes, and not far larger."""
    return nbytes <= capacity <= nbytes + nbytes // 4 + mmap.PAGESIZE


class Recycler:
    """Gives memory that comes back by itself once no array refers to it any more.

    Safe to use from any thread.

    Parameters
    ----------
    keep : int
        Bytes of unused memory that are kept at most. The system may take their pages back when it
        runs short.

    Examples
    --------
    >>> recycler = Recycler(keep=1 << 30)
    >>> array = recycler.empty(1 << 20)
    >>> view = array[:10]
    >>> del array
    >>> recycler.kept
    0
    >>> del view
    >>> recycler.kept
    1048576
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.kept = 0
        self._blocks: deque[mmap.mmap] = deque()  # kept, oldest first
        # What an array leaves behind comes back wherever it is collected: also in a thread that
        # holds the lock just now.
        self._returned: deque[mmap.mmap] = deque()
        self._lock = Lock()

    def empty(self, nbytes: int) -> NDArray[np.uint8]:
        """Memory of any content.

        Raises
        ------
        MemoryError
            If the system has none.
        """
        if nbytes < SMALLEST:
            return np.empty(nbytes, np.uint8)
        block = self._kept_block(nbytes) or self._new_block(nbytes)
        memory = np.frombuffer(block, np.uint8, nbytes)
        # Every view of an array refers to this one: NumPy goes no further down than to it.
        weakref.finalize(memory, self._take_back, block).atexit = False
        return memory

    def warm(self, sizes: Sequence[int]) -> None:
        """Have memory for arrays of so many bytes ready, touched, ahead of need.

        No more than is kept at most; the rest will be fresh.
        """
        blocks: list[mmap.mmap] = []
        for nbytes in sizes:
            if sum(map(len, blocks)) + nbytes > self.keep:
                break
            block = self._kept_block(nbytes)
            if block is None:
                block = self._new_block(nbytes)
                np.frombuffer(block, np.uint8)[:: mmap.PAGESIZE] = 0
            blocks.append(block)
        for block in blocks:
            self._take_back(block)

    def clear(self) -> None:
        """Let go of what is kept."""
        with self._lock:
            self._blocks.clear()
            self.kept = 0

    def _kept_block(self, nbytes: int) -> mmap.mmap | None:
        with self._lock:
            found = min((b for b in self._blocks if fits(len(b), nbytes)), key=len, default=None)
            if found is not None:
                self._blocks.remove(found)
                self.kept -= len(found)
        self._settle()
        return found

    def _new_block(self, nbytes: int) -> mmap.mmap:
        try:
            block = mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"{nbytes} bytes: {error}") from None
        _advise(block, "MADV_HUGEPAGE")
        return block

    def _take_back(self, block: mmap.mmap) -> None:
        self._returned.append(block)
        self._settle()

    def _settle(self) -> None:
        """Keep what has come back; whoever is at it already does it for all."""
        while self._returned and self._lock.acquire(blocking=False):
            try:
                block = self._returned.popleft()
                if len(block) > self.keep:
                    continue
                while self.kept + len(block) > self.keep:
                    self.kept -= len(self._blocks.popleft())
                _advise(block, "MADV_FREE")
                self._blocks.append(block)
                self.kept += len(block)
            except IndexError:  # somebody else was quicker
                pass
            finally:
                self._lock.release()


def _advise(block: mmap.mmap, advice: str) -> None:
    """Tell the system, where it can be told."""
    option = getattr(mmap, advice, None)
    if option is not None:
        try:
            block.madvise(option)
        except OSError:  # the system knows better
            return
