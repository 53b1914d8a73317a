"""Words over one Dask comm, as many at a time as there are when it is their turn.

Whoever opens a line says in Dask's own first message whether words can go over its comm's socket;
the answer is whether they do::

    opens it                                                 is asked
     |  {"op": ..., "socket": ...}                              |
     |--------------------------------------------------------->|
     |<----------------------  {"socket": ...}, or {"error": ...}
     |  words ...                                     words ... |

A word is whatever msgpack knows. Dask makes, reads and checks the connection; where it is a plain
socket the words then go over that themselves, one after the other, by a transport of asyncio's: a
word there and back took three quarters of the time that it takes by its streams, and Dask's
messages do more, which estimate sizes before they are sent and are read in two steps. Over any
other comm words go as byte strings in Dask's messages.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgpack
from distributed.comm.core import Comm, CommClosedError
from distributed.comm.tcp import TCP

from maestro.errors import ProtocolError, to_wire

__all__ = ["Wire", "accept_wire", "is_socket", "open_wire", "wire_over"]

#: Bytes that may have come and not be read, before no more is let in.
AHEAD = 1 << 20

#: Bytes that wait for the end of a turn of the event loop, at most: more of them are worth a
#: message, so that whoever reads can begin while whoever writes goes on.
HELD = 1 << 11

#: Bytes of one word, at most.
LONGEST = 1 << 30


def is_socket(comm: Comm) -> bool:
    """Whether words can go over the comm's own socket; both ends must be able to."""
    return type(comm) is TCP  # not TLS, whose bytes are not those that the socket carries


async def open_wire(comm: Comm, **opening: Any) -> tuple[Wire, Any]:
    """Open a line, by a message for who is there to accept it; and what he answers.

    Raises
    ------
    OSError
        If the connection breaks.
    """
    await comm.write({**opening, "socket": is_socket(comm)})
    answer = await comm.read()
    return await wire_over(comm, isinstance(answer, dict) and bool(answer.get("socket"))), answer


async def accept_wire(comm: Comm, socket: Any, check: Callable[[], None]) -> Wire | None:
    """The other end of it; None if ``check`` raises a ProtocolError: who opens it is told."""
    try:
        check()
    except ProtocolError as error:
        await comm.write({"error": to_wire(error)})
        return None
    chosen = bool(socket) and is_socket(comm)
    await comm.write({"socket": chosen})
    return await wire_over(comm, chosen)


async def wire_over(comm: Comm, socket: bool) -> Wire:
    """One end of a line over a comm that is nobody else's; over its own socket, if so chosen.

    Raises
    ------
    OSError
        If the connection breaks.
    """
    if not socket:
        return _CommWire(comm)
    stream: Any = cast(TCP, comm).stream
    if stream is None or stream.closed():
        raise CommClosedError("the line is closed")
    # What the other end has said meanwhile may have been read already: then it is here at once.
    # From then on the stream reads and writes nothing more.
    read = stream.read_bytes(AHEAD, partial=True)
    if stream.closed():  # the other end has gone meanwhile
        if read.done():
            read.exception()  # so that nobody misses it
        raise CommClosedError("the line is closed")
    stream.io_loop.remove_handler(stream.fileno())
    wire = _SocketWire(comm)
    own = stream.socket.dup()
    own.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: wire, sock=own)
    if read.done():
        wire.data_received(read.result())
    return wire


