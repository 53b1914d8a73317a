"""The end of a line that asks: numbered words, and the answers to them.

::

    asks                                       answers
     |  number, *word  ------------------------->|
     |  number, *word  ------------------------->|
     |<-------------------------  number, *answer |
     |<-------------------------  None, *news     |
     |  None, *word  --------------------------->|  nobody waits for an answer to this

Answers come in any order. Nodes and their programs talk like this (`maestro.nodes.answering`), and
apps with the manager (`maestro.lines`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from distributed.comm.core import CommClosedError
from distributed.core import ConnectionPool

from maestro.config import get_seconds
from maestro.errors import ProtocolError, from_wire
from maestro.messages import PROTOCOL
from maestro.transport.calling import connect
from maestro.transport.wire import Wire, open_wire

__all__ = ["Asker", "NodeLines"]

#: Lines of one program to nodes, at most, but for those on which somebody waits.
LINES = 64


class Asker:
    """What is asked over one wire.

    Parameters
    ----------
    wire : Wire
        Its end.
    news : callable, optional
        Takes what is said without having been asked for.
    lost : callable, optional
        Told once, with the error, when the line is over.

    Attributes
    ----------
    over : bool
        Whether the line is.
    idle : bool
        Whether nobody waits for an answer.
    """

    def __init__(
        self,
        wire: Wire,
        news: Callable[..., None] | None = None,
        lost: Callable[[OSError], None] | None = None,
    ) -> None:
        self.wire = wire
        self.over = False
        self._news, self._lost = news, lost
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())

    @property
    def idle(self) -> bool:  # noqa: D102
        return not self._waiting

    def tell(self, *word: Any) -> None:
        """Say something to which there is no answer."""
        self.wire.send(None, *word)

    def tell_later(self, *word: Any) -> None:
        """As `tell`, but what else there is to do comes first."""
        self.wire.send_later(None, *word)

    async def ask(self, *word: Any) -> Any:
        """Say something, and return the answer.

        Raises
        ------
        OSError
            If the line is over before it comes.
        """
        if self.over:
            raise CommClosedError("the line is closed")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self.wire.send(number, *word)
            return await answer
        finally:
            del self._waiting[number]

    def close(self, error: OSError | None = None) -> None:
        """Nothing more is asked; who waits for an answer is told why there will be none."""
        if self.over:
            return
        self.over = True
        self._reading.cancel()
        self.wire.close()
        error = error or CommClosedError("the line was closed")
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)
        if self._lost is not None:
            self._lost(error)

    async def _read(self) -> None:
        try:
            await self.wire.hear(self._take)
        except OSError as error:
            self.close(error)
        except (ProtocolError, TypeError, ValueError) as error:
            self.close(CommClosedError(f"what came is no answer: {error}"))

    def _take(self, words: Iterable[Any]) -> None:
        for number, *said in words:
            if number is None:
                if self._news is not None:
                    self._news(*said)
            elif (answer := self._waiting.get(number)) is not None and not answer.done():
                answer.set_result(said)


class NodeLines:
    """Lines to nodes: each is opened when it is needed, and is there from then on.

    But for those that were not used for the longest time, where there would be more than `LINES`:
    Dask's pool has a limit on connections.

    Parameters
    ----------
    rpc : ConnectionPool
        Dask's connections.
    lives : callable
        Whether the pool still has the node of an address; a coroutine function.
    """

    def __init__(self, rpc: ConnectionPool, lives: Callable[[str], Awaitable[bool]]) -> None:
        self.rpc, self.lives = rpc, lives
        self._lines: dict[str, Asker] = {}  # that used last is the last
        self._opening: dict[str, asyncio.Task[Asker]] = {}

    async def call(self, node: str, word: str, **fields: Any) -> Any:
        """Ask a node.

        Raises
        ------
        OSError
            If it does not answer: at once, if it is not there any more.
        MaestroError
            What it says.
        """
        value, error = await (await self._line(node)).ask(word, fields)
        if error is not None:
            raise from_wire(error)
        return value

    async def over_socket(self, node: str) -> bool:
        """Whether plain sockets lead to a node, at either end.

        Raises
        ------
        OSError
            If it does not answer.
        """
        return (await self._line(node)).wire.over_socket

    async def _line(self, node: str) -> Asker:
        line = self._lines.pop(node, None)
        if line is None or line.over:
            line = await self._opened(node)
        self._lines[node] = line
        return line

    async def _opened(self, node: str) -> Asker:
        """A line to a node, opened once for all who wait for it."""
        opening = self._opening.get(node)
        if opening is None:
            opening = self._opening[node] = asyncio.create_task(self._open(node))
            opening.add_done_callback(partial(self._open_no_more, node))
        return await asyncio.shield(opening)

    def _open_no_more(self, node: str, opening: asyncio.Task[Asker]) -> None:
        self._opening.pop(node, None)
        if not opening.cancelled() and opening.exception() is None:
            self._close_idle()
            self._lines[node] = opening.result()

    def _close_idle(self) -> None:
        """Have room for one more."""
        for node, line in list(self._lines.items()):
            if len(self._lines) < LINES:
                break
            if line.idle:
                line.close()
                del self._lines[node]

    async def _open(self, node: str) -> Asker:
        silence = get_seconds("transfer.silence")
        comm = await connect(self.rpc, self.lives, node, silence)
        try:
            async with asyncio.timeout(silence):
                wire, answer = await open_wire(comm, op="maestro_line", protocol=PROTOCOL)
            if not isinstance(answer, dict):
                raise CommClosedError(f"{node} is no node of a pool")
            if "error" in answer:
                raise from_wire(answer["error"])
        except BaseException:
            comm.abort()
            self.rpc.reuse(node, comm)
            raise
        return Asker(wire, lost=lambda _: self.rpc.reuse(node, comm))

    def close(self) -> None:
        """Close all of them."""
        for opening in self._opening.values():
            opening.cancel()
        for line in self._lines.values():
            line.close()
        self._lines.clear()
