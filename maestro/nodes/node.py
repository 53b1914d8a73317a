"""A pool node: holds parts in a Dask worker and gives pieces of them away.

The plugin carries no state, so that it may be set up again and again; the node itself lives as an
extension of its worker.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
from dask.utils import parse_timedelta
from distributed import Status, Worker
from distributed.comm.core import Comm
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.system import MEMORY_LIMIT

from layouts import Distribution
from layouts.tiled import AnyArray
from maestro.arena import Arena, default_parent, is_same_host, reap
from maestro.config import get_bytes, get_number, get_path, get_text
from maestro.errors import (
    DataLostError,
    MaestroError,
    ProtocolError,
    StoreError,
    to_wire,
)
from maestro.locations import Location
from maestro.metrics import COLLECTOR
from maestro.nodes.answering import Answering
from maestro.nodes.footprint import Footprint
from maestro.nodes.holdings import Arrival, Holdings
from maestro.nodes.lodger import Lodger
from maestro.nodes.spilling import Spill
from maestro.stores.staging import read
from maestro.stores.store import open_store
from maestro.stores.writing import write
from maestro.transport import delivering, small, straight
from maestro.transport.bringing import Delivery, Taking
from maestro.transport.buffers import Buffers, keep_freed_memory
from maestro.transport.offload import off_loop
from maestro.transport.payload import as_part
from maestro.transport.pulling import Giving, Request
from maestro.transport.ways import Ways

__all__ = ["Node", "NodePlugin", "clear_away"]

logger = logging.getLogger("maestro.node")


def clear_away() -> None:
    """Remove what pools have left on this host of which no node lives any more."""
    for parent in {arena_parent(), spill_parent()}:
        reap(parent)


def arena_parent() -> Path:
    """Where pools have their memory."""
    return get_path("arena.directory") or default_parent()


def spill_parent() -> Path:
    """Where they have their files on disk."""
    given = None if _spill_store() else get_path("node.spill.directory")
    return given or Path(tempfile.gettempdir())


def _spill_store() -> str:
    """The store to which parts go rather than to files, or nothing."""
    given = get_text("node.spill.directory")
    return given if "://" in given else ""


class NodePlugin(WorkerPlugin):
    """Makes a Dask worker a pool node; the second time does nothing."""

    name = "maestro"
    idempotent = True

    def setup(self, worker: Worker) -> None:
        if "maestro" not in worker.extensions:
            worker.extensions["maestro"] = Node(worker)

    def teardown(self, worker: Worker) -> None:
        node = worker.extensions.pop("maestro", None)
        if node is not None:
            node.close()


class Node:
    """The calls by which programs bring parts to one worker and fetch them.

    Parameters
    ----------
    worker : Worker
        Serves the calls.

    Attributes
    ----------
    limit : int
        Bytes of parts that it may hold.
    holdings : Holdings
        What it holds; there from `enlist` on.
    buffers : Buffers
        The array bytes it has under way, in all streams.
    ways : Ways
        To this and other nodes, for tasks that run here.
    reports : dict
        What such tasks have moved, by the name of what they make, until it is asked for.
    """

    holdings: Holdings

    def __init__(self, worker: Worker) -> None:
        memory = worker.memory_manager.memory_limit or MEMORY_LIMIT
        self.limit = int(memory * get_number("node.memory"))
        self._footprint = Footprint(memory)
        self.buffers = Buffers(get_bytes("transfer.in-flight"))
        keep_freed_memory()
        self.ways = Ways(worker.rpc, self._lives, memory, self._footprint.may_map)
        self.reports: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._worker = worker
        self._closed = False
        self._answering = Answering(
            {
                "free": self.free,
                "hello": self.hello,
                "moved": self.moved,
                "pieces": self.pieces,
                "place": self.place,
                "save": partial(write, self, worker),
                "stage": partial(read, self),
                "store": self.store,
                "where": self.where,
                "whole": self.whole,
            }
        )
        worker.handlers.update(
            maestro_adopt=self.adopt,
            maestro_clear=self.clear,
            maestro_enlist=self.enlist,
            maestro_give=self.give,
            maestro_lend=self.lend,
            maestro_line=self._answering.serve,
            maestro_take=self.take,
        )
        monitored = dask.config.get("distributed.worker.memory.monitor-interval")
        self._trim(parse_timedelta(monitored) / 2)

        COLLECTOR.nodes.add(self)

    @property
    def address(self) -> str:
        """That of its worker; empty before that listens."""
        return str(self._worker.contact_address or "")

    def _trim(self, interval: float) -> None:
        """Do so time and again, before Dask looks."""
        self._trimming = asyncio.get_running_loop().call_later(interval, self._trim, interval)
        if hasattr(self, "holdings"):
            self._footprint.trim((self.ways.mappings, self.holdings.mappings), self.ways.memory)

    def enlist(self, pool: str) -> dict[str, Any]:
        """Be a node of a pool, whose name no other has.

        Say how many bytes this one may hold, and where parts are that outlive it.
        """
        if not hasattr(self, "holdings"):
            spill, lodger = self._spill(pool), self._lodger(pool)
            # Where parts may go elsewhere, those that programs ask for stay longest.
            linked = spill is None and lodger is None
            arena = Arena(arena_parent(), pool, self.limit, linked=linked)
            clear_away()  # now that a dead node of this pool need not fear for what it has left
            self.holdings = Holdings(arena, get_bytes("transfer.map-from"), spill, lodger)
            self.limit += sum(place.limit for place in (spill, lodger) if place is not None)
        return {
            "limit": self.limit,
            "homes": self.holdings.homes,
            "map_from": self.holdings.map_from,
        }

    async def adopt(
        self, homes: Sequence[tuple[str, str]], parts: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        """Take over what a dead node has left, if it was on this host; see `maestro.messages`."""
        if not any(is_same_host(*home) for home in homes):
            return {"outcome": "elsewhere", "parts": []}
        left = {}
        for words in parts:
            layout = Distribution.from_dict(words["distribution"])
            for rank in words["ranks"]:
                left[words["version"], rank] = layout, words["itemsize"]
        try:
            found = await off_loop(False, self.holdings.adopt, [home for home, _ in homes], left)
        except BlockingIOError:
            return {"outcome": "busy", "parts": []}
        return {"outcome": "adopted", "parts": found}

    def _spill(self, pool: str) -> Spill | None:
        """Where parts go that memory has no room for, if any are to go there."""
        limit = get_bytes("node.spill.limit", 0)
        if limit <= 0 or _spill_store():
            return None
        try:
            return Spill(spill_parent(), pool, limit)
        except OSError as error:
            logger.warning("Nothing goes to the disk: %s: %s", spill_parent(), error)
            return None

    def _lodger(self, pool: str) -> Lodger | None:
        """Who puts parts up in a store, if they are to go there."""
        limit, loop = get_bytes("node.spill.limit", 0), asyncio.get_running_loop()
        if limit <= 0 or not _spill_store():
            return None

        async def say(version: int, rank: int, location: str) -> None:
            what = {"version": version, "rank": rank, "location": location}
            await self._worker.scheduler.maestro_lodged(node=self.address, **what)

        def tell(*what: Any) -> bool:
            try:
                asyncio.run_coroutine_threadsafe(say(*what), loop).result()
            except OSError:  # the pool is gone
                return False
            return True

        try:
            return Lodger(_spill_store(), pool, limit, tell)
        except StoreError as error:
            logger.warning("Nothing goes to a store: %s", error)
            return None

    def hello(self) -> dict[str, str]:
        """Say where programs of this host find the parts, and what proves that they are there."""
        arena = self.holdings.arena
        return {"arena": arena.directory, "token": arena.token}

    def moved(self, task: str) -> list[dict[str, Any]]:
        """Say what tasks have moved here, once."""
        return self.reports.pop(task, [])

    async def _lives(self, node: str) -> bool:
        """Whether the scheduler has this node's worker."""
        try:
            return node in (await self._worker.scheduler.identity(n_workers=-1))["workers"]
        except OSError:
            return False

    def close(self) -> None:
        """Leave no more than other nodes of this host may adopt; what is mapped stays valid."""
        self._closed = True
        COLLECTOR.nodes.discard(self)
        self._trimming.cancel()
        self._answering.close()
        self.ways.close()
        if hasattr(self, "holdings"):
            self.holdings.close()

    # Words over lines: see `maestro.transport.small` and `maestro.transport.onhost`

    def whole(self, parts: Any) -> bytes | None:
        """Give small parts as they lie."""
        return small.give_whole(self.holdings, parts)

    def pieces(self, request: Any) -> bytes | None:
        """Give all that a small request asks for."""
        return small.give_pieces(self.holdings, request)

    def store(self, deliveries: Any, data: Any) -> bool | Awaitable[bool]:
        """Store small parts, at once unless others have to make room for them."""
        coming = small.announced(deliveries, data)
        nbytes = len(data)
        if self.holdings.fits(nbytes):
            return small.take(self.holdings, coming, data)

        async def take() -> bool:
            await off_loop(False, self.holdings.make_room, nbytes)
            return small.take(self.holdings, coming, data)

        return take()

    def where(self, version: int, ranks: Sequence[int]) -> dict[int, str]:
        """Say where a program of this host can map parts."""
        return self.holdings.where(version, ranks)

    async def place(
        self, delivery: dict[str, Any], written: dict[int, str] | None = None
    ) -> dict[int, str]:
        """Say which segments a program of this host is to fill with parts; none if it is too late.

        Those that it was lent and has ``written`` are filled already.

        From then on they are held here: who may ask for them is the manager's business, which
        hears when they are filled.
        """
        coming = Delivery.from_words(delivery)
        with Arrival(self.holdings, coming) as arrival:
            placed = await off_loop(False, arrival.segments, written or {})
            return {} if arrival.enter() is not None else placed

    # Streams

    async def give(self, comm: Comm, request: dict[str, Any]) -> Any:
        """Stream to a program what it wants of the parts; see `maestro.transport.pulling`."""
        try:
            wanted = Request.from_words(request)
        except ProtocolError as error:
            await comm.write({"error": to_wire(error)})
            await comm.close()
        else:
            with self.holdings.reading((wanted.version, rank) for rank in wanted.held.values()):
                give = straight.Giving if wanted.straight else Giving
                await give(comm, wanted, self.holdings.parts, self.buffers).serve()
        return Status.dont_reply

    async def take(self, comm: Comm, delivery: dict[str, Any]) -> Any:
        """Store the parts that a program streams; see `maestro.transport.bringing`."""
        try:
            coming = Delivery.from_words(delivery)
            await self._make_room(coming)
            with Arrival(self.holdings, coming) as arrival:
                taking = delivering.Taking if coming.straight else Taking
                await taking(comm, coming, self.buffers, arrival).serve()
        except MaestroError as error:
            await comm.write({"error": to_wire(error)})
            await comm.close()
        return Status.dont_reply

    async def lend(self, comm: Comm) -> Any:
        """Lend memory to a program of this host, for as long as the line to it is there.

        See `maestro.transport.lending`.
        """
        lent = []
        try:
            while True:
                word = await comm.read()
                if "path" in word:
                    self.holdings.give_back(word["path"])
                    continue
                try:
                    path = await off_loop(False, self.holdings.lend, int(word["nbytes"]))
                except MemoryError as error:
                    await comm.write({"full": str(error)})
                else:
                    lent.append(path)
                    await comm.write({"path": path})
        except (OSError, KeyError, TypeError, ValueError):  # it is gone, or talks nonsense
            comm.abort()
        finally:
            for path in lent:
                self.holdings.abandon(path)
        return Status.dont_reply

    @asynccontextmanager
    async def filling(
        self, delivery: Delivery, dtype: np.dtype[Any]
    ) -> AsyncIterator[dict[int, AnyArray]]:
        """Parts for a task of this worker to fill; once it has, they are held.

        Raises
        ------
        DataLostError
            If they are not expected any more.
        """
        layout = delivery.distribution
        await self._make_room(delivery)
        with Arrival(self.holdings, delivery) as arrival:
            parts: dict[int, AnyArray] = {}
            for rank in delivery.ranks:
                memory = await off_loop(False, arrival.allocate, rank)
                part = parts[rank] = as_part(memory, layout.local_shape(rank), dtype, layout.order)
                if part.size * part.itemsize < len(memory):
                    await off_loop(False, memory.fill, 0)  # what pads tiles
            yield parts
            missing = arrival.enter()
        if missing is not None:
            raise DataLostError(f"rank {missing} is not expected any more")

    async def clear(self, location: str) -> None:
        """Delete what the pool has in a store."""
        where = Location.of(location)
        try:
            await off_loop(False, lambda: open_store(where.store).delete(where.path))
        except StoreError as error:
            logger.warning("What is left at %s: %s", location, error)

    async def _make_room(self, coming: Delivery) -> None:
        """Have parts go to the disk for others to come, in a thread."""
        nbytes = sum(map(coming.size, coming.ranks))
        if not self.holdings.fits(nbytes):
            await off_loop(False, self.holdings.make_room, nbytes)

    async def free(self, version: int, ranks: Sequence[int], settled: bool) -> None:
        """Drop parts, also those that are on their way here."""
        left = self.holdings.take_out(version, ranks, settled)
        try:
            if left:
                small = all(isinstance(home, np.ndarray) for home in left)
                await off_loop(small, self.holdings.drop, left, settled)
        except FileNotFoundError:
            if not self._closed:  # else it is cleared away with all else
                raise