class Wire(ABC):
    """One end of a line; made by `open_wire` and `accept_wire`.

    Attributes
    ----------
    unsent : int
        Bytes that wait until what was said before is on its way.
    over_socket : bool
        Whether words go over the comm's own socket: so both ends can.
    """

    over_socket = False

    def __init__(self, comm: Comm) -> None:
        self.comm = comm
        self.unsent = 0
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._writing = False
        self._drained: asyncio.Future[None] | None = None
        self._words = msgpack.Unpacker(
            max_buffer_size=LONGEST,
            unicode_errors="surrogatepass",
            strict_map_key=False,
            use_list=False,
        )

    def send(self, *word: Any) -> None:
        """Say something; what else is said in this turn of the event loop goes together.

        Where more is said than the line takes, it goes as soon as what was said before is on its
        way.

        Raises
        ------
        TypeError, ValueError, OverflowError
            If it can't be put in a message.
        """
        packed = msgpack.packb(word, unicode_errors="surrogatepass")
        if self._writing:
            self._unsent.append(packed)
            self.unsent += len(packed)
            if self.unsent > HELD:
                self._hurry()
        else:
            self._writing = True
            self._put(packed)

    def send_later(self, *word: Any) -> None:
        """Say something for which nobody waits, after what this turn of the loop brings about.

        In order with all else that is said, and together with what is said by then. To send takes
        as long as it takes the system to wake who reads.
        """
        packed = msgpack.packb(word, unicode_errors="surrogatepass")
        self._unsent.append(packed)
        self.unsent += len(packed)
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._loop.call_soon, self._write)

    def _write(self) -> None:
        """Put on the line what is there, if anything."""
        if self._unsent:
            batch, self._unsent, self.unsent = b"".join(self._unsent), [], 0
            self._put(batch)
        else:
            self._written()

    def _hurry(self) -> None:  # noqa: B027  (nothing, where that goes in messages)
        """There is much that waits for the end of this turn."""

    def _written(self) -> None:
        """There is nothing to be sent any more, or nobody to whom."""
        self._unsent, self.unsent, self._writing = [], 0, False
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    async def drain(self) -> None:
        """Wait until all that was said is on its way."""
        if self._writing:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.wait({self._drained})

    async def read(self) -> Iterator[Any]:
        """Wait for the next words.

        Raises
        ------
        OSError
            If the line is broken, or was closed.
        ProtocolError
            If these are no words, at once or as they are taken.
        """
        return self._take(await self._get())

    async def hear(self, take: Callable[[Iterator[Any]], None]) -> None:
        """Have all words taken, without a wait in between; for who can always take more.

        Raises
        ------
        OSError, ProtocolError
            As `read`, in the end.
        """
        while True:
            take(await self.read())

    def _take(self, batch: bytes) -> Iterator[Any]:
        try:
            self._words.feed(batch)
            yield from self._words
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise ProtocolError(f"line: got what is no packed word: {error!r}") from None

    def close(self) -> None:
        """Say nothing more, and hear nothing more."""
        self._written()
        self.comm.abort()

    @abstractmethod
    def _put(self, batch: bytes) -> None:
        """Send bytes, and see to what else is to be written as soon as they are on their way."""

    @abstractmethod
    async def _get(self) -> bytes:
        """Wait for bytes."""


class _SocketWire(Wire, asyncio.Protocol):
    """Over the comm's socket."""

    over_socket = True

    def __init__(self, comm: Comm) -> None:
        super().__init__(comm)
        self._transport: Any = None
        self._full = False
        self._over = False
        self._came: list[bytes] = []
        self._ahead = 0
        self._awaited: asyncio.Future[None] | None = None
        self._taker: Callable[[Iterator[Any]], None] | None = None

    def _put(self, batch: bytes) -> None:
        if self._over:  # whoever reads notices
            self._written()
            return
        self._transport.write(batch)
        if not self._full:
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        if not self._full:  # else once it is not
            super()._write()

    def _hurry(self) -> None:
        if not (self._full or self._over):
            batch, self._unsent, self.unsent = b"".join(self._unsent), [], 0
            self._transport.write(batch)  # what comes after it is seen to already

    async def hear(self, take: Callable[[Iterator[Any]], None]) -> None:
        take(self._take(self._taken()))
        if not self._over:
            self._taker, self._awaited = take, self._loop.create_future()
            try:
                await self._awaited
            finally:
                self._taker = self._awaited = None
        raise CommClosedError("the line is closed")

    async def _get(self) -> bytes:
        if not self._came and not self._over:
            self._awaited = self._loop.create_future()
            try:
                await self._awaited
            finally:
                self._awaited = None
        if not self._came:
            raise CommClosedError("the line is closed")
        return self._taken()

    def _taken(self) -> bytes:
        """All that has come; more may come again."""
        if self._ahead > AHEAD:
            self._transport.resume_reading()
        batch, self._came, self._ahead = b"".join(self._came), [], 0
        return batch

    def close(self) -> None:
        super().close()
        self._transport.abort()
        self.connection_lost(None)

    def _wake(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    # What asyncio calls

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(0)  # full is what the system does not take at once

    def data_received(self, data: bytes) -> None:
        if self._taker is not None and self._awaited is not None:
            try:
                self._taker(self._take(data))
            except Exception as error:
                if not self._awaited.done():
                    self._awaited.set_exception(error)
            return
        self._came.append(data)
        self._ahead += len(data)
        if self._ahead > AHEAD:
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._over = True
        self._written()
        self._wake()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._write()


class _CommWire(Wire):
    """In the comm's own messages."""

    _sending: asyncio.Task[Any] | None = None

    def _put(self, batch: bytes) -> None:
        self._sending = asyncio.ensure_future(self.comm.write(batch))
        self._sending.add_done_callback(self._sent)

    def _sent(self, sent: asyncio.Task[Any]) -> None:
        if sent.cancelled() or sent.exception() is not None:  # whoever reads notices
            self._written()
        else:
            self._write()

    async def _get(self) -> bytes:
        batch = await self.comm.read()
        if not isinstance(batch, bytes):
            raise ProtocolError(f"line: got {type(batch).__name__}, expected packed words")
        return batch
