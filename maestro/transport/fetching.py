"""What a demand does: fill the parts of target ranks from the nodes that hold the source's.

Each node's share of it comes by itself: what can be mapped in one pass, the rest as one stream. If
a share fails because a part is not where it was thought to be, what is left of it is asked for
again, and only that, wherever it is then: a node may have died, and another may have its parts; or
a part may have gone from memory to the disk. A node that says nothing is passed over, where others
have the same parts, also by demands that begin soon after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from layouts import Distribution, Plan, plan
from layouts.tiled import AnyArray
from maestro.errors import DataLostError, PoolTimeoutError, StoreError
from maestro.locations import Location, is_location
from maestro.report import Transfer
from maestro.stores.reading import fill as read
from maestro.stores.reading import located
from maestro.transport.buffers import keep_freed_memory
from maestro.transport.lanes import so_many
from maestro.transport.network import Network, Terms, terms
from maestro.transport.offload import SMALL, compiled, off_loop
from maestro.transport.onhost import Displaced, Found, Moved, fill, locate, worth_mapping
from maestro.transport.packing import Slab
from maestro.transport.payload import message_order
from maestro.transport.pulling import Request
from maestro.transport.shares import Share, Source, by_node, shares
from maestro.transport.small import fetch_pieces, fetch_whole
from maestro.transport.ways import Ways

__all__ = ["Again", "Whereabouts", "fetch", "whereabouts"]

#: Pairs of ranks up to which planning is quicker than waking a thread for it.
FEW = 64


@dataclass(frozen=True)
class Whereabouts:
    """Where the parts of source ranks are.

    Attributes
    ----------
    nodes : sequence of str
        The node of each source rank.
    instead : mapping of int to int
        Source ranks whose own parts are gone, and others whose parts are the same.
    copies : mapping of int to sequence of str
        All nodes of those source ranks that have several.
    """

    nodes: Sequence[str]
    instead: Mapping[int, int] = field(default_factory=dict)
    copies: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def without(self, nodes: Collection[str], layout: Distribution) -> Whereabouts:
        """The same where these nodes are passed over, as far as others have as much.

        Those are nodes with copies, and those of ranks that hold the same by their ``layout``.
        """
        if not nodes:
            return self
        chosen, instead = list(self.nodes), dict(self.instead)
        for rank in (rank for rank, node in enumerate(self.nodes) if node in nodes):
            for twin in (rank, *layout.twins(rank)):
                having = self.copies.get(twin, self.nodes[twin : twin + 1])
                other = next((node for node in having if node and node not in nodes), None)
                if other is not None:
                    chosen[rank], instead[rank] = other, self.instead.get(twin, twin)
                    break
        return replace(self, nodes=chosen, instead=instead)


async def whereabouts(ways: Ways, found: Mapping[str, Any]) -> Whereabouts:
    """Where the parts are by what the manager says; of several copies, one on this host."""
    nodes, copies = list(found["nodes"]), found["copies"]
    if copies:
        asked = {*nodes, *chain(*copies.values())}
        near = await ways.on_this_host(node for node in asked if not is_location(node))
        for rank, others in copies.items():
            if nodes[rank] not in near:
                nodes[rank] = next((node for node in others if node in near), nodes[rank])
    having = {rank: (found["nodes"][rank], *others) for rank, others in copies.items()}
    return Whereabouts(nodes, found["instead"], having)


#: Finds out where the parts are now, or raises why they cannot be had any more.
Again: TypeAlias = Callable[[], Awaitable[Whereabouts]]


async def fetch(
    ways: Ways,
    source: Source,
    where: Whereabouts,
    target: Distribution,
    parts: Mapping[int, AnyArray],
    arrived: Callable[[int], None],
    region: Sequence[slice] | None = None,
    again: Again | None = None,
) -> list[Transfer]:
    """Fill the parts of target ranks from the nodes that hold the source's.

    Parameters
    ----------
    ways : Ways
        This program's ways to the nodes.
    source : Source
        What is demanded.
    where : Whereabouts
        Where its parts are thought to be.
    target : Distribution
        How it is wanted.
    parts : mapping
        The arrays to fill, by target rank.
    arrived : callable
        Called with each target rank once its part is complete.
    region : sequence of slice, optional
        What of the array is wanted; the target is then of this region.
    again : callable, optional
        Asked for where the parts are whenever one was not there; without, they are looked for in
        the same places.

    Returns
    -------
    list of Transfer
        What each pair of ranks moved.

    Raises
    ------
    DataLostError, PoolTimeoutError
        If a node is gone or silent before it has given everything, and nobody else has it.
    """
    if region is None and target == source.distribution:
        moved = await fetch_whole(ways, source, where.nodes, where.instead, parts)
        if moved is not None:
            for rank in list(parts):
                arrived(rank)
            return moved
    where = where.without(ways.passed_over, source.distribution)
    way = plan(source.distribution, target, region=region)
    itemsize = source.dtype.itemsize
    small = len(parts) * source.distribution.size <= FEW
    given = await off_loop(small, shares, way, itemsize, where.nodes, list(parts))
    tally = _Tally(parts, arrived)
    if not given:
        return []
    keep_freed_memory()
    agreed = terms(len(given))
    fetching = _Fetch(ways, source, target, way, parts, tally, agreed, where, again)
    await fetching.bring(given, where, agreed.streams + 1)
    return list(tally.transfers.values())


@dataclass(frozen=True)
class _Fetch:
    """One demand under way."""

    ways: Ways
    source: Source
    target: Distribution
    way: Plan
    parts: Mapping[int, AnyArray]
    tally: _Tally
    terms: Terms
    where: Whereabouts
    again: Again | None
    silent: set[str] = field(default_factory=set)  # nodes that said nothing in this one

    async def bring(
        self, given: Sequence[Share], where: Whereabouts, lanes: int, tries: int = 0
    ) -> None:
        """Bring shares, so many at once, each by the way that is best for it."""
        found = await self._locate(given, where)
        mapped, streamed = _split(given, found)
        jobs: list[Callable[[], Awaitable[None]]] = []
        if len(mapped.pairs):
            jobs.append(partial(self._retried, mapped, partial(self._read, found), where, tries))
        for share in streamed:
            work = self._read_store if is_location(share.node) else partial(self._pull, where)
            jobs.append(partial(self._retried, share, work, where, tries))
        await so_many(lanes, jobs)

    async def _retried(
        self,
        share: Share,
        work: Callable[[Share], Awaitable[None]],
        where: Whereabouts,
        tries: int,
    ) -> None:
        """Bring a share; if a part is not to be had where it was thought to be, look elsewhere."""
        try:
            return await work(share)
        except PoolTimeoutError:
            left, fruitless = self.tally.left_of(share), tries
            self.silent.add(share.node)
            self.ways.pass_over(share.node)
            where = where.without(self.silent, self.source.distribution)
            if any(where.nodes[rank] in self.silent for rank in np.unique(left.pairs[:, 1])):
                raise
        except DataLostError as error:
            if self.again is None and not isinstance(error, Displaced):
                raise
            left = self.tally.left_of(share)
            fruitless = tries + 1 if len(left.pairs) == len(share.pairs) else 0
            if fruitless > self.terms.retries:
                raise
            where = self.where if self.again is None else await self.again()
            where = where.without(self.silent, self.source.distribution)
        await self.bring(by_node(left.pairs, left.sizes, where.nodes), where, 1, fruitless)

    async def _pull(self, where: Whereabouts, share: Share) -> None:
        sources = set(share.pairs[:, 1].tolist()) & where.instead.keys()
        request = Request(
            self.source.version,
            self.target,
            share.pairs,
            self.source.dtype.itemsize,
            message_order(self.source.distribution.order),
            share.nbytes,
            self.terms.chunk,
            self.terms.credit,
            self.terms.silence,
            self.way.region,
            instead={rank: where.instead[rank] for rank in sources},
        )
        clerk = self.tally.clerk(share.node)
        came = await fetch_pieces(self.ways, share.node, self.way, request, self.parts)
        if came is not None:
            clerk(came)
            return
        network = Network(self.ways.nodes, self.terms, self.source.name)
        await network.fetch(share.node, self.way, request, self.parts, clerk)

    async def _read(self, found: Mapping[int, Found], share: Share) -> None:
        known = compiled(self.source.dtype.itemsize)
        quick = known and share.nbytes <= SMALL and len(share.pairs) <= FEW
        name, mappings = self.source.name, self.ways.mappings
        async for moved in fill(name, self.way, share.pairs, found, self.parts, mappings, quick):
            self.tally.moved(moved, found)

    async def _read_store(self, share: Share) -> None:
        """Read a share from the store that it is in, object by object."""
        name, location = self.source.name, Location.of(share.node)
        try:
            array = await off_loop(
                False, located, location, self.source.distribution, self.source.dtype
            )
            incoming = {target: self.way.incoming(target) for target in share.targets}
            for rank in np.unique(share.pairs[:, 1]).tolist():
                targets = share.pairs[share.pairs[:, 1] == rank, 0].tolist()
                wanted = [(t, self.parts[t], incoming[t].pieces(rank)) for t in targets]
                number = 0 if location.whole else rank
                memory = self.ways.memory
                moved = await off_loop(False, read, array, number, wanted, memory.empty)
                for target, nbytes, seconds in moved:
                    self.tally.read(share.node, Moved(target, rank, nbytes, seconds))
        except StoreError as error:
            raise StoreError(f"CDO {name!r}: {error}") from None

    async def _locate(self, given: Sequence[Share], where: Whereabouts) -> dict[int, Found]:
        """The source ranks' parts that this program can map."""
        layout, dtype = self.source.distribution, self.source.dtype
        ranks = {
            s.node: worth_mapping(layout, dtype.itemsize, np.unique(s.pairs[:, 1]).tolist())
            for s in given
            if not is_location(s.node)
        }
        near = await self.ways.on_this_host(node for node, large in ranks.items() if large)

        def at(node: str) -> Awaitable[dict[int, Found]]:
            held = {rank: where.instead.get(rank, rank) for rank in ranks[node]}
            silence = self.terms.silence
            return locate(self.ways, node, self.source.version, layout, dtype, held, silence)

        found = await asyncio.gather(*(at(node) for node in near))
        return {rank: part for each in found for rank, part in each.items()}


