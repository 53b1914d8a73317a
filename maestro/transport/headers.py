"""What is said over a socket beside array bytes: how many follow, that one lives, what is wrong."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgpack
from distributed.comm.core import CommClosedError

from maestro.errors import MaestroError, from_wire
from maestro.transport.ends import Missing, in_words
from maestro.transport.sockets import Socket

__all__ = ["attended", "before", "header", "hear", "tell"]

T = TypeVar("T")

#: Bytes that follow, and bytes of a message at most. With 0, whoever says it is only there; below
#: that, so many bytes of words follow that say what is wrong.
_HEADER = struct.Struct("<qq")

#: Bytes of no meaning that go before those of a large message, so that these begin elsewhere in the
#: system's pages than those of the one before. Where they begin a little nearer to a page's
#: beginning than in the target's array, or a little farther from it than in the source's, the
#: processor copies as slowly as `maestro.transport.buffers.buffer` says (64 MiB between bare
#: sockets: 43 ms, not 25).
_SPREAD = bytes(2512)
_LARGE = 1 << 20


def header(nbytes: int, chunk: int) -> bytes:
    """Say that so many bytes are to follow, of messages of so many at most."""
    return _HEADER.pack(nbytes, chunk)


def before(nbytes: int) -> bytes:
    """What goes before the bytes of a message of so many, after what is said of it."""
    return _SPREAD if nbytes >= _LARGE else b""


def tell(line: Socket, error: Missing | MaestroError) -> None:
    """Say what is wrong, in a thread."""
    words = msgpack.packb(in_words(error), unicode_errors="surrogatepass")
    line.send(_HEADER.pack(-len(words), 0) + words)


def hear(line: Socket) -> tuple[int, int]:
    """Wait, in a thread, for the next header that means something; bytes to follow, and at most.

    Raises
    ------
    Missing, MaestroError
        What is said to be wrong.
    OSError
        If the connection breaks, or nothing is said for too long.
    """
    head = bytearray(_HEADER.size)
    size = chunk = 0
    while not size:
        line.receive(head)
        size, chunk = _HEADER.unpack(head)
    if size > 0:
        return size, chunk
    said = bytearray(-size)
    line.receive(said)
    word = msgpack.unpackb(said, unicode_errors="surrogatepass")
    raise Missing(word["missing"]) if "missing" in word else from_wire(word["error"])


async def attended(
    line: Socket, work: Coroutine[Any, Any, T], undo: Callable[[T], object] | None = None
) -> T:
    """Do work; meanwhile the app is told from time to time that the node lives.

    Parameters
    ----------
    line : Socket
        To an app that has nothing to say.
    work : coroutine
        What is done. Cancelled where the app goes, or the caller gives up.
    undo : callable, optional
        Takes what came of it all the same.

    Raises
    ------
    OSError
        If the app is gone.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(line.left())
    try:
        while not working.done():
            both = {working, leaving}
            await asyncio.wait(both, timeout=line.silence / 4, return_when="FIRST_COMPLETED")
            if leaving.done():
                raise CommClosedError("the app is gone")
            if not working.done():
                await line.run(line.send, header(0, 0))
        return working.result()
    except BaseException:
        working.cancel()
        await asyncio.wait({working})
        if undo is not None and not working.cancelled() and working.exception() is None:
            undo(working.result())
        raise
    finally:
        leaving.cancel()
        await asyncio.wait({leaving})
