"""Array bytes on their way between a program and the nodes, never through the scheduler.

An offer brings each part to the node that the manager chose, a demand fills the parts that are
wanted. Where program and node share a host, the bytes go straight from one's memory to the other's
(`maestro.onhost`). Else, and where parts are small, they travel as one stream of bounded messages
per node (`maestro.network`). A part is handed over as soon as its own pieces are in.

Here it is decided which way the bytes of a pair of ranks take, and no byte is touched.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layouts import Distribution, Plan, plan
from layouts.tiled import AnyArray
from maestro.bringing import Delivery
from maestro.buffers import keep_freed_memory
from maestro.errors import PoolFullError
from maestro.lending import Lent
from maestro.network import Network, terms
from maestro.offload import SMALL, compiled, off_loop
from maestro.onhost import Found, Moved, fill, locate, put, worth_mapping
from maestro.packing import Slab
from maestro.pulling import Request
from maestro.report import Transfer
from maestro.ways import Ways

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
    sizes : int64 array, shape (n,)
        Bytes of each pair.
    """

    node: str
    pairs: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return int(self.sizes.sum())

    def of(self, chosen: NDArray[np.bool_]) -> Share:
        """Some of the pairs."""
        return Share(self.node, self.pairs[chosen], self.sizes[chosen])


async def store(
    ways: Ways,
    source: Source,
    places: Mapping[int, str],
    parts: Mapping[int, AnyArray],
    lent: Mapping[int, Lent] | None = None,
) -> None:
    """Bring parts to their nodes.

    Parameters
    ----------
    ways : Ways
        This program's ways to the nodes.
    source : Source
        What is offered.
    places : mapping
        The node for each rank.
    parts : mapping
        The arrays, by rank.
    lent : mapping, optional
        Those that lie in memory which a node has lent, by rank.

    Raises
    ------
    DataLostError, PoolTimeoutError
        If a node is gone or silent before it has everything.
    PoolFullError
        If a node has less room than it said: its disk is full.
    """
    ranks: defaultdict[str, list[int]] = defaultdict(list)
    for rank, node in places.items():
        ranks[node].append(rank)
    if not ranks:
        return
    agreed = terms(len(ranks))
    network = Network(ways.rpc, ways.lives, agreed, source.name)
    large = worth_mapping(source.distribution, source.dtype.itemsize, list(places))
    near = await ways.on_this_host(places[rank] for rank in large)

    def delivery(chosen: Sequence[int]) -> Delivery:
        return Delivery(
            source.version,
            source.distribution,
            source.dtype.itemsize,
            tuple(chosen),
            agreed.chunk,
            agreed.credit,
            agreed.silence,
        )

    async def bring(node: str) -> None:
        left = ranks[node]
        if node in near:
            mapped = [rank for rank in left if rank in set(large)]
            with suppress(OSError):  # the stream finds out what is wrong with the node
                written = {r: own.path for r, own in (lent or {}).items() if own.node == node}
                unplaced = await put(ways, node, delivery(mapped), parts, written)
                left = [rank for rank in left if rank not in mapped or rank in unplaced]
        if left:
            await network.bring(node, delivery(left), parts)

    try:
        await _so_many(agreed.streams, (partial(bring, node) for node in ranks))
    except PoolFullError as error:
        raise PoolFullError(f"CDO {source.name!r}: {error}") from None