def _split(given: Sequence[Share], found: Mapping[int, Found]) -> tuple[Share, list[Share]]:
    """What is read where it lies, by target rank, and what is to be streamed, by node."""
    known = np.zeros(1 + max(int(share.pairs[:, 1].max()) for share in given), bool)
    known[list(found)] = True
    here = [known[share.pairs[:, 1]] for share in given]
    near = [share.of(chosen) for share, chosen in zip(given, here, strict=True)]
    pairs = np.concatenate([share.pairs for share in near])
    by_target = np.argsort(pairs[:, 0], kind="stable")
    sizes = np.concatenate([share.sizes for share in near])
    far = [share.of(~chosen) for share, chosen in zip(given, here, strict=True)]
    return Share("", pairs[by_target], sizes[by_target]), [share for share in far if share.nbytes]


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

    def read(self, node: str, moved: Moved) -> None:
        """Take down what was read from a store."""
        self._note(node, "store", moved, moved.seconds)

    def left_of(self, share: Share) -> Share:
        """What of a share has not come, or not completely; that is forgotten, to come anew."""
        left = np.ones(len(share.pairs), bool)
        for k, ((target, source), size) in enumerate(zip(share.pairs, share.sizes, strict=True)):
            transfer = self.transfers.get((int(source), int(target)))
            if transfer is not None and transfer.bytes == size:
                left[k] = False
            elif transfer is not None:
                self._left[transfer.target] += transfer.bytes
                del self.transfers[transfer.source, transfer.target]
        return share.of(left)

    def _note(self, node: str, transport: str, moved: Slab | Moved, seconds: float) -> None:
        pair = moved.source, moved.target
        transfer = self.transfers.setdefault(pair, Transfer(*pair, node, transport))
        transfer.bytes += moved.nbytes
        transfer.messages += transport == "network"
        transfer.seconds += seconds
        self._left[moved.target] -= moved.nbytes
        if not self._left[moved.target]:
            self._arrived(moved.target)
