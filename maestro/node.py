"""A pool node: holds parts in a Dask worker and gives pieces of them away.

The plugin carries no state, so that it may be set up again and again; the node itself lives as an
extension of its worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Status, Worker
from distributed.comm.core import Comm
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.system import MEMORY_LIMIT
from numpy.typing import NDArray

from layouts import Distribution
from layouts.tiled import AnyArray
from maestro.bringing import Delivery, Taking
from maestro.buffers import Buffers, keep_freed_memory
from maestro.config import get_bytes, get_number
from maestro.ends import Missing
from maestro.errors import ProtocolError, to_wire
from maestro.payload import as_part, element
from maestro.pulling import Giving, Request

__all__ = ["Node", "NodePlugin"]


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
    """The parts that one worker holds, and the calls by which apps bring and fetch them.

    Attributes
    ----------
    limit : int
        Bytes of parts that it may hold.
    parts : dict
        What it holds, by version and rank.
    buffers : Buffers
        The array bytes it has under way, in all streams.
    """

    def __init__(self, worker: Worker) -> None:
        self.limit = int(
            (worker.memory_manager.memory_limit or MEMORY_LIMIT) * get_number("node.memory")
        )
        self.parts: dict[tuple[int, int], Part] = {}
        self.buffers = Buffers(get_bytes("transfer.in-flight"))
        keep_freed_memory()
        self._arriving: dict[tuple[int, int], Taking] = {}
        worker.handlers.update(
            maestro_hello=self.hello,
            maestro_free=self.free,
            maestro_give=self.give,
            maestro_take=self.take,
        )

    def hello(self) -> dict[str, int]:
        """Say that this node is ready, and how many bytes it may hold."""
        return {"limit": self.limit}

    def allocate(self, nbytes: int) -> NDArray[np.uint8]:
        """Memory for one part, of any content; goes back when nobody refers to it any more."""
        return np.empty(nbytes, np.uint8)

    async def give(self, comm: Comm, request: dict[str, Any]) -> Any:
        """Stream to an app what it wants of the parts; see `maestro.pulling`."""
        try:
            wanted = Request.from_words(request)
        except ProtocolError as error:
            await comm.write({"error": to_wire(error)})
            await comm.close()
        else:
            await Giving(comm, wanted, self.parts, self.buffers).serve()
        return Status.dont_reply

    async def take(self, comm: Comm, delivery: dict[str, Any]) -> Any:
        """Store the parts that an app streams; see `maestro.bringing`."""
        try:
            coming = Delivery.from_words(delivery)
        except ProtocolError as error:
            await comm.write({"error": to_wire(error)})
            await comm.close()
            return Status.dont_reply
        keys = [(coming.version, rank) for rank in coming.ranks]

        def store(memory: dict[int, NDArray[np.uint8]]) -> None:
            for key in keys:  # what was freed meanwhile, or is being brought again, is not stored
                if self._arriving.get(key) is not stream:
                    raise Missing(key[1])
            for key in keys:
                self.parts[key] = _part(coming, key[1], memory[key[1]])

        stream = Taking(comm, coming, self.buffers, self.allocate, store)
        self._arriving.update(dict.fromkeys(keys, stream))
        try:
            await stream.serve()
        finally:
            for key in keys:
                if self._arriving.get(key) is stream:
                    del self._arriving[key]
        return Status.dont_reply

    def free(self, version: int, ranks: Sequence[int]) -> None:
        """Drop parts, also those that are on their way here."""
        for rank in ranks:
            self.parts.pop((version, rank), None)
            self._arriving.pop((version, rank), None)


def _part(delivery: Delivery, rank: int, memory: NDArray[np.uint8]) -> Part:
    layout = delivery.distribution
    array = as_part(memory, layout.local_shape(rank), element(delivery.itemsize), layout.order)
    return Part(layout, memory, array)
