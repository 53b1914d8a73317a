"""Parts on their way from the pool into a store: what the nodes do for an archiver.

Each object of an array in a store has one writer: a node, near the parts that it is made of. What
lies in memory as it is to lie in the store is written from there; else it is brought together
first.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from distributed import Worker

from layouts import Distribution, plan
from layouts.orders import AxisOrder
from maestro.config import get_seconds
from maestro.errors import MaestroError, ProtocolError, StoreError, to_wire
from maestro.locations import is_location
from maestro.spelling import REMEMBERED
from maestro.stores.archive import commit
from maestro.stores.form import Form
from maestro.stores.store import Store, open_store
from maestro.stores.stored import StoredArray, part_of
from maestro.transport import transfer
from maestro.transport.offload import off_loop
from maestro.transport.onhost import is_there, locate, worth_mapping
from maestro.transport.payload import box_bytes

if TYPE_CHECKING:
    from maestro.nodes.node import Node

__all__ = ["Job", "claim", "write"]

#: Objects that a node has in memory at once.
LANES = 2

#: Bytes up to which a thread writes objects one after the other: waking more costs more.
FEW = 4 << 20


@dataclass(frozen=True)
class Job:
    """Objects of one array that one node is to write.

    Attributes
    ----------
    source : Source
        The CDO's version.
    where : Whereabouts
        Where its parts are.
    path : str
        Of the array, in the store.
    form : Form
        How it lies there.
    document : bytes
        Its ``zarr.json``.
    ranks : tuple of int
        The objects.
    last : bool
        Whether these are all, so that the array is complete with them.
    """

    source: transfer.Source
    where: transfer.Whereabouts
    path: str
    form: Form
    document: bytes
    ranks: tuple[int, ...]
    last: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the array that the objects hold."""
        layout = self.form.layout
        elements = sum(math.prod(layout.local_shape(rank)) for rank in self.ranks)
        return elements * self.source.dtype.itemsize

    def to_words(self) -> dict[str, Any]:
        """As a plain message."""
        source, where = self.source, self.where
        return {
            **source.to_words(),
            "nodes": list(where.nodes),
            "instead": dict(where.instead),
            "path": self.path,
            "form": self.form.to_words(),
            "document": self.document,
            "ranks": self.ranks,
            "last": self.last,
        }

    @classmethod
    def from_words(cls, words: Mapping[str, Any]) -> Job:
        """The job of a message.

        Raises
        ------
        ProtocolError
            If it is none.
        """
        try:
            source = transfer.Source.from_words(words)
            where = transfer.Whereabouts(words["nodes"], words["instead"])
            form, ranks = Form.from_words(words["form"]), tuple(words["ranks"])
            return cls(source, where, words["path"], form, words["document"], ranks, words["last"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"job for a store: {error!r}") from None


async def write(
    node: Node,
    worker: Worker,
    store: str,
    archive: str,
    owner: str,
    jobs: Sequence[Mapping[str, Any]],
) -> list[dict[str, str] | None]:
    """Do jobs: for each of them its error, as a plain message, or None."""
    turn = asyncio.Semaphore(LANES)
    writer = _Writer(node, worker, open_store(store), archive, owner, turn)
    tasks = [_Task(Job.from_words(words)) for words in jobs]
    left = await writer.write_what_is_small(tasks)
    await asyncio.gather(*(writer.write(task, rank) for task, rank in left))
    await writer.commit([task for task in tasks if task.job.last and task.error is None])
    return [None if task.error is None else to_wire(task.error) for task in tasks]


@dataclass
class _Task:
    """A job, and what it met."""

    job: Job
    error: MaestroError | None = None

    def place(self, rank: int) -> _Place | None:
        """Where the bytes of an object lie as they are to, if there is such a place."""
        job = self.job
        order = job.form.plain_order(rank)
        lies = None if order is None else _lying(job.source.distribution, job.form.layout, rank)
        if order is None or lies is None or is_location(job.where.nodes[lies[0]]):
            return None
        return _Place(*lies, order, job.where.instead.get(lies[0], lies[0]))


@dataclass(frozen=True)
class _Place:
    """A box of a source rank's part, whose elements are to lie in an order.

    ``held`` is the rank whose part stands in for it.
    """

    giver: int
    box: tuple[tuple[int, int], ...]
    order: AxisOrder
    held: int


@lru_cache(maxsize=REMEMBERED)
def _lying(
    source: Distribution, layout: Distribution, rank: int
) -> tuple[int, tuple[tuple[int, int], ...]] | None:
    """The only source rank that an object is made of, and the box that this has of it."""
    incoming = plan(source, layout).incoming(rank)
    if len(incoming) != 1:
        return None
    giver = int(incoming.sources[0])
    pieces = incoming.pieces(giver)
    if any(p.count != 1 for p in pieces):
        return None
    return giver, tuple(p.source_extent for p in pieces)


@dataclass(frozen=True)
class _Writer:
    """Who writes: what all jobs of one word have in common."""

    node: Node
    worker: Worker
    store: Store
    archive: str
    owner: str
    turn: asyncio.Semaphore

    def array(self, job: Job) -> StoredArray:
        """The array that a job is about."""
        metadata = json.loads(job.document) if job.form.compressors else {}
        return StoredArray(self.store, job.path, metadata, job.form, job.form.dtype)

    async def write_what_is_small(self, tasks: Sequence[_Task]) -> list[tuple[_Task, int]]:
        """Write what is small and lies in this node's memory as it is to; what else there is."""
        holdings = self.node.holdings
        left, small = [], []
        for task in tasks:
            for rank in task.job.ranks:
                place = task.place(rank) if task.job.form.nbytes(rank) <= FEW else None
                key = task.job.source.version, -1 if place is None else place.held
                part = holdings.parts.get(key)
                if place is None or part is None:
                    left.append((task, rank))
                else:
                    small.append((task, rank, place, key, part))

        def write(some: Sequence[Any]) -> None:
            for task, rank, place, key, part in some:
                try:
                    memory = box_bytes(part.array, place.box, place.order)
                    if memory is not None:
                        self.array(task.job).write(rank, memory)
                    if memory is None or holdings.parts.get(key) is not part:
                        left.append((task, rank))  # it may have been something else
                except OSError:  # it has just gone
                    left.append((task, rank))
                except MaestroError as error:
                    task.error = error

        if small:
            with holdings.reading([key for *_, key, _ in small]):
                await self._in_lanes(write, small)
        return left

    async def write(self, task: _Task, rank: int) -> None:
        """Write one object, wherever its bytes are."""
        try:
            async with self.turn:
                if not await self._write_in_place(task, rank):
                    await self._write_brought(task.job, rank)
        except MaestroError as error:
            task.error = error

    async def _write_brought(self, job: Job, rank: int) -> None:
        """Write an object whose bytes are brought together first."""
        array, layout, source = self.array(job), job.form.layout, job.source
        ways = self.node.ways
        try:
            memory = ways.memory.empty(job.form.nbytes(rank))
        except MemoryError as error:
            raise StoreError(
                f"CDO {source.name!r}: no memory to write {array.name} from: {error}"
            ) from None
        part = part_of(layout, rank, source.dtype, memory)
        if part.size * part.itemsize < len(memory):
            await off_loop(False, memory.fill, 0)  # what pads chunks
        await transfer.fetch(ways, source, job.where, layout, {rank: part}, lambda _: None)
        await self._at_desk(array.write, rank, memory)

    async def _write_in_place(self, task: _Task, rank: int) -> bool:
        """Write an object from where it lies in a node's memory, if it lies there as it is to."""
        place, source, where = task.place(rank), task.job.source, task.job.where
        if place is None:
            return False
        ways, node = self.node.ways, where.nodes[place.giver]
        large = worth_mapping(source.distribution, source.dtype.itemsize, [place.giver])
        if not large or not await ways.on_this_host([node]):
            return False
        known = source.version, source.distribution, source.dtype, {place.giver: place.held}
        found = (await locate(ways, node, *known, get_seconds("transfer.silence"))).get(place.giver)
        memory = None if found is None else box_bytes(found.array, place.box, place.order)
        if found is None or memory is None:
            return False
        await self._at_desk(self.array(task.job).write, rank, memory)
        return is_there(ways.mappings, found)  # else it may have been something else

    async def commit(self, tasks: Sequence[_Task]) -> None:
        """Make arrays that are complete part of the archive."""

        def commit_all(some: Sequence[_Task]) -> None:
            for task in some:
                try:
                    commit(self.store, self.archive, task.job.path, task.job.document)
                except MaestroError as error:
                    task.error = error

        await self._in_lanes(commit_all, tasks)

    async def _in_lanes(self, work: Callable[[Sequence[Any]], None], items: Sequence[Any]) -> None:
        """Have threads go through what is small, as many as the store is worth."""
        lanes = [items[lane :: self.store.at_once] for lane in range(self.store.at_once)]
        await asyncio.gather(*(self._at_desk(work, lane) for lane in lanes if lane))

    async def _at_desk(self, work: Callable[..., None], *args: Any) -> None:
        """Write, if it is still this writer's turn."""
        desk = _desks(self.worker).setdefault(self.store.url, _Desk(self.owner))
        if desk.owner != self.owner:
            raise StoreError(f"store {self.store.url}: another archiver has taken it over")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        desk.busy.add(done)
        try:
            await off_loop(False, work, *args)
        finally:
            desk.busy.discard(done)
            done.set_result(None)


@dataclass
class _Desk:
    """Who writes to a store through this node, and what is being written."""

    owner: str
    busy: set[asyncio.Future[None]] = field(default_factory=set)


def _desks(worker: Worker) -> dict[str, _Desk]:
    found: dict[str, _Desk] = worker.extensions.setdefault("maestro-stores", {})
    return found


async def claim(store: str, owner: str, dask_worker: Worker) -> None:
    """Let nobody else write to a store through this node: also not who is dead by now.

    What an archiver that was killed had under way goes on in the nodes, until it is told so here.
    """
    desk = _desks(dask_worker).setdefault(store, _Desk(owner))
    desk.owner = owner
    if desk.busy:
        await asyncio.wait(set(desk.busy))
