"""Parts that live in a store rather than with a node: the store is the way from app to app.

Whoever offers writes each of its parts as an array of its own, so that nobody waits for anybody,
however the CDO is cut; whoever demands reads there. When the CDO leaves the pool, they are deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
from distributed import Client

from layouts import Distribution, Tiled, convert
from layouts.orders import in_order
from layouts.tiled import AnyArray
from maestro.apps.offering import Offering
from maestro.locations import Location
from maestro.spelling import dtype_to_wire
from maestro.stores.form import choose
from maestro.stores.naming import node_name, to_json
from maestro.stores.store import Store, open_store
from maestro.stores.stored import META, StoredArray
from maestro.transport import transfer
from maestro.transport.offload import off_loop
from maestro.transport.payload import as_bytes
from maestro.transport.ways import Ways

__all__ = ["Lodged", "lodge"]


@dataclass(frozen=True)
class Lodged(Offering):
    """Parts that go to a store."""

    store: str = ""
    path: str = ""

    @classmethod
    def of(cls, name: str, offering: Offering, store: str) -> Lodged:
        """What is offered, to go to a store."""
        path = f"{node_name(name)}.{uuid4().hex}"
        url = open_store(store).url
        return cls(offering.distribution, offering.dtype, offering.parts, {}, url, path)

    @property
    def near(self) -> dict[int, str]:
        """Where each part is going to live."""
        return {
            rank: str(Location(self.store, f"{self.path}/{rank}", whole=True))
            for rank in self.parts
        }

    @property
    def quick(self) -> bool:
        """Writing takes its time."""
        return False

    async def bring(
        self, client: Client, ways: Ways, source: transfer.Source, places: Mapping[int, str]
    ) -> None:
        """Write the parts."""
        if not places:
            return

        def write() -> None:
            store = open_store(self.store)
            store.make()
            for rank in places:
                path = f"{self.path}/{rank}"
                lodge(store, path, self.parts[rank], source.distribution, source.name)

        await off_loop(False, write)


def lodge(store: Store, path: str, part: AnyArray, layout: Distribution, name: str) -> None:
    """Write a part as an array of its own. Blocks."""
    order = layout.order.inner if isinstance(layout.order, Tiled) else layout.order
    whole = Distribution(part.shape, order=order)
    most = max(1, part.size * part.itemsize)
    form = choose(whole, part.dtype, most, most)
    metadata = form.metadata({"maestro": {"dtype": dtype_to_wire(part.dtype, name)}})
    array = StoredArray(store, path, metadata, form, form.dtype)
    if not isinstance(part, np.ndarray) or not in_order(part, order):
        part = convert(part, order=order)
    memory: Any = as_bytes(part, order)
    array.write(0, memory)
    store.create(f"{path}/{META}", to_json(metadata))
