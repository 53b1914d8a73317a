"""Words over one Dask comm, as many at a time as there are when it is their turn.

A word is whatever msgpack knows. Dask makes, reads and checks the connection; where it is a socket
of Tornado's, which tcp and tls are, the words then go over that themselves, one after the other:
Dask's own messages cost twice as much, for the size of each is estimated before it is sent, and
each is read in two steps. Over any other comm words go as byte strings in Dask's messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgpack
from distributed.comm.core import Comm
from distributed.comm.tcp import TCP

from maestro.errors import ProtocolError

__all__ = ["Wire", "is_socket"]

#: Bytes that are read at a time.
CHUNK = 1 << 16

#: Bytes of one word, at most.
LONGEST = 1 << 30


def is_socket(comm: Comm) -> bool:
    """Whether words can go over the comm's own socket; both ends must be able to."""
    return isinstance(comm, TCP)


class Wire:
    """One end of a line.

    Parameters
    ----------
    comm : Comm
        Open, and nobody else's.
    socket : bool
        Whether words go over the comm's own socket.

    Attributes
    ----------
    unsent : int
        Bytes that wait until what was said before is on its way.
    """

    def __init__(self, comm: Comm, socket: bool) -> None:
        self.comm = comm
        self._stream: Any = comm.stream if isinstance(comm, TCP) and socket else None
        self._unsent: list[bytes] = []
        self.unsent = 0
        self._writing: asyncio.Task[None] | None = None
        self._words = msgpack.Unpacker(
            max_buffer_size=LONGEST,
            unicode_errors="surrogatepass",
            strict_map_key=False,
            use_list=False,
        )

    def send(self, *word: Any) -> None:
        """Say something; it goes as soon as what was said before is on its way.

        Raises
        ------
        TypeError, ValueError, OverflowError
            If it can't be put in a message.
        """
        packed = msgpack.packb(word, unicode_errors="surrogatepass")
        self._unsent.append(packed)
        self.unsent += len(packed)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._unsent:
                batch, self._unsent, self.unsent = b"".join(self._unsent), [], 0
                if self._stream is None:
                    await self.comm.write(batch)
                else:
                    await self._stream.write(batch)
        except OSError:  # whoever reads notices
            self._unsent = []
        finally:
            self._writing = None

    async def drain(self) -> None:
        """Wait until all that was said is on its way."""
        while self._writing is not None:
            await asyncio.wait({self._writing})

    async def read(self) -> Iterator[Any]:
        """Wait for the next words.

        Raises
        ------
        OSError
            If the line is broken, or was closed.
        ProtocolError
            If these are no words, at once or as they are taken.
        """
        if self._stream is not None:
            batch: Any = await self._stream.read_bytes(CHUNK, partial=True)
        else:
            batch = await self.comm.read()
            if not isinstance(batch, bytes):
                raise ProtocolError(f"line: got {type(batch).__name__}, expected packed words")
        return self._take(batch)

    def _take(self, batch: bytes) -> Iterator[Any]:
        try:
            self._words.feed(batch)
            yield from self._words
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise ProtocolError(f"line: got what is no packed word: {error!r}") from None

    def close(self) -> None:
        """Say nothing more, and hear nothing more."""
        if self._writing is not None:
            self._writing.cancel()
        self.comm.abort()
