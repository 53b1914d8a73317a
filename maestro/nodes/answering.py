"""The node's end of the lines over which it is asked (`maestro.transport.asking`).

Answers are ``value, error``, of which one is None. What takes no time is answered before the next
word is looked at; what has to wait for something does so by itself.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from distributed import Status
from distributed.comm.core import Comm

from maestro.errors import MaestroError, ProtocolError, to_wire
from maestro.messages import check_protocol
from maestro.transport.wire import Wire, accept_wire

__all__ = ["Answering"]

logger = logging.getLogger("maestro.node")

#: Bytes of answers that may be left unread before the next words wait.
BEHIND = 1 << 20


class Answering:
    """Answers words by calling what is there for each.

    Parameters
    ----------
    calls : mapping
        By word, a function or a coroutine function that takes the word's fields, and returns what
        can be put in a message, or raises MaestroError.
    """

    def __init__(self, calls: Mapping[str, Callable[..., Any]]) -> None:
        self._calls = {word: (call, inspect.signature(call)) for word, call in calls.items()}
        self._under_way: set[asyncio.Future[Any]] = set()

    async def serve(self, comm: Comm, protocol: Any = None, socket: Any = False) -> Status:
        """Serve one line, until who asks closes it or it breaks."""
        wire = await accept_wire(comm, socket, partial(check_protocol, protocol, "program"))
        if wire is None:
            return Status.dont_reply
        try:
            while True:
                for word in await wire.read():
                    self._hear(wire, word)
                    if wire.unsent > BEHIND:
                        await wire.drain()
        except OSError:
            pass
        except ProtocolError as error:
            logger.warning("A line to this node: %s", error)
        finally:
            wire.close()
        return Status.dont_reply

    def close(self) -> None:
        """Leave nothing under way."""
        for task in self._under_way:
            task.cancel()

    def _hear(self, wire: Wire, word: Any) -> None:
        try:
            number, call, fields = word
            fields = dict(fields)
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"line: got no word: {error}") from None
        try:
            value = self._called(call, fields)
        except Exception as error:
            _say(wire, number, call, None, error)
            return
        if inspect.isawaitable(value):
            task = asyncio.ensure_future(value)
            self._under_way.add(task)
            task.add_done_callback(partial(self._answer, wire, number, call))
        else:
            _say(wire, number, call, value)

    def _called(self, call: Any, fields: dict[Any, Any]) -> Any:
        known = self._calls.get(call) if isinstance(call, str) else None
        if known is None:
            raise ProtocolError(f"word: got {call!r}, expected one of {', '.join(self._calls)}")
        function, signature = known
        try:
            signature.bind(**fields)
        except TypeError as error:
            raise ProtocolError(f"word {call!r}: {error}") from None
        return function(**fields)

    def _answer(self, wire: Wire, number: Any, call: Any, task: asyncio.Future[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            error = task.exception()
            _say(wire, number, call, None if error is not None else task.result(), error)


def _say(
    wire: Wire, number: Any, call: Any, value: Any, error: BaseException | None = None
) -> None:
    """Answer a word, if anybody waits for it."""
    if error is not None and not isinstance(error, MaestroError):  # a mistake of ours
        logger.error("word %r", call, exc_info=error)
        error = MaestroError(f"word {call!r}: the node failed: {error!r}")
    if number is None:
        return
    wire.send(number, value, None if error is None else to_wire(error))
