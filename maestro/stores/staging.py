"""What a store holds, on its way into the pool: read by the nodes that are to hold it, or not yet.

A node reads what its parts need, each object once, straight into the memory that its parts lie in.
Or nothing is read: the CDO is offered as lying where it is, and whoever demands it reads there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
from distributed import Client, Worker

from layouts import Distribution
from maestro.locations import Location
from maestro.transport import transfer
from maestro.transport.bringing import Delivery
from maestro.transport.lanes import so_many
from maestro.transport.network import terms
from maestro.transport.tasks import all_done, on_worker
from maestro.transport.ways import Ways

__all__ = ["Stored"]

#: Parts that a node fills at once.
LANES = 2


@dataclass(frozen=True)
class Stored:
    """An array in a store, to be offered.

    Attributes
    ----------
    location : Location
        Where it is.
    layout : Distribution
        One rank for each of its objects.
    distribution : Distribution
        How it is to be offered; the layout, where it is not read.
    dtype : numpy.dtype
        Type of the elements.
    reads : bool
        Whether it is read into the nodes, or stays where it is.
    """

    location: Location
    layout: Distribution
    distribution: Distribution
    dtype: np.dtype[Any]
    reads: bool = True
    near: Mapping[int, str] = field(default_factory=dict)
    quick: bool = False

    @classmethod
    def lying(cls, location: Location, layout: Distribution, dtype: np.dtype[Any]) -> Stored:
        """One that stays where it is."""
        near = dict.fromkeys(range(layout.size), str(location))
        return cls(location, layout, layout, dtype, False, near)

    async def bring(
        self, client: Client, ways: Ways, source: transfer.Source, places: Mapping[int, str]
    ) -> None:
        """Have each node read its parts."""
        if not self.reads:
            return
        ranks: defaultdict[str, list[int]] = defaultdict(list)
        for rank, node in places.items():
            ranks[node].append(rank)
        tasks = [
            client.submit(
                _read,
                source,
                self.location,
                self.layout,
                tuple(chosen),
                key=f"maestro-stage-{source.version}-{uuid4().hex}",
                workers=[node],
                allow_other_workers=False,
                pure=False,
            )
            for node, chosen in ranks.items()
        ]
        await all_done(client, source.name, tasks, ways, places)


def _read(*what: Any) -> None:
    on_worker(_read_parts, *what)


async def _read_parts(
    worker: Worker,
    source: transfer.Source,
    location: Location,
    layout: Distribution,
    ranks: tuple[int, ...],
) -> None:
    node, agreed = worker.extensions["maestro"], terms(1)
    limits = agreed.chunk, agreed.credit, agreed.silence
    delivery = Delivery(source.version, source.distribution, source.dtype.itemsize, ranks, *limits)
    stored = transfer.Source(source.name, source.version, layout, source.dtype)
    where = transfer.Whereabouts([str(location)] * layout.size)

    async def fill(rank: int, part: Any) -> None:
        target = source.distribution
        await transfer.fetch(node.ways, stored, where, target, {rank: part}, lambda _: None)

    async with node.filling(delivery, source.dtype) as parts:
        await so_many(LANES, (partial(fill, *each) for each in parts.items()))
