"""The socket of a Dask comm, lent to threads that send from memory, and receive into it.

A message of Dask's is received into memory of its own, piece by piece as the event loop is told of
it, and copied from there to where it is wanted. Here a thread sends from wherever bytes lie and
receives to where they are to be: one copy less on either side. It is woken for `AT_A_TIME` bytes,
not for each packet: that was worth as much again where the sender is the slower one.

A comm that is used so is an ordinary one before and after.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any, TypeVar, cast

from distributed.comm.core import Comm, CommClosedError
from distributed.comm.tcp import TCP

from maestro.transport.vectors import Runs

__all__ = ["Socket", "borrowed"]

T = TypeVar("T")

#: Bytes for which a thread is woken.
AT_A_TIME = 1 << 20

#: Seconds after which a thread that waits looks whether the comm was closed.
LOOK = 1.0

#: What is sent with it goes together with what is sent next, where the system can do that.
_MORE = getattr(socket, "MSG_MORE", 0)

#: Each waits for its peer, so there are as many as there are messages under way: `Buffers` has the
#: limit on these.
_THREADS = ThreadPoolExecutor(1024, "maestro-socket")


class Socket:
    """One end of a connection, for one thread at a time; made by `borrowed`.

    Parameters
    ----------
    stream : tornado.iostream.IOStream
        Whose it is.
    silence : float
        Seconds for which the peer may neither send nor take anything.
    """

    def __init__(self, stream: Any, silence: float) -> None:
        self.silence = silence
        self._stream = stream
        self._socket: socket.socket = stream.socket.dup()
        self._socket.setblocking(False)
        self._least = 1

    def send(self, data: bytes | memoryview, more: bool = False) -> None:
        """Send bytes; with ``more``, others follow at once.

        Raises
        ------
        OSError
            If the connection breaks, or the peer takes nothing for too long.
        """
        left = memoryview(data)
        while len(left):
            try:
                left = left[self._socket.send(left, _MORE if more else 0) :]
            except BlockingIOError:
                self._wait_to_send()

    def send_runs(self, runs: Runs) -> None:
        """As `send`, of what lies at several places."""
        while runs.left:
            try:
                runs.write(self._socket.fileno())
            except BlockingIOError:
                self._wait_to_send()

    def receive(self, memory: bytearray | memoryview) -> None:
        """Fill memory with bytes that come.

        Raises
        ------
        OSError
            If the connection breaks, or nothing comes for too long.
        """
        left = memoryview(memory)
        while len(left):
            left = left[self._came(len(left), partial(self._socket.recv_into, left)) :]

    def receive_runs(self, runs: Runs) -> None:
        """As `receive`, into memory at several places."""
        read = partial(runs.read, self._socket.fileno())
        while runs.left:
            self._came(runs.left, read)

    def _came(self, left: int, read: Callable[[], int]) -> int:
        """Wait for bytes, of so many, and read them; how many those were."""
        self._wake_for(min(left, AT_A_TIME))
        self._wait(select.POLLIN)
        try:
            got = read()
        except BlockingIOError:
            raise TimeoutError(f"nothing came for {self.silence:g} s") from None
        if not got:
            raise CommClosedError("the connection was closed")
        return got

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Have a thread do work that sends or receives.

        Where the caller is cancelled, the connection is cut, and that takes effect once the thread
        is through: then nobody writes any more into what the caller takes back.
        """
        running = asyncio.get_running_loop().run_in_executor(_THREADS, work, *args)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            with suppress(OSError):  # it is broken already
                self._socket.shutdown(socket.SHUT_RDWR)
            await asyncio.wait({running})
            raise

    async def left(self) -> None:
        """Wait until the peer, which has nothing to say now, is gone."""
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._socket, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(self._socket)

    def close(self) -> None:
        """Use it no more; it goes on being the comm's."""
        with suppress(OSError):  # it is broken
            self._wake_for(1)
        self._socket.close()

    def _wake_for(self, nbytes: int) -> None:
        """Call it ready for reading from so many bytes on."""
        if nbytes != self._least:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, nbytes)
            self._least = nbytes

    def _wait_to_send(self) -> None:
        if not self._wait(select.POLLOUT):
            raise TimeoutError(f"nothing was taken for {self.silence:g} s")

    def _wait(self, event: int) -> bool:
        """Wait until it is ready; whether it became so in time."""
        ready = select.poll()
        ready.register(self._socket, event)
        until = monotonic() + self.silence
        while (left := until - monotonic()) > 0:
            if ready.poll(1000 * min(left, LOOK)):
                return True
            if self._stream.closed():
                raise CommClosedError("the connection was closed here")
        return False


@asynccontextmanager
async def borrowed(comm: Comm, silence: float) -> AsyncIterator[Socket]:
    """The socket of a comm on which nothing is read now; see `maestro.transport.wire.is_socket`.

    Raises
    ------
    OSError
        If the connection is broken.
    """
    stream = cast(TCP, comm).stream
    if stream is None or stream.closed():
        raise CommClosedError("the connection is closed")
    await stream.write(b"")  # done when all that was written before is on its way
    loop: Any = stream.io_loop
    number = stream.socket.fileno()
    loop.update_handler(number, 0)
    own = Socket(stream, silence)
    try:
        yield own
    finally:
        own.close()
        if not stream.closed() and number in loop.handlers:
            loop.update_handler(number, loop.READ)
