"""A stream of array bytes from an app to a node, over the socket of its comm.

::

    app                                     node
     |  delivery, in a message               |
     |-------------------------------------->|  allocates
     |                               header  |
     |<--------------------------------------|  bytes for a message are counted in
     |  bytes                                |
     |-------------------------------------->|  into the part
     |                               header  |
     |<--------------------------------------|
     |              ...                      |
     |                       header: stored  |
     |<--------------------------------------|

What is in which message both sides work out as for streams of Dask's messages
(`maestro.transport.bringing`); the node's headers (`maestro.transport.headers`) say how many bytes
the app may send. Threads send from the app's parts, and receive into those of the node. A message
is granted while the one before it comes, unless others wait for bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from distributed.comm.core import Comm

from layouts.tiled import AnyArray
from maestro.errors import MaestroError, ProtocolError
from maestro.transport import bringing
from maestro.transport.bringing import Delivery, Run, flat, runs
from maestro.transport.ends import Missing
from maestro.transport.headers import attended, before, header, hear, tell
from maestro.transport.offload import off_loop
from maestro.transport.sockets import Socket, borrowed

__all__ = ["Taking", "bring"]

#: Stands where otherwise the size of messages does.
_STORED = 0


class Taking(bringing.Taking):
    """The node's end of a stream from an app, made as that of one of Dask's messages."""

    async def run(self) -> None:
        """Take everything, then let the app know that it is stored."""
        async with borrowed(self.comm, self.silence) as line:
            try:
                await self._take(line)
                missing = self._places.enter()
                if missing is not None:
                    raise Missing(missing)
            except (Missing, MaestroError) as error:
                await line.run(tell, line, error)
                raise
            await line.run(line.send, header(1, _STORED))

    async def _take(self, line: Socket) -> None:
        buffers, chunk = self._buffers, max(1, min(self._delivery.chunk, self._buffers.limit))
        sequence = runs(self._delivery, chunk)

        def take(message: list[Run]) -> list[Run] | None:
            """Take what comes, or, where others wait, one message of it; what is left."""
            line.send(header(_size(message), chunk))
            while True:
                following = next(sequence, None)
                going_on = following is not None and not buffers.wanted
                if following is not None and going_on:
                    line.send(header(_size(following), chunk))
                line.receive(bytearray(before(_size(message))))
                for run in message:
                    memory = self._memory[run.rank]
                    line.receive(memory[run.offset : run.offset + run.nbytes].data)
                if following is None or not going_on:
                    return following
                message = following

        await attended(line, off_loop(False, self.allocate))
        ahead = await off_loop(False, next, sequence, None)
        size = max(self._delivery.itemsize, min(chunk, self._delivery.nbytes))
        while ahead is not None:
            await attended(line, buffers.reserve(size), undo=lambda _: buffers.release(size))
            try:
                ahead = await line.run(take, ahead)
            finally:
                buffers.release(size)


def _size(message: list[Run]) -> int:
    return sum(run.nbytes for run in message)


async def bring(comm: Comm, delivery: Delivery, parts: Mapping[int, AnyArray]) -> None:
    """The app's end; as `maestro.transport.bringing.bring`, to a node that can do the same."""
    lying = flat(delivery, parts)

    def send(line: Socket) -> None:
        sequence: Iterator[list[Run]] | None = None
        while True:
            size, chunk = hear(line)
            if chunk == _STORED:
                return
            if sequence is None:
                sequence = runs(delivery, chunk)
            message = next(sequence, [])
            if size != _size(message):
                raise ProtocolError(f"grant: got {size} bytes, expected {_size(message)}")
            line.send(before(size), more=True)
            for run in message:
                line.send(bringing.bytes_of(run, lying, parts).data)

    words = replace(delivery, straight=True).to_words()
    await comm.write({"op": "maestro_take", "reply": False, "delivery": words})
    async with borrowed(comm, delivery.silence) as line:
        await line.run(send, line)
