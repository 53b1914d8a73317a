"""Array bytes on their way between an app and the nodes, never through the scheduler.

An offer brings each part to the node that the manager chose. A demand pulls: from every node that
holds something for it, one stream of bounded messages, packed in the order of the destination and
put in their places as they arrive. A part is handed over as soon as its own pieces are in.

Here it is decided which way the bytes of a pair of ranks take, and no byte is touched.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from distributed.core import ConnectionPool
from numpy.typing import NDArray

from layouts import Distribution, Plan, plan
from layouts.tiled import AnyArray
from maestro.bringing import Delivery
from maestro.buffers import keep_freed_memory
from maestro.network import Network, terms
from maestro.offload import off_loop
from maestro.packing import Slab
from maestro.pulling import Request
from maestro.report import Transfer

__all__ = ["Share", "Source", "fetch", "shares", "store"]

#: Pairs of ranks up to which planning is quicker than waking a thread for it.
FEW = 64


@dataclass(frozen=True)
class Source:
    """A version of a CDO, and how its producers hold it."""

    name: str
    version: int
    distribution: Distribution
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Share:
    """What one node has for the target ranks of a demand.

    Attributes
    ----------
    node : str
        Its address.
    pairs : int64 array, shape (n, 2)
        Target and source rank of each pair, by target rank.
    nbytes : int
        Bytes in all.
    """

    node: str
    pairs: NDArray[np.int64]
    nbytes: int


async def store(
    rpc: ConnectionPool,
    source: Source,
    places: Mapping[int, str],
    parts: Mapping[int, AnyArray],
    lives: Callable[[str], Awaitable[bool]],
) -> None:
    """Bring parts to their nodes.

    Parameters
    ----------
    rpc : ConnectionPool
        Dask's connections.
    source : Source
        What is offered.
    places : mapping
        The node for each rank.
    parts : mapping
        The arrays, by rank.
    lives : callable
        Whether the pool still has a node; a coroutine function.

    Raises
    ------
    DataLostError, PoolTimeoutError
        If a node is gone or silent before it has everything.
    """
    ranks: defaultdict[str, list[int]] = defaultdict(list)
    for rank, node in places.items():
        ranks[node].append(rank)
    if not ranks:
        return
    agreed = terms(len(ranks))
    network = Network(rpc, lives, agreed, source.name)

    def bring(node: str) -> Awaitable[None]:
        delivery = Delivery(
            source.version,
            source.distribution,
            source.dtype.itemsize,
            tuple(ranks[node]),
            agreed.chunk,
            agreed.credit,
            agreed.silence,
        )
        return network.bring(node, delivery, parts)

    await _so_many(agreed.streams, (partial(bring, node) for node in ranks))


async def fetch(
    rpc: ConnectionPool,
    source: Source,
    nodes: Sequence[str],
    target: Distribution,
    parts: Mapping[int, AnyArray],
    lives: Callable[[str], Awaitable[bool]],
    arrived: Callable[[int], None],
) -> list[Transfer]:
    """Fill the parts of target ranks from the nodes that hold the source's.

    Parameters
    ----------
    rpc : ConnectionPool
        Dask's connections.
    source : Source
        What is demanded.
    nodes : sequence of str
        The node of each source rank.
    target : Distribution
        How it is wanted.
    parts : mapping
        The arrays to fill, by target rank.
    lives : callable
        Whether the pool still has a node; a coroutine function.
    arrived : callable
        Called with each target rank once its part is complete.

    Returns
    -------
    list of Transfer
        What each pair of ranks moved.

    Raises
    ------
    DataLostError, PoolTimeoutError
        If a node is gone or silent before it has given everything.
    """
    way = plan(source.distribution, target)
    itemsize = source.dtype.itemsize
    small = len(parts) * source.distribution.size <= FEW
    found = await off_loop(small, shares, way, itemsize, nodes, list(parts))
    tally = _Tally(parts, arrived)
    if not found:
        return []
    keep_freed_memory()
    agreed = terms(len(found))
    network = Network(rpc, lives, agreed, source.name)

    def pull(share: Share) -> Awaitable[None]:
        request = Request(
            source.version,
            target,
            share.pairs,
            itemsize,
            share.nbytes,
            agreed.chunk,
            agreed.credit,
            agreed.silence,
        )
        return network.fetch(share.node, way, request, parts, tally.clerk(share.node))

    await _so_many(agreed.streams, (partial(pull, share) for share in found))
    return list(tally.transfers.values())


def shares(way: Plan, itemsize: int, nodes: Sequence[str], ranks: Sequence[int]) -> list[Share]:
    """What each node has for these target ranks.

    Ranks that ask at the same time begin with different nodes.
    """
    addresses = sorted(set(nodes))
    number = {address: k for k, address in enumerate(addresses)}
    holder = np.array([number[address] for address in nodes], np.int64)
    incoming = [way.incoming(rank) for rank in ranks]
    sources = [share.sources for share in incoming]
    target = np.repeat(np.array(ranks, np.int64), [len(found) for found in sources])
    source = np.concatenate([np.empty(0, np.int64), *sources])
    sizes = np.concatenate([np.empty(0, np.int64), *(share.bytes(itemsize) for share in incoming)])
    where = holder[source]
    by_node = np.argsort(where, kind="stable")
    result = []
    for rows in np.split(by_node, np.flatnonzero(np.diff(where[by_node])) + 1):
        if len(rows):
            pairs = np.stack([target[rows], source[rows]], axis=1)
            result.append(Share(addresses[int(where[rows[0]])], pairs, int(sizes[rows].sum())))
    first = min(ranks, default=0) % max(len(result), 1)
    return result[first:] + result[:first]


class _Tally:
    """What has come, by pair of ranks and by part."""

    def __init__(self, parts: Mapping[int, AnyArray], arrived: Callable[[int], None]) -> None:
        self.transfers: dict[tuple[int, int], Transfer] = {}
        # Bytes of the elements: what pads tiles does not come.
        self._left = {rank: part.size * part.itemsize for rank, part in parts.items()}
        self._arrived = arrived
        for rank, left in self._left.items():
            if not left:
                arrived(rank)

    def clerk(self, node: str) -> Callable[[list[Slab]], None]:
        """Who takes down what comes from one node."""
        since = perf_counter()

        def taken(slabs: list[Slab]) -> None:
            nonlocal since
            now = perf_counter()
            total = sum(slab.nbytes for slab in slabs)
            for slab in slabs:
                self._note(node, slab, (now - since) * slab.nbytes / max(total, 1))
            since = now

        return taken

    def _note(self, node: str, slab: Slab, seconds: float) -> None:
        pair = slab.source, slab.target
        transfer = self.transfers.setdefault(pair, Transfer(*pair, node))
        transfer.bytes += slab.nbytes
        transfer.messages += 1
        transfer.seconds += seconds
        self._left[slab.target] -= slab.nbytes
        if not self._left[slab.target]:
            self._arrived(slab.target)


async def _so_many(lanes: int, jobs: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Do all of it, so many at a time; the first error ends the rest, and nothing goes on."""
    left = iter(jobs)

    async def lane() -> None:
        for job in left:  # the lanes share the iterator: each takes the next job that is left
            await job()

    tasks = [asyncio.create_task(lane()) for _ in range(lanes)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
