"""Memory of a node of this host for a program to write its parts into, so that nothing is copied.

::

    program                                 node
     |  nbytes                               |
     |-------------------------------------->|
     |                                 path  |
     |<--------------------------------------|  a segment, the program's to map and to write to
     |              ...                      |
     |  path                                 |
     |-------------------------------------->|  no array refers to it any more

For as long as the line is there, what is lent is used for nothing else, whatever is withdrawn or
disposed of meanwhile. If it breaks, the node lets go of the segments, and never uses them again:
the program may live, and write.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from distributed.comm.core import Comm
from distributed.core import ConnectionPool
from numpy.typing import NDArray

from layouts.tiled import AnyArray, TiledArray
from maestro.config import get_seconds
from maestro.transport.calling import connect

__all__ = ["Lender", "Lent", "set_writeable"]


@dataclass(frozen=True)
class Lent:
    """A part that lies in memory lent by a node: the node's address, and the segment."""

    part: AnyArray
    node: str
    path: str


def set_writeable(part: AnyArray, writeable: bool) -> None:
    """Let a part be written to, or not.

    That is a flag of the array: views that were taken before, and arrays in tiles, have none.
    """
    if not isinstance(part, TiledArray):
        part.flags.writeable = writeable


class Lender:
    """A program's line to one node that lends it memory. For one event loop.

    Parameters
    ----------
    rpc : ConnectionPool
        Dask's connections.
    lives : callable
        Whether the pool still has the node of an address; a coroutine function.
    node : str
        Address of the node.
    """

    def __init__(
        self, rpc: ConnectionPool, lives: Callable[[str], Awaitable[bool]], node: str
    ) -> None:
        self._rpc, self._lives, self._node = rpc, lives, node
        self._comm: Comm | None = None
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._giving: set[asyncio.Task[None]] = set()

    async def lend(self, nbytes: int) -> str:
        """The path of a segment of at least so many bytes.

        Raises
        ------
        MemoryError
            If the node has no room.
        OSError
            If it does not answer.
        """
        silence = get_seconds("transfer.silence")
        async with self._turn:
            if self._comm is None or self._comm.closed():
                self._comm = await connect(self._rpc, self._lives, self._node, silence)
                await self._comm.write({"op": "maestro_lend", "reply": False})
            try:
                async with asyncio.timeout(silence):
                    await self._comm.write({"nbytes": nbytes})
                    answer = await self._comm.read()
            except BaseException:
                self._comm.abort()  # what it may still answer belongs to nothing
                raise
        if "full" in answer:
            raise MemoryError(f"node {self._node}: {answer['full']}")
        path: str = answer["path"]
        return path

    def watch(self, memory: NDArray[np.uint8], path: str) -> None:
        """Give a segment back when nothing refers to its memory any more, in whatever thread."""
        weakref.finalize(memory, self._give_back_soon, self._comm, path).atexit = False

    def _give_back_soon(self, comm: Comm | None, path: str) -> None:
        if comm is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._start_giving_back, comm, path)

    def _start_giving_back(self, comm: Comm, path: str) -> None:
        task = asyncio.create_task(self._give_back(comm, path))
        self._giving.add(task)
        task.add_done_callback(self._giving.discard)

    async def _give_back(self, comm: Comm, path: str) -> None:
        async with self._turn:
            try:
                await comm.write({"path": path})
            except OSError:  # then the node has let go of it by itself
                return

    def close(self) -> None:
        """End the line, and with it all that was lent over it."""
        if self._comm is not None:
            self._comm.abort()
            self._rpc.reuse(self._node, self._comm)
