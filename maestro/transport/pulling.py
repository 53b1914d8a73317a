"""A stream of array bytes from a node to an app, over one Dask comm.

::

    app                                     node
     |  request: pairs of ranks, credit      |
     |-------------------------------------->|  plans, packs
     |              message: slabs, bytes    |
     |<--------------------------------------|  packs the next one meanwhile
     |              message                  |
     |<--------------------------------------|
     |  taken                                |
     |-------------------------------------->|  the first message's buffer is free again
     |              ...                      |

Both work out the same sequence of messages (`maestro.transport.packing`), so a message says nothing
but how large messages are and whether it is the last. The node has as many messages under way as it
was given credit for, and takes memory for them from its `Buffers`, which all its readers share: a
buffer counts until the app says that it has taken the bytes out. While it waits for memory, the
node says so from time to time; so silence means that something is wrong, on either side.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from distributed.comm.core import Comm
from numpy.typing import NDArray

from layouts import Distribution, Plan, plan
from layouts.orders import AxisOrder, Tiled, from_plain, normalize, to_plain
from layouts.tiled import AnyArray
from maestro.errors import ProtocolError
from maestro.spelling import layout_from_wire, layout_to_wire
from maestro.transport.buffers import Buffers
from maestro.transport.ends import AT_ONCE, Missing, NodeEnd, listen
from maestro.transport.frames import received, to_send
from maestro.transport.offload import SMALL, compiled, off_loop
from maestro.transport.packing import Slab, as_it_lies, messages, nbytes, pack, unpack

__all__ = ["Giving", "Request", "pull"]

#: With so few pairs, planning is quicker than waking a thread for it.
FEW = 4


class Held(Protocol):
    """One rank's part, as a node holds it."""

    distribution: Distribution

    @property
    def array(self) -> AnyArray:
        """The part; its elements are of the right size, whatever their type."""


