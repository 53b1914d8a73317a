"""Streams to nodes that last: broken ones are made again, and go on where they were.

Everything runs over Dask's own comms (tcp, tls, ucx, inproc), taken from the client's pool of
connections and given back to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from distributed.comm.core import Comm

from layouts import Plan
from layouts.tiled import AnyArray
from maestro.config import get_bytes, get_number, get_seconds
from maestro.errors import DataLostError, PoolTimeoutError
from maestro.transport import delivering, straight
from maestro.transport.asking import NodeLines
from maestro.transport.bringing import Delivery, bring
from maestro.transport.calling import Silent, connect
from maestro.transport.ends import Missing
from maestro.transport.packing import Slab, nbytes
from maestro.transport.pulling import Request, pull
from maestro.transport.wire import is_socket

__all__ = ["Network", "Terms", "terms"]


@dataclass(frozen=True)
class Terms:
    """How much one demand or offer has under way: see ``maestro.yaml``.

    Attributes
    ----------
    chunk : int
        Bytes of a message at most.
    streams : int
        Nodes talked to at once.
    credit : int
        Messages under way on each stream.
    silence : float
        Seconds without a word after which a connection counts as broken.
    retries : int
        How often in a row a stream is made again without having brought anything.
    """

    chunk: int
    streams: int
    credit: int
    silence: float
    retries: int


#: A stream with so many messages under way has one being packed, one or two on the line, and one
#: being unpacked; more were never faster.
DEEP = 4


def terms(nodes: int) -> Terms:
    """What the configuration allows for talks with so many nodes."""
    limit = get_bytes("transfer.in-flight")
    chunk = min(get_bytes("transfer.chunk"), limit)
    messages = limit // chunk
    streams = max(1, min(nodes, messages // 2))
    return Terms(
        chunk,
        streams,
        max(1, min(DEEP, messages // streams)),
        get_seconds("transfer.silence"),
        int(get_number("transfer.retries")),
    )


@dataclass(frozen=True)
class Network:
    """The way to the nodes.

    Attributes
    ----------
    nodes : NodeLines
        Over which nodes are asked, and Dask's connections.
    terms : Terms
        How much may be under way.
    name : str
        The CDO, for errors.
    """

    nodes: NodeLines
    terms: Terms
    name: str

    async def fetch(
        self,
        node: str,
        way: Plan,
        request: Request,
        parts: Mapping[int, AnyArray],
        taken: Callable[[list[Slab]], None],
    ) -> None:
        """Fill parts of target ranks with what one node has for them.

        Raises
        ------
        DataLostError
            If the node is gone, or has not what is asked for.
        PoolTimeoutError
            If it is silent for too long.
        """
        left, missing_bytes, fruitless = request, request.size, 0

        def note(begun: Request, slabs: list[Slab]) -> None:
            nonlocal left, missing_bytes, fruitless
            taken(slabs)
            last = slabs[-1]
            left = replace(begun, pairs=begun.pairs[last.pair :], skip=last.number + 1)
            missing_bytes -= nbytes(slabs)
            fruitless = 0

        while True:
            try:
                async with self._comm(node) as comm:
                    large = left.size >= straight.LEAST and is_socket(comm)
                    bare = large and await self.nodes.over_socket(node)
                    move = straight.pull if bare else pull
                    return await move(comm, way, left, parts, partial(note, left))
            except Missing as missing:
                raise self._lost(missing.rank, node, "it does not hold it any more") from None
            except OSError as error:
                if not missing_bytes:  # only the last word did not get through
                    return
                rank = int(left.pairs[0, 1])
                fruitless = await self._try_again(fruitless, rank, node, error)

    async def bring(self, node: str, delivery: Delivery, parts: Mapping[int, AnyArray]) -> None:
        """Store parts at a node.

        Raises
        ------
        DataLostError
            If the node is gone.
        PoolTimeoutError
            If it is silent for too long.
        """
        fruitless = 0
        while True:
            try:
                async with self._comm(node) as comm:
                    large = delivery.nbytes >= straight.LEAST and is_socket(comm)
                    bare = large and await self.nodes.over_socket(node)
                    move = delivering.bring if bare else bring
                    return await move(comm, delivery, parts)
            except Missing as missing:
                raise self._lost(missing.rank, node, "it was told to drop it") from None
            except OSError as error:
                fruitless = await self._try_again(fruitless, delivery.ranks[0], node, error)

    async def _try_again(self, fruitless: int, rank: int, node: str, error: OSError) -> int:
        """Count one more failure, or raise what it means."""
        alive = await self.nodes.lives(node)
        if alive and fruitless < self.terms.retries and not isinstance(error, Silent):
            return fruitless + 1
        if alive and isinstance(error, TimeoutError):
            raise PoolTimeoutError(
                f"CDO {self.name!r}: rank {rank} is not to be had: node {node} was silent for"
                f" {self.terms.silence:g} s"
            ) from error
        raise self._lost(rank, node, f"it does not answer ({error})") from error

    def _lost(self, rank: int, node: str, why: str) -> DataLostError:
        return DataLostError(
            f"CDO {self.name!r}: rank {rank} is not to be had of node {node}: {why}"
        )

    @asynccontextmanager
    async def _comm(self, node: str) -> AsyncIterator[Comm]:
        """A line to a node; one on which not everything was said is closed."""
        rpc, lives = self.nodes.rpc, self.nodes.lives
        comm = await connect(rpc, lives, node, self.terms.silence)
        try:
            yield comm
        except BaseException:
            comm.abort()
            raise
        finally:
            rpc.reuse(node, comm)
