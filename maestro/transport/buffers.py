"""The bytes that a node has under way: bounded, and in memory that is used again and again.

The first touch of fresh memory costs several times what filling it costs afterwards, so buffers
that come back are kept. Buffers in use and buffers kept are never more than the limit together.
"""

from __future__ import annotations

import asyncio
import mmap
from collections import deque
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffers", "buffer", "keep_freed_memory"]

SMALLEST = 1 << 12

#: Just under the largest block from which glibc learns how much freed memory to keep, in bytes.
LESSON = 31 << 20


def keep_freed_memory() -> None:
    """Let the C library keep the memory of received messages for those that come next.

    Dask allocates each message that it receives. As it starts, glibc gives memory back to the
    system as soon as a few such blocks are free, and so every message is written to fresh pages: 29
    page faults per MiB and half of the rate. Of the largest block of its own mapping that it has
    seen freed it keeps twice the size from then on; so it is shown one, which nobody touches. Other
    C libraries do not mind.
    """
    np.empty(LESSON, np.uint8)


def buffer(nbytes: int) -> NDArray[np.uint8]:
    """Memory for bytes on their way, that begins in the middle of a page.

    Some processors copy five to ten times as slowly where the target lies up to 31 bytes behind the
    source, as seen from the beginning of their pages (`benchmarks/pages.py`). Segments begin with a
    page, what the system receives does so too, and NumPy's large arrays 16 bytes later.
    """
    memory = np.empty(nbytes + mmap.PAGESIZE, np.uint8)
    start = (mmap.PAGESIZE // 2 - memory.ctypes.data) % mmap.PAGESIZE
    return memory[start : start + nbytes]


class Buffers:
    """Memory up to a limit; whoever asks for more than is left waits, first come, first served.

    For one event loop. What is larger than the limit itself is given once nothing else is in use.

    Parameters
    ----------
    limit : int
        Bytes.

    Attributes
    ----------
    used, peak : int
        Bytes in use now, and at most so far.

    Examples
    --------
    >>> async def main():
    ...     buffers = Buffers(1 << 20)
    ...     buffer = await buffers.take(5000)
    ...     print(len(buffer), buffers.used)
    ...     buffers.give(buffer)
    ...     print(buffers.used, buffers.kept)
    >>> asyncio.run(main())
    8192 8192
    0 8192
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.peak = 0
        self._kept: dict[int, list[NDArray[np.uint8]]] = {}
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def kept(self) -> int:
        """Bytes of buffers that wait to be used again."""
        return sum(size * len(blocks) for size, blocks in self._kept.items())

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for memory."""
        return bool(self._waiting)

    async def reserve(self, nbytes: int) -> None:
        """Count bytes in that the caller has elsewhere; to be released."""
        await self._claim(nbytes)
        self._trim()

    async def _claim(self, nbytes: int) -> None:
        if self._waiting or not self._fits(nbytes):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((nbytes, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.release(nbytes)  # it was given in the same moment
                else:
                    with suppress(ValueError):  # it was passed over already
                        self._waiting.remove((nbytes, turn))
                    self._serve()
                raise
        else:
            self._count(nbytes)

    def release(self, nbytes: int) -> None:
        """Give back what was reserved."""
        self.used -= nbytes
        self._serve()

    async def take(self, nbytes: int) -> NDArray[np.uint8]:
        """Memory of at least so many bytes, of any content; to be given back or dropped."""
        size = self._block(nbytes)
        await self._claim(size)
        kept = self._kept.get(size)
        memory = kept.pop() if kept else buffer(size)
        self._trim()
        return memory

    def give(self, memory: NDArray[np.uint8]) -> None:
        """Take a buffer back, to be used again."""
        self._kept.setdefault(len(memory), []).append(memory)
        self.drop(memory)

    def drop(self, memory: NDArray[np.uint8]) -> None:
        """Take back the bytes of a buffer that somebody may still read or write."""
        self.release(len(memory))
        self._trim()

    def _block(self, nbytes: int) -> int:
        """Sizes are powers of two, so that buffers fit again."""
        size = max(SMALLEST, 1 << max(nbytes - 1, 0).bit_length())
        return max(nbytes, min(size, self.limit))

    def _fits(self, nbytes: int) -> bool:
        return self.used + nbytes <= self.limit or not self.used

    def _count(self, nbytes: int) -> None:
        self.used += nbytes
        self.peak = max(self.peak, self.used)

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            nbytes, turn = self._waiting.popleft()
            if not turn.done():
                self._count(nbytes)
                turn.set_result(None)

    def _trim(self) -> None:
        """Let go of kept buffers that would exceed the limit together with those in use."""
        for size in sorted(self._kept, reverse=True):
            while self._kept[size] and self.used + self.kept > self.limit:
                self._kept[size].pop()