async def fetch(
    ways: Ways,
    source: Source,
    nodes: Sequence[str],
    target: Distribution,
    parts: Mapping[int, AnyArray],
    arrived: Callable[[int], None],
    region: Sequence[slice] | None = None,
) -> list[Transfer]:
    """Fill the parts of target ranks from the nodes that hold the source's.

    Parameters
    ----------
    ways : Ways
        This program's ways to the nodes.
    source : Source
        What is demanded.
    nodes : sequence of str
        The node of each source rank.
    target : Distribution
        How it is wanted.
    parts : mapping
        The arrays to fill, by target rank.
    arrived : callable
        Called with each target rank once its part is complete.
    region : sequence of slice, optional
        What of the array is wanted; the target is then of this region.

    Returns
    -------
    list of Transfer
        What each pair of ranks moved.

    Raises
    ------
    DataLostError, PoolTimeoutError
        If a node is gone or silent before it has given everything.
    """
    way = plan(source.distribution, target, region=region)
    itemsize = source.dtype.itemsize
    small = len(parts) * source.distribution.size <= FEW
    given = await off_loop(small, shares, way, itemsize, nodes, list(parts))
    tally = _Tally(parts, arrived)
    if not given:
        return []
    keep_freed_memory()
    agreed = terms(len(given))
    network = Network(ways.rpc, ways.lives, agreed, source.name)
    found = await _locate(ways, source, given, agreed.silence)
    mapped, streamed = _split(given, found)

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
            way.region,
        )
        return network.fetch(share.node, way, request, parts, tally.clerk(share.node))

    async def read() -> None:
        quick = compiled(itemsize) and mapped.nbytes <= SMALL and len(mapped.pairs) <= FEW
        pass_over = fill(source.name, way, mapped.pairs, found, parts, ways.mappings, quick)
        async for moved in pass_over:
            tally.moved(moved, found)

    jobs: list[Callable[[], Awaitable[None]]] = [read] if len(mapped.pairs) else []
    jobs += [partial(pull, share) for share in streamed]
    await _so_many(agreed.streams + 1, jobs)
    return list(tally.transfers.values())


async def _locate(
    ways: Ways, source: Source, given: Sequence[Share], silence: float
) -> dict[int, Found]:
    """The source ranks' parts that this program can map."""
    layout, itemsize = source.distribution, source.dtype.itemsize
    ranks = {
        s.node: worth_mapping(layout, itemsize, np.unique(s.pairs[:, 1]).tolist()) for s in given
    }
    near = await ways.on_this_host(node for node, large in ranks.items() if large)
    found = await asyncio.gather(
        *(
            locate(ways, node, source.version, layout, source.dtype, ranks[node], silence)
            for node in near
        )
    )
    return {rank: part for each in found for rank, part in each.items()}


def _split(given: Sequence[Share], found: Mapping[int, Found]) -> tuple[Share, list[Share]]:
    """What is read where it lies, by target rank, and what is to be streamed, by node."""
    known = np.array(sorted(found), np.int64)
    here = [np.isin(share.pairs[:, 1], known) for share in given]
    near = [share.of(chosen) for share, chosen in zip(given, here, strict=True)]
    pairs = np.concatenate([share.pairs for share in near])
    by_target = np.argsort(pairs[:, 0], kind="stable")
    sizes = np.concatenate([share.sizes for share in near])
    far = [share.of(~chosen) for share, chosen in zip(given, here, strict=True)]
    return Share("", pairs[by_target], sizes[by_target]), [share for share in far if share.nbytes]


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
            result.append(Share(addresses[int(where[rows[0]])], pairs, sizes[rows]))
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
                self._note(node, "network", slab, (now - since) * slab.nbytes / max(total, 1))
            since = now

        return taken

    def moved(self, batch: list[Moved], found: Mapping[int, Found]) -> None:
        """Take down what was read where it lies."""
        for pair in batch:
            self._note(found[pair.source].node, "host", pair, pair.seconds)

    def _note(self, node: str, transport: str, moved: Slab | Moved, seconds: float) -> None:
        pair = moved.source, moved.target
        transfer = self.transfers.setdefault(pair, Transfer(*pair, node, transport))
        transfer.bytes += moved.nbytes
        transfer.messages += transport == "network"
        transfer.seconds += seconds
        self._left[moved.target] -= moved.nbytes
        if not self._left[moved.target]:
            self._arrived(moved.target)


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
