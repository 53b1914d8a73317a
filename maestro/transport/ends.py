"""What streams of array bytes have in common, whichever way the bytes go.

A stream is a conversation over one Dask comm, opened by the app and governed by the node. The node
counts all bytes under way in its `Buffers`; each of its words that stands for bytes is answered by
one word of the app, in turn, whereupon these bytes are free again.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
from distributed.comm.core import Comm
from numpy.typing import NDArray

from maestro.errors import MaestroError, ProtocolError, from_wire, to_wire
from maestro.transport.buffers import Buffers

__all__ = ["AT_ONCE", "Missing", "NodeEnd", "in_words", "listen", "used_up_by_errors"]


#: So few bytes go with the word that announces or asks for them: not counted, and not answered.
AT_ONCE = 1 << 14


class Missing(Exception):
    """The node does not hold what it is asked about: it was taken out of the pool."""

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self.rank = rank


async def listen(comm: Comm, silence: float) -> dict[str, Any]:
    """The node's next word that means something.

    Raises
    ------
    Missing, MaestroError
        What the node says.
    TimeoutError
        If it says nothing for ``silence`` seconds.
    OSError
        If the connection breaks.
    """
    while True:
        async with asyncio.timeout(silence):
            word = await comm.read()
        if not isinstance(word, dict):
            raise ProtocolError(f"stream: got {type(word).__name__}, expected a message")
        if "missing" in word:
            raise Missing(word["missing"])
        if "error" in word:
            raise from_wire(word["error"])
        if "wait" not in word:
            return word


@asynccontextmanager
async def used_up_by_errors(comm: Comm) -> AsyncIterator[None]:
    """If anything goes wrong in the block, a line to an app is of no more use.

    What the app has been told of, or cannot be told of any more, goes no further.
    """
    try:
        yield
    except (Missing, MaestroError):
        await comm.close()
    except OSError:  # the app is gone, and with it whoever could be told
        comm.abort()
    except BaseException:
        comm.abort()
        raise


class NodeEnd(ABC):
    """The node's end of a stream: what it says, what it hears, and the bytes under way.

    Parameters
    ----------
    comm : Comm
        The line to the app.
    buffers : Buffers
        What all the node's streams share.
    credit : int
        Words under way at most.
    silence : float
        Seconds without an answer after which the app is given up.
    """

    def __init__(self, comm: Comm, buffers: Buffers, credit: int, silence: float) -> None:
        self.comm, self.silence = comm, silence
        self._buffers = buffers
        self._credit = asyncio.Semaphore(max(1, credit))
        self._line = asyncio.Lock()
        self._claimed: NDArray[np.uint8] | int | None = None  # for the word to be said next
        self._under_way: deque[tuple[NDArray[np.uint8] | int, Any]] = deque()
        self._unanswered = 0
        self._words: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._speaking = asyncio.Event()
        self._through = False

    @abstractmethod
    async def talk(self) -> None:
        """Say everything there is to say."""

    @abstractmethod
    async def heard(self, word: dict[str, Any], about: Any) -> None:
        """Do what the app's answer to a word calls for; the next answer may come meanwhile."""

    async def run(self) -> None:
        """Talk, and listen until everything is answered.

        Raises
        ------
        Missing, MaestroError
            What went wrong; the app has been told.
        OSError
            If the app is gone, or silent for too long.
        """
        listening = asyncio.create_task(self._listen())
        work = [asyncio.create_task(each()) for each in (self._hear, self.talk)]
        breath = asyncio.create_task(self._breathe())
        try:
            await asyncio.gather(listening, *work)
        except (Missing, MaestroError) as error:
            await self._write(in_words(error))
            # Closed with words of the app unread, the connection would be reset, and what was said
            # last be lost; so listen until the app has heard it and closes.
            await asyncio.wait({listening}, timeout=self.silence)
            raise
        finally:
            for task in (listening, *work, breath):
                task.cancel()
            try:
                await asyncio.wait({listening, *work, breath})
            finally:  # also if the node is closed just now
                self._let_go()

    async def serve(self) -> None:
        """Run; if anything goes wrong, the line is of no more use."""
        async with used_up_by_errors(self.comm):
            await self.run()

    # For those who talk

    async def turn(self) -> None:
        """Wait until another word may be under way."""
        self._speaking.set()  # also while memory is waited for it is heard if the app goes
        await self._credit.acquire()

    async def take(self, nbytes: int) -> NDArray[np.uint8]:
        """Memory for the next word's bytes."""
        buffer = self._claimed = await self._buffers.take(nbytes)
        return buffer

    async def reserve(self, nbytes: int) -> None:
        """Count in the next word's bytes, which are elsewhere."""
        await self._buffers.reserve(nbytes)
        self._claimed = nbytes

    async def say(self, word: dict[str, Any], last: bool, about: Any = None) -> None:
        """Send a word that stands for what was taken or reserved."""
        claimed, self._claimed = self._claimed, None
        self._under_way.append((0 if claimed is None else claimed, about))
        self._unanswered += 1
        self._through = last
        self._await_answer()
        await self._write(word)

    def say_nothing(self) -> None:
        """There are no bytes, so there is no answer to wait for."""
        self._through = True
        self._speaking.set()

    async def _write(self, word: dict[str, Any]) -> None:
        async with self._line:
            await self.comm.write(word)

    async def _breathe(self) -> None:
        """Let the app know from time to time that the node is alive, whatever it waits for."""
        with suppress(OSError):  # those who talk and hear notice
            while True:
                await asyncio.sleep(self.silence / 4)
                await self._write({"wait": True})

    # What is heard

    async def _listen(self) -> None:
        """Read the app's words: as many as it has to say, which is no more than its credit ahead.

        Not one more, for the line serves other calls afterwards; and never cancelled before the
        end, for that would close it.
        """
        async with asyncio.timeout(None) as self._patience:
            await self._speaking.wait()
            while self._unanswered or not self._through:
                word = await self.comm.read()
                if not self._unanswered or not isinstance(word, dict):
                    raise ProtocolError(f"stream: got {type(word).__name__} out of turn")
                self._unanswered -= 1
                self._await_answer()
                self._words.put_nowait(word)
        self._words.put_nowait(None)

    async def _hear(self) -> None:
        while (word := await self._words.get()) is not None:
            await self._settle(word)

    async def _settle(self, word: dict[str, Any]) -> None:
        """The oldest word is answered: its bytes are free."""
        await self.heard(word, self._under_way[0][1])
        claimed, _ = self._under_way.popleft()
        if isinstance(claimed, int):
            self._buffers.release(claimed)
        else:
            self._buffers.give(claimed)
        self._credit.release()

    def _await_answer(self) -> None:
        """The app has so long for its next word, if it has something to say it about."""
        now = asyncio.get_running_loop().time()
        self._patience.reschedule(now + self.silence if self._unanswered else None)

    def _let_go(self) -> None:
        """Nothing more is said: all bytes are free, in buffers that somebody may still look at."""
        for claimed in (self._claimed, *(claimed for claimed, _ in self._under_way)):
            if isinstance(claimed, int):
                self._buffers.release(claimed)
            elif claimed is not None:
                self._buffers.drop(claimed)
        self._claimed = None
        self._under_way.clear()


def in_words(error: Missing | MaestroError) -> dict[str, Any]:
    """What the app is told of an error."""
    if isinstance(error, Missing):
        return {"missing": error.rank}
    return {"error": to_wire(error)}
