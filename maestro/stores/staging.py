"""What a store holds, on its way into the pool: read by the nodes that are to hold it, or not yet.

A node reads what its parts need, each object once, straight into the memory that its parts lie in.
Or nothing is read: the CDO is offered as lying where it is, and whoever demands it reads there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from distributed import Client

from layouts import Distribution
from maestro.errors import MaestroError, ProtocolError, to_wire
from maestro.locations import Location
from maestro.spelling import layout_from_wire, layout_to_wire
from maestro.transport import transfer
from maestro.transport.bringing import Delivery
from maestro.transport.lanes import so_many
from maestro.transport.network import terms
from maestro.transport.ways import Ways

if TYPE_CHECKING:
    from maestro.nodes.node import Node
    from maestro.stores.lanes import Lanes

__all__ = ["Reading", "Stored", "read"]

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
    lanes : Lanes or None
        By which the nodes are told to read it; None where it stays where it is.
    """

    location: Location
    layout: Distribution
    distribution: Distribution
    dtype: np.dtype[Any]
    lanes: Lanes | None = None
    near: Mapping[int, str] = field(default_factory=dict)
    quick: bool = False

    @classmethod
    def lying(cls, location: Location, layout: Distribution, dtype: np.dtype[Any]) -> Stored:
        """One that stays where it is."""
        near = dict.fromkeys(range(layout.size), str(location))
        return cls(location, layout, layout, dtype, None, near)

    async def bring(
        self, client: Client, ways: Ways, source: transfer.Source, places: Mapping[int, str]
    ) -> None:
        """Have each node read its parts."""
        ranks: defaultdict[str, list[int]] = defaultdict(list)
        for rank, node in places.items():
            ranks[node].append(rank)
        if self.lanes is not None:
            await self.lanes.do((n, Reading(source, self, tuple(r))) for n, r in ranks.items())


@dataclass(frozen=True)
class Reading:
    """Parts that a node is to read.

    Attributes
    ----------
    source : Source
        What they are going to be.
    stored : Stored
        Where they are.
    ranks : tuple of int
        Which of the source's.
    """

    source: transfer.Source
    stored: Stored
    ranks: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the parts."""
        source = self.source
        return sum(map(source.distribution.local_size, self.ranks)) * source.dtype.itemsize

    def to_words(self) -> dict[str, Any]:
        """As a plain message."""
        source, stored = self.source, self.stored
        return {
            **source.to_words(),
            "location": str(stored.location),
            "layout": layout_to_wire(stored.layout),
            "ranks": self.ranks,
        }

    @classmethod
    def from_words(cls, words: Mapping[str, Any]) -> Reading:
        """The job of a message.

        Raises
        ------
        ProtocolError
            If it is none.
        """
        try:
            source = transfer.Source.from_words(words)
            location, layout = Location.of(words["location"]), layout_from_wire(words["layout"])
            stored = Stored(location, layout, source.distribution, source.dtype)
            return cls(source, stored, tuple(words["ranks"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"job for a librarian: {error!r}") from None


async def read(node: Node, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, str] | None]:
    """Do jobs: for each of them its error, as a plain message, or None."""
    errors: list[dict[str, str] | None] = [None] * len(jobs)

    async def one(number: int) -> None:
        try:
            await _read_parts(node, Reading.from_words(jobs[number]))
        except MaestroError as error:
            errors[number] = to_wire(error)

    await so_many(LANES, (partial(one, number) for number in range(len(jobs))))
    return errors


async def _read_parts(node: Node, job: Reading) -> None:
    source, stored, agreed = job.source, job.stored, terms(1)
    limits = agreed.chunk, agreed.credit, agreed.silence
    layout, itemsize = source.distribution, source.dtype.itemsize
    delivery = Delivery(source.version, layout, itemsize, job.ranks, *limits)
    lying = transfer.Source(source.name, source.version, stored.layout, source.dtype)
    where = transfer.Whereabouts([str(stored.location)] * stored.layout.size)

    async def fill(rank: int, part: Any) -> None:
        await transfer.fetch(node.ways, lying, where, layout, {rank: part}, lambda _: None)

    async with node.filling(delivery, source.dtype) as parts:
        await so_many(LANES, (partial(fill, *each) for each in parts.items()))
