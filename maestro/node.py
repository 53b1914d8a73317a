"""A pool node: holds parts in a Dask worker and gives pieces of them away.

The plugin carries no state, so that it may be set up again and again; the node itself lives as an
extension of its worker.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from distributed import Status, Worker
from distributed.comm.core import Comm
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.system import MEMORY_LIMIT

from maestro.arena import Arena, default_parent, reap
from maestro.bringing import Delivery, Taking, take_at_once
from maestro.buffers import Buffers, keep_freed_memory
from maestro.config import get_bytes, get_number, get_path
from maestro.errors import ProtocolError, to_wire
from maestro.holdings import Arrival, Holdings
from maestro.offload import off_loop
from maestro.pulling import Giving, Request
from maestro.ways import Ways

__all__ = ["Node", "NodePlugin"]


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
        self.limit = int(
            (worker.memory_manager.memory_limit or MEMORY_LIMIT) * get_number("node.memory")
        )
        self.buffers = Buffers(get_bytes("transfer.in-flight"))
        keep_freed_memory()
        self.ways = Ways(worker.rpc, self._lives)
        self.reports: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._worker = worker
        self._closed = False
        worker.handlers.update(
            maestro_enlist=self.enlist,
            maestro_hello=self.hello,
            maestro_free=self.free,
            maestro_give=self.give,
            maestro_lend=self.lend,
            maestro_place=self.place,
            maestro_take=self.take,
            maestro_where=self.where,
        )

    def enlist(self, pool: str) -> dict[str, Any]:
        """Be a node of a pool, whose name no other has; say how many bytes this one may hold."""
        if not hasattr(self, "holdings"):
            parent = get_path("arena.directory") or default_parent()
            reap(parent)
            arena = Arena(parent, pool, self.limit)
            self.holdings = Holdings(arena, get_bytes("transfer.map-from"))
        return {"limit": self.limit}

    def hello(self) -> dict[str, str]:
        """Say where programs of this host find the parts, and what proves that they are there."""
        arena = self.holdings.arena
        return {"arena": arena.directory, "token": arena.token}

    async def _lives(self, node: str) -> bool:
        """Whether the scheduler has this node's worker."""
        try:
            return node in (await self._worker.scheduler.identity(n_workers=-1))["workers"]
        except OSError:
            return False

    def close(self) -> None:
        """Leave nothing on this host; what programs have mapped stays valid."""
        self._closed = True
        self.ways.close()
        if hasattr(self, "holdings"):
            self.holdings.arena.close()

    async def give(self, comm: Comm, request: dict[str, Any]) -> Any:
        """Stream to a program what it wants of the parts; see `maestro.pulling`."""
        try:
            wanted = Request.from_words(request)
        except ProtocolError as error:
            await comm.write({"error": to_wire(error)})
            await comm.close()
        else:
            await Giving(comm, wanted, self.holdings.parts, self.buffers).serve()
        return Status.dont_reply

    def where(self, version: int, ranks: Sequence[int]) -> dict[int, tuple[str, int, int]]:
        """Say where a program of this host can map parts; see `maestro.onhost`."""
        return self.holdings.where(version, ranks)

    async def take(self, comm: Comm, delivery: dict[str, Any], data: Any = None) -> Any:
        """Store the parts that a program streams, or sends at once; see `maestro.bringing`."""
        try:
            coming = Delivery.from_words(delivery)
            with Arrival(self.holdings, coming) as arrival:
                if data is None:
                    await Taking(comm, coming, self.buffers, arrival).serve()
                else:
                    missing = take_at_once(coming, data, arrival)
                    stored = {"stored": True} if missing is None else {"missing": missing}
                    await comm.write(stored)
        except ProtocolError as error:
            await comm.write({"error": to_wire(error)})
            await comm.close()
        return Status.dont_reply

    async def lend(self, comm: Comm) -> Any:
        """Lend memory to a program of this host, for as long as the line to it is there.

        See `maestro.lending`.
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

    async def place(
        self, delivery: dict[str, Any], written: dict[int, str] | None = None
    ) -> dict[str, Any]:
        """Say which segments a program of this host is to fill with parts; see `maestro.onhost`.

        Those that it was lent and has ``written`` are filled already.

        From then on they are held here: who may ask for them is the manager's business, which
        hears when they are filled.
        """
        try:
            coming = Delivery.from_words(delivery)
        except ProtocolError as error:
            return {"error": to_wire(error)}
        with Arrival(self.holdings, coming) as arrival:
            placed = await off_loop(False, arrival.segments, written or {})
            return {"placed": {} if arrival.enter() is not None else placed}

    async def free(self, version: int, ranks: Sequence[int], settled: bool) -> None:
        """Drop parts, also those that are on their way here."""
        left = self.holdings.take_out(version, ranks, settled)
        try:
            if left:
                await off_loop(False, self.holdings.drop, left, settled)
        except FileNotFoundError:
            if not self._closed:  # else it is cleared away with all else
                raise
