"""The manager's ends of the apps' lines: calls come in, answers and events go out.

::

    app                                                                        manager
     |  {"op": "maestro_line", "app": ..., "protocol": ..., "socket": ...}        |
     |------------------------------------------------------------------- opens it |
     |<--------------------------------  {"socket": ...}, or {"error": ...}        |
     |  number, call, fields, timeout, first  ------------------------------------>|
     |<----------------------------------------------------  number, value, error  |
     |<-----------------------------------------  None, subscription, its events   |

After the first message of each side, all are of `maestro.transport.wire`. A call whose number is
None is not answered. ``first`` is another call, its word with its fields, that is made before; if
it is refused, that is the answer. An app that has joined is gone with its line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from distributed import Status
from distributed.comm.core import Comm

from maestro import messages as m
from maestro.decoding import decode
from maestro.errors import MaestroError, ProtocolError, to_wire
from maestro.transport.wire import Wire, accept_wire

__all__ = ["Lines"]

logger = logging.getLogger("maestro.manager")

#: Seconds for which one line may be served before others get their turn, and subscribers are told.
SLICE = 0.01

#: Bytes of answers that an app may leave unread before its next calls wait.
BEHIND = 1 << 20


@dataclass(slots=True)
class _Asked:
    """A request that is not answered yet."""

    wire: Wire
    app: str
    number: int | None  # None: nobody waits for the answer
    call: Any
    rest: tuple[Any, dict[str, Any], Any] | None  # what is asked next, if this is not refused
    timer: asyncio.TimerHandle | None = None


class Lines:
    """All lines, and what was asked over them.

    Parameters
    ----------
    carry_out : callable
        Takes messages of `maestro.messages`, and has them answered by `answer`.

    Attributes
    ----------
    waiting : dict
        What is not answered yet, by request.
    asked : int
        How many requests there have been.
    """

    def __init__(self, carry_out: Callable[[Any], None]) -> None:
        self.waiting: dict[int, _Asked] = {}
        self._carry_out = carry_out
        self.asked = 0
        self._wires: dict[str, Wire] = {}  # by app, once it has joined

    async def serve(
        self, comm: Comm, app: Any = None, protocol: Any = None, socket: Any = False
    ) -> Status:
        """Serve one line, until the app closes it or it breaks."""

        def check() -> None:
            m.check_protocol(protocol, "app")
            if not isinstance(app, str):
                raise ProtocolError(f"app: got {app!r}, expected its name")

        wire = await accept_wire(comm, socket, check)
        if wire is None:
            return Status.dont_reply
        try:
            while True:
                await self._take(wire, app, await wire.read())
        except OSError:
            pass
        except ProtocolError as error:
            logger.warning("App %s: %s", app, error)
        finally:
            wire.close()
            if self._wires.get(app) is wire:
                del self._wires[app]
                self._carry_out(m.LineLost(app))
        return Status.dont_reply

    def answer(self, request: int, value: Any, error: MaestroError | None = None) -> None:
        """Answer a request."""
        asked = self.waiting.pop(request)
        if asked.timer is not None:
            asked.timer.cancel()
        if asked.rest is None or error is not None:
            self._reply(asked, value, error)
        else:
            self._ask(_Asked(asked.wire, asked.app, asked.number, asked.rest[0], None), *asked.rest)

    def tell(self, app: str, subscription: str, events: bytes) -> None:
        """Let an app have events of a subscription."""
        wire = self._wires.get(app)
        if wire is not None:
            wire.send(None, subscription, events)

    async def _take(self, wire: Wire, app: str, words: Iterable[Any]) -> None:
        """Take in a message's words; if there are many, others get their turn in between."""
        clock = asyncio.get_running_loop().time
        until = clock() + SLICE
        for word in words:
            self._hear(wire, app, word)
            if wire.unsent > BEHIND:
                await wire.drain()
            if clock() > until:
                await asyncio.sleep(0)
                until = clock() + SLICE

    def _hear(self, wire: Wire, app: str, word: Any) -> None:
        try:
            number, call, fields, timeout, first = word
            if not isinstance(number, int | None) or not isinstance(fields, dict):
                raise TypeError(f"got {number!r} and {fields!r}, expected a number and fields")
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"line: got no call: {error}") from None

        if first is None:
            self._ask(_Asked(wire, app, number, call, None), call, fields, timeout)
        elif isinstance(first, dict) and "word" in first:
            word, rest = first.pop("word"), (call, fields, timeout)
            self._ask(_Asked(wire, app, number, word, rest), word, first, None)
        else:
            wrong = ProtocolError(f"first: got {first!r}, expected 'word' and fields")
            self._reply(_Asked(wire, app, number, call, None), None, wrong)

    def _reply(self, asked: _Asked, value: Any, error: MaestroError | None) -> None:
        if asked.call == "join" and error is None:
            self._wires[asked.app] = asked.wire
        if asked.number is None:
            return
        try:
            asked.wire.send(asked.number, value, None if error is None else to_wire(error))
        except (TypeError, ValueError, OverflowError) as problem:
            text = f"call {asked.call!r}: no message can hold the answer: {problem}"
            asked.wire.send(asked.number, None, to_wire(MaestroError(text)))

    def _ask(self, asked: _Asked, call: Any, fields: dict[str, Any], timeout: Any) -> None:
        request = self.asked = self.asked + 1
        try:
            if not (timeout is None or (isinstance(timeout, int | float) and timeout >= 0)):
                raise ProtocolError(f"timeout: got {timeout!r}, expected seconds or None")
            fields["app"] = asked.app
            message = decode(call, request, fields)
        except MaestroError as error:
            self._reply(asked, None, error)
            return
        self.waiting[request] = asked
        self._carry_out(message)
        if timeout is not None and request in self.waiting:
            expired = m.Expired(request, str(fields.get("handle", "")), timeout)
            asked.timer = asyncio.get_running_loop().call_later(timeout, self._expire, expired)

    def _expire(self, message: m.Expired) -> None:
        if message.request in self.waiting:
            self._carry_out(message)
