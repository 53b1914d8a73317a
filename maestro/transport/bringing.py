"""A stream of array bytes from an app to a node, over one Dask comm: an offer's parts.

::

    app                                     node
     |  delivery: ranks, credit              |
     |-------------------------------------->|  allocates
     |                                grant  |  bytes for a message are counted in
     |<--------------------------------------|
     |  message                              |
     |-------------------------------------->|  copies it into the part: its bytes are free
     |              ...                      |
     |                               stored  |
     |<--------------------------------------|

Both work out the same sequence of messages, as large as the node says, so the node knows before
each grant how many bytes will come. What is not complete belongs to the stream and goes with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from distributed.comm.core import Comm
from numpy.typing import NDArray

import kernels
from layouts import Distribution
from layouts.orders import AxisOrder, Order, Tiled, empty, in_order, slowest_first
from layouts.tiled import AnyArray, move
from maestro.errors import ProtocolError
from maestro.spelling import layout_from_wire, layout_to_wire
from maestro.transport.buffers import Buffers
from maestro.transport.ends import AT_ONCE, Missing, NodeEnd, listen
from maestro.transport.frames import received, to_send
from maestro.transport.offload import SMALL, off_loop
from maestro.transport.payload import as_bytes

__all__ = [
    "Delivery",
    "Places",
    "Run",
    "Taking",
    "bring",
    "bytes_of",
    "copied",
    "flat",
    "runs",
]

#: Low and high end along each axis.
Box: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Run:
    """Bytes that lie side by side in a part: those from ``offset`` on.

    ``box`` says which indices they are, from low to high along each axis, and ``order`` how these
    lie. Indices beyond the part's shape are those that pad its tiles.
    """

    rank: int
    offset: int
    nbytes: int
    box: Box
    order: Order


@dataclass(frozen=True)
class Delivery:
    """What an app is about to bring to one node.

    Attributes
    ----------
    version : int
        The offering.
    distribution : Distribution
        How it is offered.
    itemsize : int
        Bytes per element.
    ranks : tuple of int
        Whose parts, in this order.
    chunk, credit, silence, straight
        As in `maestro.transport.pulling.Request`.
    """

    version: int
    distribution: Distribution
    itemsize: int
    ranks: tuple[int, ...]
    chunk: int
    credit: int
    silence: float
    straight: bool = False

    @property
    def at_once(self) -> bool:
        """Whether it is so little that one word brings it: see `maestro.transport.small`."""
        return self.nbytes <= min(AT_ONCE, self.chunk)

    @property
    def small(self) -> bool:
        """Whether it is quicker done than a thread is woken."""
        return len(self.ranks) == 1 and self.size(self.ranks[0]) <= SMALL

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(map(self.size, self.ranks))

    def size(self, rank: int) -> int:
        """Bytes of a part, what pads its tiles included."""
        return self.distribution.local_size(rank) * self.itemsize

    def to_words(self) -> dict[str, Any]:
        """As a plain message."""
        return {**vars(self), "distribution": layout_to_wire(self.distribution)}

    @classmethod
    def from_words(cls, words: Mapping[str, Any]) -> Delivery:
        """The delivery of a message.

        Raises
        ------
        ProtocolError
            If it is none.
        """
        try:
            numbers = {k: words[k] for k in ("version", "itemsize", "chunk", "credit")}
            distribution = layout_from_wire(words["distribution"])
            ranks, silence = tuple(words["ranks"]), float(words["silence"])
            if not all(type(n) is int and n >= 0 for n in (*numbers.values(), *ranks)):
                raise ValueError(f"got {numbers} and ranks {ranks}, expected integers of 0 or more")
            if not ranks or max(ranks) >= distribution.size or len(set(ranks)) < len(ranks):
                raise ValueError(f"got ranks {ranks}, expected some of {distribution}")
            if not 0 < silence < math.inf:
                raise ValueError(f"got silence {silence}, expected seconds")
            straight = bool(words["straight"])
            return cls(
                distribution=distribution,
                ranks=ranks,
                silence=silence,
                straight=straight,
                **numbers,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ProtocolError(f"delivery of array bytes: {error!r}") from None


def runs(delivery: Delivery, chunk: int) -> Iterator[list[Run]]:
    """The runs of each message, of at most ``chunk`` bytes; one element is the least."""
    message: list[Run] = []
    room = chunk
    for run in _runs(delivery, chunk):
        if message and run.nbytes > room:
            yield message
            message, room = [], chunk
        message.append(run)
        room -= run.nbytes
    if message:
        yield message


def _runs(delivery: Delivery, chunk: int) -> Iterator[Run]:
    layout, itemsize = delivery.distribution, delivery.itemsize
    limit = max(1, chunk // max(1, itemsize))
    for rank in delivery.ranks:
        offset = 0
        for box, order in _boxes(layout.local_shape(rank), layout.order, limit):
            size = math.prod(high - low for low, high in box) * itemsize
            yield Run(rank, offset, size, box, order)
            offset += size


def _boxes(shape: Sequence[int], order: Order, limit: int) -> Iterator[tuple[Box, Order]]:
    """Boxes of indices that lie side by side in memory, each with its own order, as they follow.

    With tiles, boxes of whole tiles; where one tile is more than the limit, boxes within each. They
    are padded as the array is: the last ones may reach beyond its end.
    """
    if not isinstance(order, Tiled):
        for box in _cut(shape, order, limit):
            yield box, order
        return
    size = math.prod(order.tiles)
    for block in _cut(order.grid(shape), order.outer, max(1, limit // size)):
        corner = [low * tile for (low, _), tile in zip(block, order.tiles, strict=True)]
        if size <= limit:
            ends = [high * tile for (_, high), tile in zip(block, order.tiles, strict=True)]
            yield tuple(zip(corner, ends, strict=True)), order
            continue
        for inside in _cut(order.tiles, order.inner, limit):
            box = tuple((k + low, k + high) for k, (low, high) in zip(corner, inside, strict=True))
            yield box, order.inner


def _cut(shape: Sequence[int], order: AxisOrder, limit: int) -> Iterator[Box]:
    axes = slowest_first(order, len(shape))
    for slab in kernels.slabs([kernels.Pieces.whole(shape[axis]) for axis in axes], limit):
        yield tuple(slab[axes.index(axis)].source_extent for axis in range(len(axes)))


def copied(run: Run, part: AnyArray) -> NDArray[np.uint8]:
    """The bytes of a run, of a part that lies in any other way; what pads tiles is zero."""
    pieces = [
        kernels.Pieces.whole(n).slice(min(low, n), min(high, n)).packed()
        for (low, high), n in zip(run.box, part.shape, strict=True)
    ]
    buffer = empty([high - low for low, high in run.box], part.dtype, run.order)
    memory = as_bytes(buffer, run.order)
    if kernels.shape(pieces) != buffer.shape:
        memory[...] = 0
    move(buffer, part, pieces, threads=1)
    return memory


class Places(Protocol):
    """Where the parts of a delivery go."""

    def allocate(self, rank: int) -> NDArray[np.uint8]:
        """Memory for a part, of any content."""

    def enter(self) -> int | None:
        """Store the parts; or store none, and say a rank that is not expected any more."""


class Taking(NodeEnd):
    """The node's end of a stream from an app.

    Parameters
    ----------
    comm : Comm
        The line to the app.
    delivery : Delivery
        What is to come.
    buffers : Buffers
        What all the node's streams share.
    places : Places
        Where the parts go.
    """

    def __init__(
        self,
        comm: Comm,
        delivery: Delivery,
        buffers: Buffers,
        places: Places,
    ) -> None:
        super().__init__(comm, buffers, delivery.credit, delivery.silence)
        self._delivery, self._places = delivery, places
        self._memory: dict[int, NDArray[np.uint8]] = {}

    async def run(self) -> None:
        """Take everything, then let the app know that it is stored."""
        await super().run()
        missing = self._places.enter()
        if missing is not None:
            await self.comm.write({"missing": missing})
            raise Missing(missing)
        await self.comm.write({"stored": True})

    def allocate(self) -> None:
        """Have memory for all parts."""
        for rank in self._delivery.ranks:
            self._memory[rank] = self._places.allocate(rank)

    async def talk(self) -> None:
        """Grant one message after the other."""
        delivery = self._delivery
        chunk = max(1, min(delivery.chunk, self._buffers.limit))
        sequence, small = runs(delivery, chunk), delivery.small
        await off_loop(small, self.allocate)
        ahead = await off_loop(small, next, sequence, None)
        if ahead is None:  # parts without elements
            self.say_nothing()
        while ahead is not None:
            message = ahead
            ahead = await off_loop(small, next, sequence, None)
            await self.turn()
            await self.reserve(sum(run.nbytes for run in message))
            await self.say({"grant": True, "chunk": chunk}, ahead is None, message)

    async def heard(self, word: dict[str, Any], message: Sequence[Run]) -> None:
        """Bring the bytes to their places."""
        frames = _frames(word.get("data"), message)
        await off_loop(self._delivery.small, _place, message, frames, self._memory)


def flat(delivery: Delivery, parts: Mapping[int, AnyArray]) -> dict[int, NDArray[np.uint8]]:
    """The memory of those parts that lie in the order of the distribution, by rank."""
    order = delivery.distribution.order
    return {r: as_bytes(parts[r], order) for r in delivery.ranks if in_order(parts[r], order)}


def bytes_of(
    run: Run, lying: Mapping[int, NDArray[np.uint8]], parts: Mapping[int, AnyArray]
) -> NDArray[np.uint8]:
    """The bytes of a run: as they lie, or a copy."""
    memory = lying.get(run.rank)
    if memory is None:
        return copied(run, parts[run.rank])
    return memory[run.offset : run.offset + run.nbytes]


def _frames(data: Any, message: Sequence[Run]) -> list[NDArray[np.uint8]]:
    """The frames of a message, if they are those of its runs."""
    frames = received(data)
    if [len(frame) for frame in frames] != [run.nbytes for run in message]:
        raise ProtocolError(
            f"message of array bytes: got {sum(map(len, frames))} bytes in {len(frames)}"
            f" frames, expected {sum(run.nbytes for run in message)} in {len(message)}"
        )
    return frames


def _place(
    message: Sequence[Run],
    frames: Sequence[NDArray[np.uint8]],
    memory: Mapping[int, NDArray[np.uint8]],
) -> None:
    for run, frame in zip(message, frames, strict=True):
        np.copyto(memory[run.rank][run.offset : run.offset + run.nbytes], frame)


async def bring(comm: Comm, delivery: Delivery, parts: Mapping[int, AnyArray]) -> None:
    """The app's end: send the parts of these ranks, whatever their strides or tiles.

    A part that lies in the order of the distribution is sent as it is; of any other, a message's
    worth at a time is copied.

    Raises
    ------
    MaestroError
        What the node says.
    OSError
        If the connection breaks, or the node is silent for too long.
    """
    lying = flat(delivery, parts)
    sequence: Iterator[list[Run]] | None = None

    def frames(chunk: int) -> list[NDArray[np.uint8]]:
        nonlocal sequence
        if sequence is None:
            sequence = runs(delivery, chunk)
        return [bytes_of(run, lying, parts) for run in next(sequence)]

    quick = delivery.small and len(lying) == len(delivery.ranks)
    words = delivery.to_words()
    await comm.write({"op": "maestro_take", "reply": False, "delivery": words})
    while "stored" not in (word := await listen(comm, delivery.silence)):
        data = await off_loop(quick, frames, word["chunk"])
        await comm.write({"data": to_send(data)})
