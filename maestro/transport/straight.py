"""A stream of array bytes from a node to an app, over the socket of its comm.

::

    app                                     node
     |  request, in a message                |
     |-------------------------------------->|  plans
     |             header, bytes             |
     |<--------------------------------------|  as they lie in the part, or packed
     |             header, bytes             |
     |<--------------------------------------|

What is in which message both sides work out as for streams of Dask's messages
(`maestro.transport.pulling`); the bytes are the same as well. For headers see
`maestro.transport.headers`.

A thread sends what lies in long runs straight from the source's part, and all else through memory
of `STAGE` bytes; so does the app's thread into the target's part. It goes on until others wait for
memory. What is under way beside that is in the system's own buffers, which keep a sender from
running far ahead of its reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
from distributed.comm.core import Comm
from numpy.typing import NDArray

import kernels
from layouts import Plan
from layouts.orders import AxisOrder, slowest_first
from layouts.tiled import AnyArray
from maestro.errors import MaestroError, ProtocolError
from maestro.transport import pulling
from maestro.transport.buffers import buffer
from maestro.transport.ends import Missing
from maestro.transport.headers import attended, before, header, hear, tell
from maestro.transport.packing import (
    Slab,
    messages,
    nbytes,
    pack,
    runs_given,
    runs_taken,
    unpack,
)
from maestro.transport.pulling import Request
from maestro.transport.sockets import Socket, borrowed
from maestro.transport.vectors import Runs

__all__ = ["LEAST", "Coming", "Giving", "pull"]

#: Bytes from which on a stream goes this way: a thread is woken on either side.
LEAST = 1 << 20

#: Bytes that are packed and sent, or received and unpacked, at a time: meanwhile the peer fills the
#: system's buffers, or empties them. With twice as many it waits for that more often (64 MiB
#: reversed: 40 and 44 ms, not 37 and 41), fewer make shorter runs in a target of another order.
STAGE = 2 << 20

#: Slabs of fewer bytes are packed with others all the same.
APART = 1 << 16

#: Bytes that lie together from which on they are neither packed nor unpacked. The system takes some
#: thousand such runs at once.
RUN = 1 << 12


def staged(
    slabs: Sequence[Slab],
    order: AxisOrder,
    limit: int,
    together: Callable[[Slab], Runs | None],
) -> Iterator[tuple[list[Slab], Runs | None]]:
    """A message's slabs, those that lie in long runs one by one, with these; others by the stage.

    Parameters
    ----------
    slabs : sequence of Slab
        The message.
    order : "C", "F" or tuple of int
        How they lie in it.
    limit : int
        Bytes of the stage.
    together : callable
        Gives the runs of a slab in a part, or None.
    """
    batch: list[Slab] = []
    room = limit
    for slab in slabs:
        runs = together(slab) if slab.nbytes >= APART else None
        for cut in [slab] if runs is not None else _cut(slab, order, limit):
            if batch and (runs is not None or cut.nbytes > room):
                yield batch, None
                batch, room = [], limit
            if runs is not None:
                yield [cut], runs
            else:
                batch.append(cut)
                room -= cut.nbytes
    if batch:
        yield batch, None


def _cut(slab: Slab, order: AxisOrder, limit: int) -> Iterator[Slab]:
    """The same bytes, a stageful at a time."""
    if slab.nbytes <= limit:
        yield slab
        return
    axes = slowest_first(order, len(slab.pieces))
    itemsize = slab.nbytes // prod(kernels.shape(slab.pieces))
    for cut in kernels.slabs([slab.pieces[axis] for axis in axes], max(1, limit // itemsize)):
        pieces = tuple(cut[axes.index(axis)] for axis in range(len(axes)))
        size = itemsize * prod(kernels.shape(cut))
        yield replace(slab, pieces=pieces, nbytes=size)


class Giving(pulling.Giving):
    """The node's end of a stream to an app, made as that of one of Dask's messages."""

    async def run(self) -> None:
        """Give everything."""
        async with borrowed(self.comm, self.silence) as line:
            try:
                await self._give(line)
            except (Missing, MaestroError) as error:
                await line.run(tell, line, error)
                raise

    async def _give(self, line: Socket) -> None:
        request, order = self._request, self._request.order
        held, buffers = request.held, self._buffers
        chunk = max(1, min(request.chunk, buffers.limit))
        arrays, sequence = request.sequence(self._parts, chunk)

        def give(memory: NDArray[np.uint8]) -> list[Slab] | None:
            """Give what is left, or, where others wait for memory, one message of it."""
            slabs = ahead or next(sequence, None)
            if slabs is None:
                raise ProtocolError("request for array bytes: nothing is left to be given")
            while slabs is not None:
                for slab in slabs:
                    if (request.version, held[slab.source]) not in self._parts:
                        raise Missing(slab.source)
                size = nbytes(slabs)
                line.send(header(size, chunk) + before(size), more=True)
                for batch, runs in staged(slabs, order, len(memory), together):
                    if runs is not None:
                        line.send_runs(runs)
                    else:
                        data = memory[: nbytes(batch)]
                        pack(batch, arrays, order, data)
                        line.send(data.data)
                slabs = next(sequence, None)
                if buffers.wanted:
                    break
            return slabs

        def together(slab: Slab) -> Runs | None:
            return runs_given(slab, arrays[slab.source], order, RUN)

        ahead: list[Slab] | None = []  # the first message is worked out in the thread, too
        stage = max(request.itemsize, min(chunk, request.size, STAGE))
        while ahead is not None:
            memory = await attended(line, buffers.take(stage), undo=buffers.give)
            try:
                ahead = await line.run(give, memory)
            finally:
                buffers.give(memory)


class Coming:
    """What an app gets of a stream.

    Parameters
    ----------
    line : Socket
        To the node.
    way, request, parts
        As for `pull`.
    taken : callable
        Called in the thread with the slabs of each message, once they are in their places.

    Attributes
    ----------
    over : bool
        Whether everything has come.
    """

    def __init__(
        self,
        line: Socket,
        way: Plan,
        request: Request,
        parts: Mapping[int, AnyArray],
        taken: Callable[[list[Slab]], object],
    ) -> None:
        self.over = False
        self._line, self._way, self._request, self._parts = line, way, request, parts
        self._taken = taken
        self._sequence: Iterator[list[Slab]] | None = None
        self._slabs: list[Slab] = []  # of the message to come
        self._stage = buffer(max(min(request.chunk, request.size, STAGE), request.itemsize))

    def everything(self) -> None:
        """Take message after message, in a thread."""
        while not self.over:
            self._taken(self.take())

    def take(self) -> list[Slab]:
        """Take the next message; what is in it."""
        size, chunk = hear(self._line)
        self._line.receive(bytearray(before(size)))
        if self._sequence is None:
            request = self._request
            asked = request.pairs, request.itemsize, request.order
            self._sequence = messages(self._way, *asked, max(chunk, 1), request.skip)
            self._slabs = next(self._sequence, [])
        slabs = self._slabs
        if size != nbytes(slabs):
            raise ProtocolError(
                f"message of array bytes: got {size} bytes, expected {nbytes(slabs)}"
            )
        order, stage = self._request.order, self._stage
        for batch, runs in staged(slabs, order, len(stage), self._together):
            if runs is not None:
                self._line.receive_runs(runs)
            else:
                data = stage[: nbytes(batch)]
                self._line.receive(data.data)
                unpack(batch, self._parts, order, data)
        self._slabs = next(self._sequence, [])
        self.over = not self._slabs
        return slabs

    def _together(self, slab: Slab) -> Runs | None:
        return runs_taken(slab, self._parts[slab.target], self._request.order, RUN)


async def pull(
    comm: Comm,
    way: Plan,
    request: Request,
    parts: Mapping[int, AnyArray],
    taken: Callable[[list[Slab]], None],
) -> None:
    """The app's end; as `maestro.transport.pulling.pull`, of a node that can do the same."""
    words = replace(request, straight=True).to_words()
    await comm.write({"op": "maestro_give", "reply": False, "request": words})
    async with borrowed(comm, request.silence) as line:
        loop = asyncio.get_running_loop()

        def tell(slabs: list[Slab]) -> None:
            loop.call_soon_threadsafe(taken, slabs)

        await line.run(Coming(line, way, request, parts, tell).everything)
