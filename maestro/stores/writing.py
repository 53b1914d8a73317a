"""Parts on their way from the pool into a store: what the workers do for an archiver.

Each object of an array in a store has one writer: a task on a worker, near the parts that it is
made of. It brings these together in memory, as they are to lie in the store, and writes them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed import Worker

from layouts import plan
from maestro.config import get_seconds
from maestro.errors import MaestroError, StoreError, to_wire
from maestro.locations import is_location
from maestro.stores.archive import commit
from maestro.stores.form import Form
from maestro.stores.store import open_store
from maestro.stores.stored import StoredArray, part_of
from maestro.transport import transfer
from maestro.transport.offload import off_loop
from maestro.transport.onhost import is_there, locate, worth_mapping
from maestro.transport.payload import box_bytes
from maestro.transport.tasks import on_worker
from maestro.transport.ways import Ways

__all__ = ["Job", "claim", "written"]

#: Objects that a worker has in memory at once.
LANES = 2


@dataclass(frozen=True)
class Job:
    """Objects of one array that one worker is to write.

    Attributes
    ----------
    source : Source
        The CDO's version.
    where : Whereabouts
        Where its parts are.
    store, archive, owner : str
        URL of the store, which archive it is, and who writes there.
    path : str
        Of the array.
    form : Form
        How it lies there.
    metadata : dict
        Its ``zarr.json``.
    ranks : tuple of int
        The objects.
    last : bool
        Whether these are all, so that the array is complete with them.
    """

    source: transfer.Source
    where: transfer.Whereabouts
    store: str
    archive: str
    owner: str
    path: str
    form: Form
    metadata: dict[str, Any]
    ranks: tuple[int, ...]
    last: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the array that the objects hold."""
        layout = self.form.layout
        elements = sum(math.prod(layout.local_shape(rank)) for rank in self.ranks)
        return elements * self.source.dtype.itemsize


@dataclass
class _Desk:
    """Who writes to a store through this worker, and what is being written."""

    owner: str
    busy: set[asyncio.Future[None]] = field(default_factory=set)


def written(jobs: Sequence[Job]) -> list[dict[str, str] | None]:
    """Do jobs, in a task: for each of them its error, as a plain message, or None."""
    found: list[dict[str, str] | None] = on_worker(_write_all, jobs)
    return found


async def _write_all(worker: Worker, jobs: Sequence[Job]) -> list[dict[str, str] | None]:
    ways, turn = worker.extensions["maestro"].ways, asyncio.Semaphore(LANES)
    stores = {url: open_store(url) for url in {job.store for job in jobs}}

    async def one(job: Job) -> dict[str, str] | None:
        store = stores[job.store]
        array = StoredArray(store, job.path, job.metadata, job.form, job.form.dtype)
        try:
            for rank in job.ranks:
                await _write(worker, ways, turn, job, array, rank)
            if job.last:
                await _at_desk(worker, job, commit, store, job.archive, job.path, job.metadata)
        except MaestroError as error:
            return to_wire(error)
        return None

    return list(await asyncio.gather(*map(one, jobs)))


async def _write(
    worker: Worker, ways: Ways, turn: asyncio.Semaphore, job: Job, array: StoredArray, rank: int
) -> None:
    async with turn:
        if await _write_in_place(worker, ways, job, array, rank):
            return
        layout, source = job.form.layout, job.source
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
        await _at_desk(worker, job, array.write, rank, memory)


async def _write_in_place(
    worker: Worker, ways: Ways, job: Job, array: StoredArray, rank: int
) -> bool:
    """Write an object from where it lies in a node's memory, if it lies there as it is to."""
    order, layout, source = job.form.plain_order(rank), job.form.layout, job.source
    incoming = plan(source.distribution, layout).incoming(rank)
    if order is None or len(incoming) != 1:
        return False
    giver = int(incoming.sources[0])
    node, pieces = job.where.nodes[giver], incoming.pieces(giver)
    if node is None or is_location(node):
        return False
    large = worth_mapping(source.distribution, source.dtype.itemsize, [giver])
    if not large or any(p.count != 1 for p in pieces) or not await ways.on_this_host([node]):
        return False
    held = {giver: job.where.instead.get(giver, giver)}
    known = source.version, source.distribution, source.dtype, held
    found = (await locate(ways, node, *known, get_seconds("transfer.silence"))).get(giver)
    if found is None:
        return False
    memory = box_bytes(found.array, [p.source_extent for p in pieces], order)
    if memory is None:
        return False
    await _at_desk(worker, job, array.write, rank, memory)
    return is_there(ways.mappings, found)  # else it may have been something else


async def _at_desk(worker: Worker, job: Job, work: Any, *args: Any) -> None:
    """Write, if it is still this writer's turn."""
    desk = _desks(worker).setdefault(job.store, _Desk(job.owner))
    if desk.owner != job.owner:
        raise StoreError(f"store {job.store}: another archiver has taken it over")
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    desk.busy.add(done)
    try:
        await off_loop(False, work, *args)
    finally:
        desk.busy.discard(done)
        done.set_result(None)


def _desks(worker: Worker) -> dict[str, _Desk]:
    found: dict[str, _Desk] = worker.extensions.setdefault("maestro-stores", {})
    return found


async def claim(store: str, owner: str, dask_worker: Worker) -> None:
    """Let nobody else write to a store through this worker: also not who is dead by now.

    What an archiver that was killed had under way goes on in the workers, until it is told so here.
    """
    desk = _desks(dask_worker).setdefault(store, _Desk(owner))
    desk.owner = owner
    if desk.busy:
        await asyncio.wait(set(desk.busy))