@dataclass(frozen=True)
class Request:
    """What an app wants of one node.

    Attributes
    ----------
    version : int
        The offering.
    target : Distribution
        How the app holds it.
    pairs : int64 array, shape (n, 2)
        Target and source rank of each pair, in the order wanted.
    itemsize : int
        Bytes per element.
    order : "C", "F" or tuple of int
        How elements lie in a message: as they do in the source's parts.
    size : int
        Bytes of all pairs.
    region : tuple of pairs of int, optional
        Low and high end along each axis, where the target is of a region of the array.
    skip : int
        Slabs of the first pair that are there already.
    instead : mapping of int to int
        Source ranks whose own parts are gone, and others whose parts are the same.
    straight : bool
        Whether the bytes come over the socket itself: see `maestro.transport.straight`.
    chunk : int
        Bytes of a message at most.
    credit : int
        Messages under way at most.
    silence : float
        Seconds without a word after which either side gives the other up.
    """

    version: int
    target: Distribution
    pairs: NDArray[np.int64]
    itemsize: int
    order: AxisOrder
    size: int
    chunk: int
    credit: int
    silence: float
    region: tuple[tuple[int, int], ...] | None = None
    skip: int = 0
    instead: Mapping[int, int] = field(default_factory=dict)
    straight: bool = False

    @property
    def held(self) -> dict[int, int]:
        """The source ranks, and whose parts are read for them."""
        sources = np.unique(self.pairs[:, 1]).tolist()
        return {rank: self.instead.get(rank, rank) for rank in sources}

    def plan(self, source: Distribution) -> Plan:
        """The way from a source to what is wanted."""
        region = None if self.region is None else [slice(*ends) for ends in self.region]
        return plan(source, self.target, region=region)

    @property
    def at_once(self) -> bool:
        """Whether it is so little that one word brings it."""
        return self.size <= min(AT_ONCE, self.chunk)

    def sequence(
        self, parts: Mapping[tuple[int, int], Held], chunk: int
    ) -> tuple[dict[int, AnyArray], Iterator[list[Slab]]]:
        """The source ranks' parts, of those a node holds, and the messages to be made of them.

        Raises
        ------
        Missing
            If it does not hold one.
        ProtocolError
            If these are not the parts that the request is about.
        """
        chosen = {}
        for rank, holder in self.held.items():
            part = parts.get((self.version, holder))
            if part is None:
                raise Missing(rank)
            chosen[rank] = part
        arrays = {rank: part.array for rank, part in chosen.items()}
        itemsize = next(iter(arrays.values())).itemsize
        if itemsize != self.itemsize:
            raise ProtocolError(
                f"request for array bytes: got items of {self.itemsize} bytes, expected {itemsize}"
            )
        try:
            way = self.plan(next(iter(chosen.values())).distribution)
        except (ValueError, TypeError) as error:
            raise ProtocolError(f"request for array bytes: {error}") from None
        return arrays, messages(way, self.pairs, itemsize, self.order, chunk, self.skip)

    def to_words(self) -> dict[str, Any]:
        """As a plain message; the pairs as bytes, for there can be millions of them."""
        words = {**vars(self), "target": layout_to_wire(self.target)}
        words["order"] = to_plain(self.order)
        words["pairs"] = self.pairs.astype("<i8").tobytes()
        return words

    @classmethod
    def from_words(cls, words: Mapping[str, Any]) -> Request:
        """The request of a message.

        Raises
        ------
        ProtocolError
            If it is none.
        """
        try:
            numbers = {
                k: words[k] for k in ("version", "itemsize", "size", "skip", "chunk", "credit")
            }
            if not all(type(number) is int and number >= 0 for number in numbers.values()):
                raise ValueError(f"got {numbers}, expected integers of 0 or more")
            pairs = np.frombuffer(words["pairs"], "<i8").astype(np.int64).reshape(-1, 2)
            target = layout_from_wire(words["target"])
            if not len(pairs) or pairs.min() < 0 or pairs[:, 0].max() >= target.size:
                raise ValueError(f"got pairs {pairs.tolist()[:3]} ..., expected ranks of {target}")
            order = normalize(from_plain(words["order"]), target.ndim)
            if isinstance(order, Tiled):
                raise ValueError(f"got order {order}, expected one without tiles")
            silence = float(words["silence"])
            if not 0 < silence < math.inf:
                raise ValueError(f"got silence {silence}, expected seconds")
            region = words["region"]
            if region is not None:
                region = tuple((int(low), int(high)) for low, high in region)
            instead = {int(rank): int(other) for rank, other in words["instead"].items()}
            return cls(
                target=target,
                pairs=pairs,
                order=order,
                silence=silence,
                region=region,
                instead=instead,
                straight=bool(words["straight"]),
                **numbers,
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ProtocolError(f"request for array bytes: {error!r}") from None


class Giving(NodeEnd):
    """The node's end of a stream to an app.

    Parameters
    ----------
    comm : Comm
        The line to the app.
    request : Request
        What it wants.
    parts : mapping
        The node's parts, by version and rank; those that go meanwhile are missing.
    buffers : Buffers
        What all the node's streams share.
    """

    def __init__(
        self,
        comm: Comm,
        request: Request,
        parts: Mapping[tuple[int, int], Held],
        buffers: Buffers,
    ) -> None:
        super().__init__(comm, buffers, request.credit, request.silence)
        self._request, self._parts = request, parts

    async def talk(self) -> None:
        """Send one message after the other; each is worked out while the one before is sent."""
        request, order = self._request, self._request.order
        chunk = max(1, min(request.chunk, self._buffers.limit))
        arrays, sequence = request.sequence(self._parts, chunk)
        held = request.held
        small = compiled(request.itemsize) and request.size <= SMALL and len(request.pairs) <= FEW

        def following() -> tuple[list[Slab], NDArray[np.uint8] | None] | None:
            slabs = next(sequence, None)
            if slabs is None:
                return None
            return slabs, as_it_lies(slabs, arrays[slabs[0].source], order)

        def fill(slabs: list[Slab], memory: NDArray[np.uint8]) -> Any:
            pack(slabs, arrays, order, memory)
            return following()

        ahead = await off_loop(small, following)
        if ahead is None:
            raise ProtocolError("request for array bytes: nothing is left to be given")
        while ahead is not None:
            slabs, data = ahead
            for slab in slabs:
                if (request.version, held[slab.source]) not in self._parts:
                    raise Missing(slab.source)
            size = nbytes(slabs)
            await self.turn()
            if data is not None:
                await self.reserve(size)
                ahead = await off_loop(small, following)
            else:
                data = (await self.take(size))[:size]
                ahead = await off_loop(small, fill, slabs, data)
            last = ahead is None
            await self.say({"chunk": chunk, "last": last, "data": to_send([data])}, last)

    async def heard(self, word: dict[str, Any], _: Any) -> None:
        """The app has taken the oldest message; there is nothing to do about it."""


async def pull(
    comm: Comm,
    way: Plan,
    request: Request,
    parts: Mapping[int, AnyArray],
    taken: Callable[[list[Slab]], None],
) -> None:
    """The app's end: fill the parts of target ranks, each message while the next one comes.

    Parameters
    ----------
    comm : Comm
        A line to the node, which serves other calls before and after.
    way : Plan
        From the source's distribution to the target's.
    request : Request
        What is wanted.
    parts : mapping
        The arrays to fill, by target rank.
    taken : callable
        Called with the slabs of each message once they are in their places.

    Raises
    ------
    Missing
        If the node does not hold a source rank any more.
    OSError
        If the connection breaks, or the node is silent for too long.
    """
    itemsize = request.itemsize
    small = compiled(itemsize) and request.size <= SMALL and len(request.pairs) <= FEW
    order = request.order
    sequence: Iterator[list[Slab]] | None = None

    def place(data: NDArray[np.uint8], chunk: int) -> list[Slab]:
        nonlocal sequence
        if sequence is None:
            sequence = messages(way, request.pairs, itemsize, order, chunk, request.skip)
        slabs = next(sequence, [])
        if nbytes(slabs) != len(data):
            raise ProtocolError(
                f"message of array bytes: got {len(data)} bytes, expected {nbytes(slabs)}"
            )
        unpack(slabs, parts, order, data)
        return slabs

    await comm.write({"op": "maestro_give", "reply": False, "request": request.to_words()})
    listening = asyncio.ensure_future(listen(comm, request.silence))
    try:
        last = False
        while not last:
            message = await listening
            last = message["last"]
            if not last:
                listening = asyncio.ensure_future(listen(comm, request.silence))
            (data,) = received(message["data"])
            taken(await off_loop(small, place, data, message["chunk"]))
            await comm.write({"taken": True})
            del message, data  # its memory serves for the message after the next
    finally:
        listening.cancel()
        await asyncio.wait({listening})
