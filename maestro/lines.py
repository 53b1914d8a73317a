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
import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from distributed import Status
from distributed.comm.core import Comm

from maestro import messages as m
from maestro.errors import MaestroError, ProtocolError, to_wire
from maestro.transport.wire import Wire, accept_wire

__all__ = ["Lines"]

logger = logging.getLogger("maestro.manager")

#: Seconds for which one line may be served before others get their turn.
SLICE = 0.005

#: Bytes of answers that an app may leave unread before its next calls wait.
BEHIND = 1 << 20

#: Takes the value and the error that a call is answered with; one of them is None.
Then: TypeAlias = Callable[[Any, dict[str, str] | None], None]


@dataclass(slots=True)
class _Asked:
    """A request that is not answered yet."""

    then: Then
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
    """

    def __init__(self, carry_out: Callable[[Any], None]) -> None:
        self.waiting: dict[int, _Asked] = {}
        self._carry_out = carry_out
        self._requests = itertools.count()
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
        asked.then(value, None if error is None else to_wire(error))

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

        def reply(value: Any, error: dict[str, str] | None) -> None:
            if call == "join" and error is None:
                self._wires[app] = wire
            if number is None:
                return
            try:
                wire.send(number, value, error)
            except (TypeError, ValueError, OverflowError) as problem:
                failure = MaestroError(f"call {call!r}: no message can hold the answer: {problem}")
                wire.send(number, None, to_wire(failure))

        def go_on(_: Any, error: dict[str, str] | None) -> None:
            if error is None:
                self._ask(app, call, fields, timeout, reply)
            else:
                reply(None, error)

        if first is None:
            self._ask(app, call, fields, timeout, reply)
        elif isinstance(first, dict) and "word" in first:
            self._ask(app, first.pop("word"), first, None, go_on)
        else:
            reply(None, to_wire(ProtocolError(f"first: got {first!r}, expected 'word' and fields")))

    def _ask(self, app: str, call: Any, fields: dict[str, Any], timeout: Any, then: Then) -> None:
        request = next(self._requests)
        try:
            if not (timeout is None or (isinstance(timeout, int | float) and timeout >= 0)):
                raise ProtocolError(f"timeout: got {timeout!r}, expected seconds or None")
            message = m.decode(call, request, {**fields, "app": app})
        except MaestroError as error:
            then(None, to_wire(error))
            return
        asked = self.waiting[request] = _Asked(then)
        self._carry_out(message)
        if timeout is not None and request in self.waiting:
            expired = m.Expired(request, str(fields.get("handle", "")), timeout)
            asked.timer = asyncio.get_running_loop().call_later(timeout, self._expire, expired)

    def _expire(self, message: m.Expired) -> None:
        if message.request in self.waiting:
            self._carry_out(message)
