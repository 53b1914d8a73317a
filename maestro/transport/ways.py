"""A program's ways to the nodes: Dask's connections, and the memory that it shares with some."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import numpy as np
from distributed.core import ConnectionPool
from distributed.system import MEMORY_LIMIT

from layouts import Distribution
from layouts.tiled import AnyArray
from maestro.arena import Mappings, Recycler, is_same_host
from maestro.arena.recycler import SMALLEST
from maestro.config import get_flag, get_number, get_seconds
from maestro.errors import PoolFullError
from maestro.transport.asking import NodeLines
from maestro.transport.lending import Lender, Lent
from maestro.transport.payload import as_part
from maestro.transport.sharing import Sharing

__all__ = ["Ways"]

#: How long a node that said nothing is passed over, in times of ``maestro.transfer.silence``.
PASSED_OVER = 10


class Ways:
    """How one program reaches the nodes.

    Parameters
    ----------
    rpc : ConnectionPool
        Dask's connections.
    lives : callable
        Whether the pool still has the node of an address; a coroutine function.
    memory_limit : int
        Bytes of memory that this program may use.
    mapped : int, optional
        Bytes of the nodes' memory that may be in this process at once; without limit by default.

    Attributes
    ----------
    nodes : NodeLines
        Over which they are asked.
    mappings : Mappings
        The memory of nodes of this host.
    sharing : Sharing
        Demands that are under way, for others who want the same.
    memory : Recycler
        Where demanded arrays lie.
    """

    def __init__(
        self,
        rpc: ConnectionPool,
        lives: Callable[[str], Awaitable[bool]],
        memory_limit: int = MEMORY_LIMIT,
        mapped: int | None = None,
    ) -> None:
        self.rpc, self.lives = rpc, lives
        self.mappings = Mappings(mapped)
        self.sharing = Sharing()
        self.memory = Recycler(int(memory_limit * get_number("memory.keep")))
        self.nodes = NodeLines(rpc, lives)
        self._arenas: dict[str, str] = {}  # by node, or nothing: it is on another host
        self._passed_over: dict[str, float] = {}  # nodes, and until when
        self._lenders: dict[str, Lender] = {}

    def empty_part(
        self, layout: Distribution, rank: int, dtype: np.dtype[Any], name: str
    ) -> AnyArray:
        """Memory for a demanded part: what was touched before, where there is some.

        Raises
        ------
        PoolFullError
            If there is none, naming the CDO.
        """
        try:
            memory = self.memory.empty(layout.local_size(rank) * dtype.itemsize)
        except MemoryError as error:
            raise PoolFullError(f"CDO {name!r}: no memory for what is demanded: {error}") from None
        part: AnyArray = as_part(memory, layout.local_shape(rank), dtype, layout.order)
        return part

    async def on_this_host(self, nodes: Iterable[str]) -> set[str]:
        """Those of the nodes whose memory this program can map: proven, not inferred from names."""
        asked = set(nodes)
        if not get_flag("transfer.same-host"):
            return set()
        await asyncio.gather(*(self._prove(node) for node in asked - self._arenas.keys()))
        return {node for node in asked if self._arenas.get(node)}

    def arena(self, node: str) -> str:
        """The directory where a node of this host has its parts."""
        return self._arenas[node]

    async def _prove(self, node: str) -> None:
        try:
            async with asyncio.timeout(get_seconds("transfer.silence")):
                hello = await self.nodes.call(node, "hello")
        except OSError:  # whoever talks to it next finds out what is wrong with it
            return
        seen = is_same_host(hello["arena"], hello["token"])
        self._arenas[node] = hello["arena"] if seen else ""

    def pass_over(self, node: str) -> None:
        """A node says nothing: others are asked for a while, where they have the same."""
        self._passed_over[node] = time.monotonic() + PASSED_OVER * get_seconds("transfer.silence")

    @property
    def passed_over(self) -> set[str]:
        """The nodes for which that holds now."""
        now = time.monotonic()
        self._passed_over = {n: until for n, until in self._passed_over.items() if until > now}
        return set(self._passed_over)

    async def silent(self, nodes: Iterable[str]) -> set[str]:
        """Those of the nodes that say nothing, although they are there."""

        async def ask(node: str) -> str | None:
            try:
                async with asyncio.timeout(get_seconds("transfer.silence")):
                    await self.rpc(node).identity()  # which workers know that are no nodes, too
            except TimeoutError:
                return node if await self.lives(node) else None
            except OSError:  # it is gone
                pass
            return None

        return {node for node in await asyncio.gather(*map(ask, set(nodes))) if node}

    def warm_soon(self, sizes: Sequence[int]) -> None:
        """Have memory ready for parts of so many bytes that will be demanded."""
        large = [nbytes for nbytes in sizes if nbytes >= SMALLEST]
        if large:
            asyncio.get_running_loop().run_in_executor(None, self.memory.warm, large)

    async def lend_part(
        self, node: str, layout: Distribution, rank: int, dtype: np.dtype[Any]
    ) -> Lent:
        """A part in memory that a node of this host lends.

        Raises
        ------
        MemoryError, OSError
            If it can't.
        """
        if node not in self._lenders:
            self._lenders[node] = Lender(self.rpc, self.lives, node)
        nbytes = layout.local_size(rank) * dtype.itemsize
        path = await self._lenders[node].lend(nbytes)
        memory = self.mappings.attach(path, nbytes)
        self._lenders[node].watch(memory, path)
        return Lent(as_part(memory, layout.local_shape(rank), dtype, layout.order), node, path)

    def close(self) -> None:
        """Let go of what is kept; arrays that are still referred to stay valid."""
        self.nodes.close()
        for lender in self._lenders.values():
            lender.close()
        self.mappings.clear()
        self.memory.keep = 0
        self.memory.clear()
