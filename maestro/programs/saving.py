"""How an archiver saves one CDO: where in the store, in which form, and by which workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from layouts import Distribution
from maestro.apps.cdo import Cdo
from maestro.apps.link import Link
from maestro.apps.subscription import Subscription
from maestro.attributes import plain
from maestro.config import get_bytes
from maestro.locations import is_location
from maestro.spelling import dtype_from_wire
from maestro.stores.archive import Archive, commit
from maestro.stores.form import Form, choose
from maestro.stores.lanes import Lanes
from maestro.stores.naming import Origin, dimensions, to_attributes, to_json
from maestro.stores.writing import Job
from maestro.transport import transfer
from maestro.transport.offload import off_loop
from maestro.transport.tasks import places

__all__ = ["Held", "Saver"]


@dataclass(eq=False)
class Held:
    """A CDO that stays in the pool until it is saved.

    Attributes
    ----------
    cdo : Cdo
        The handle whose requirement holds it.
    found : dict or None
        What the pool says of it, once it is complete.
    path : str
        Where in the store it is going to be.
    document : dict
        The array's metadata.
    told : list
        What is to be acknowledged once it is saved: subscriptions, and serials of events.
    """

    cdo: Cdo
    found: dict[str, Any] | None = None
    path: str = ""
    document: dict[str, Any] = field(default_factory=dict)
    told: list[tuple[Subscription, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The CDO's."""
        return self.cdo.name

    @property
    def handle(self) -> str:
        """The handle's, as the manager knows it."""
        return self.cdo._handle

    @property
    def layout(self) -> Distribution | None:
        """How it was offered; None for a CDO without data."""
        words = (self.found or {}).get("distribution")
        return None if words is None else Distribution.from_dict(words)

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Type of its elements."""
        words = (self.found or {}).get("dtype")
        return None if words is None else dtype_from_wire(words)

    @property
    def nbytes(self) -> int:
        """Bytes of the array, copies not counted."""
        layout, dtype = self.layout, self.dtype
        return 0 if layout is None or dtype is None else math.prod(layout.shape) * dtype.itemsize


class Saver:
    """Writes CDOs to an archive, by the workers that hold them.

    Parameters
    ----------
    link : Link
        To the pool.
    archive : Archive
        Where to.
    pool, owner : str
        Which pool it is, and who writes: see `maestro.stores.writing.claim`.
    compressors : sequence of dict
        Codecs after the bytes.
    news : callable
        Called with the bytes that have been written, as they are.
    """

    def __init__(
        self,
        link: Link,
        archive: Archive,
        pool: str,
        owner: str,
        compressors: Sequence[Any],
        news: Callable[[int], None],
    ) -> None:
        self._link, self._archive = link, archive
        self._pool, self._compressors = pool, compressors
        common = {"store": archive.store.url, "archive": archive.identity, "owner": owner}
        self._lanes = Lanes(link, "save", news, **common)

    async def save(self, held: Held) -> None:
        """Write what is held, all of it, and make it part of the archive.

        Raises
        ------
        MaestroError
            If it cannot be read or written; it is not part of the archive then.
        """
        found: Mapping[str, Any] = held.found or {}
        layout, dtype, archive = held.layout, held.dtype, self._archive
        attributes = plain(found["attributes"])
        origin = Origin.of(held.name, layout, dtype, self._pool, found["version"])
        if not held.path:
            held.path = await off_loop(not archive.leftovers, archive.reserve, held.name)
        words = to_attributes(attributes, origin)
        if layout is None or dtype is None:
            held.document = {"zarr_format": 3, "node_type": "group", "attributes": words}
            await self._commit(held)
            return
        sizes = get_bytes("stores.shard"), get_bytes("stores.chunk")
        form = choose(layout, dtype, *sizes, self._compressors)
        held.document = form.metadata(words, dimensions(layout.shape, attributes))
        source = transfer.Source(held.name, found["version"], layout, dtype)
        where = transfer.Whereabouts(found["nodes"], found["instead"])
        jobs = await self._jobs(source, where, form, held)
        await self._lanes.do(jobs)
        if not any(job.last for _, job in jobs):
            await self._commit(held)

    async def close(self) -> None:
        """Let go of what is not written."""
        await self._lanes.close()

    async def _commit(self, held: Held) -> None:
        archive = self._archive
        content = to_json(held.document)
        await off_loop(False, commit, archive.store, archive.identity, held.path, content)

    async def _jobs(
        self, source: transfer.Source, where: transfer.Whereabouts, form: Form, held: Held
    ) -> list[tuple[str, Job]]:
        """The objects of an array, each with the node that is to write it."""
        having = {node for node in where.nodes if node is not None and not is_location(node)}
        workers = sorted(having or await self._link.call("nodes"))
        layout = form.layout
        if layout.size == 1:
            writers = workers[:1]
        else:
            chosen = await off_loop(False, places, source, where.nodes, layout, workers)
            writers = chosen.workers
        alone, about = layout.size == 1, (held.path, form, to_json(held.document))
        return [
            (node, Job(source, where, *about, (rank,), alone)) for rank, node in enumerate(writers)
        ]
