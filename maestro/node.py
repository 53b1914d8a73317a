"""A pool node: holds parts in a Dask worker and gives pieces of them away.

The plugin carries no state, so that it may be set up again and again; the node itself lives as an
extension of its worker. Packing runs in threads, off the worker's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from distributed import Worker
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.protocol.serialize import to_serialize
from distributed.system import MEMORY_LIMIT
from numpy.typing import NDArray

import kernels
from layouts import Distribution, plan
from layouts.orders import empty
from layouts.tiled import AnyArray, move
from maestro.config import get_number
from maestro.payload import as_bytes, as_part, element, message_order

__all__ = ["Node", "NodePlugin"]

#: Under this many bytes a copy costs less than handing it to a thread.
SMALL = 1 << 16


class NodePlugin(WorkerPlugin):
    """Makes a Dask worker a pool node; the second time does nothing."""

    name = "maestro"
    idempotent = True

    def setup(self, worker: Worker) -> None:
        if "maestro" not in worker.extensions:
            worker.extensions["maestro"] = Node(worker)


@dataclass
class Part:
    """One rank's bytes of one version."""

    distribution: Distribution
    memory: NDArray[np.uint8]
    array: AnyArray


class Node:
    """The parts that one worker holds, and the calls by which apps bring and fetch them."""

    def __init__(self, worker: Worker) -> None:
        self.limit = int(
            (worker.memory_manager.memory_limit or MEMORY_LIMIT) * get_number("node.memory")
        )
        self.parts: dict[tuple[int, int], Part] = {}
        worker.handlers.update(
            maestro_hello=self.hello,
            maestro_put=self.put,
            maestro_fetch=self.fetch,
            maestro_free=self.free,
        )

    def hello(self) -> dict[str, int]:
        """Say that this node is ready, and how many bytes it may hold."""
        return {"limit": self.limit}

    async def put(
        self,
        version: int,
        rank: int,
        distribution: dict[str, Any],
        itemsize: int,
        offset: int,
        data: NDArray[np.uint8],
    ) -> dict[str, Any]:
        """Take ``data`` as the bytes from ``offset`` on of a rank's part, in the part's order."""
        key = (version, rank)
        if offset == 0:
            layout = Distribution.from_dict(distribution)
            shape = layout.local_shape(rank)
            size = layout.local_size(rank) * itemsize
            # One message with all of it is kept as it came; else it is gathered.
            memory = data if len(data) == size else np.empty(size, np.uint8)
            array = as_part(memory, shape, element(itemsize), layout.order)
            self.parts[key] = Part(layout, memory, array)
        part = self.parts.get(key)
        if part is None:
            return {"missing": True}
        if part.memory is not data:
            await _in_thread(len(data), np.copyto, part.memory[offset : offset + len(data)], data)
        return {}

    async def fetch(
        self,
        version: int,
        rank: int,
        target: dict[str, Any],
        target_rank: int,
        chunk: int,
        slab: int,
    ) -> dict[str, Any]:
        """The ``slab``-th message of what a part has for a target rank, in the target's order."""
        part = self.parts.get((version, rank))
        if part is None:
            return {"missing": True}
        data = await _in_thread(SMALL, _pack, part, rank, target, target_rank, chunk, slab)
        return {"data": to_serialize(data)}

    def free(self, version: int, ranks: Sequence[int]) -> None:
        """Drop parts."""
        for rank in ranks:
            self.parts.pop((version, rank), None)


def _pack(
    part: Part, rank: int, target: dict[str, Any], target_rank: int, chunk: int, slab: int
) -> NDArray[np.uint8]:
    layout = Distribution.from_dict(target)
    pieces = plan(part.distribution, layout).incoming(target_rank).pieces(rank)
    limit = max(1, chunk // max(1, part.array.itemsize))
    chosen = next(islice(kernels.slabs(pieces, limit), slab, None))
    order = message_order(layout.order)
    buffer = empty(kernels.shape(chosen), part.array.dtype, order)
    move(buffer, part.array, [axis.packed() for axis in chosen])
    return as_bytes(buffer, order)


async def _in_thread(size: int, function: Any, *args: Any) -> Any:
    return await asyncio.to_thread(function, *args) if size >= SMALL else function(*args)
