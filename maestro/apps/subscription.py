"""What an app has subscribed to: events to poll, to wait for, to go through and to acknowledge."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from time import monotonic
from typing import Any, cast

from maestro.apps.link import LOOK, Link, check_timeout
from maestro.config import get_number
from maestro.errors import LifecycleError, MaestroError, PoolLostError
from maestro.events import Event, unpack
from maestro.messages import BATCH, MOST_AHEAD
from maestro.scope import Scope

__all__ = ["Subscription"]


class Subscription(Scope):
    """Events of a pool, as they happen; made by `App.subscribe`.

    Every call blocks until it is done, or returns an awaitable where the app is asynchronous. One
    program part at a time fetches events; others may acknowledge meanwhile.

    Whoever waits for events, or goes through them, is told of them as they happen from then on:
    ``maestro.events.ahead`` of them can be here before they are asked for.
    """

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name
        self._ended = False
        self._events: deque[Event] = deque()  # that have come, and nobody has taken yet
        self._ahead = min(max(1, int(get_number("events.ahead"))), MOST_AHEAD)
        self._credit = 0  # events that may still come without being asked for
        self._told = False  # whether they come
        self._lost: MaestroError | None = None
        self._latest = 0  # serial that has come
        self._arrived = asyncio.Event()
        self._arrived_here = threading.Event()  # the same, for threads that block
        link.listeners[name] = self._hear

    def poll(self, most: int | None = None) -> Any:
        """The events that are there now, a list, oldest first; so many at most.

        Returns
        -------
        list of Event
            Where the subscriber was too slow, the first is of kind "missed".
        """
        return self._link.run(self._poll, most)

    def wait(self, timeout: float | None = None, most: int | None = None) -> Any:
        """Wait for events.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; without limit by default.
        most : int, optional
            Events to return at most.

        Returns
        -------
        list of Event
            At least one; none if the time ran out, or the subscription was ended meanwhile.
        """
        if self._link.asynchronous:
            return self._link.run(self._wait, timeout, most)
        return self._wait_here(timeout, most)

    def ack(self, events: Event | Iterable[Event]) -> Any:
        """Acknowledge an event, or several at once.

        The pool hears it before this app's next call, and is not waited for. What it does not wait
        for itself, or not any more, is let pass.

        Raises
        ------
        LifecycleError
            If one has not been told to this subscriber, or it has ended; none is acknowledged.
        """
        if isinstance(events, Event):
            events = [events]
        serials = [event.serial for event in events]
        if self._link.asynchronous:
            return self._link.run(self._ack, serials)
        self._link.check()
        self._check_ack(serials)
        self._link.tell_soon("ack", subscription=self._name, serials=serials)

    def end(self) -> Any:
        """Be told no more, and be waited for no more; a second time does nothing."""
        return self._link.run(self._end)

    def __iter__(self) -> Iterator[Event]:
        while not self._ended:
            yield from self.wait(most=1)  # what is not gone through is left for the next time

    async def __aiter__(self) -> AsyncIterator[Event]:
        while not self._ended:
            for event in await self.wait(most=1):
                yield event

    def _exit(self) -> Any:
        return self.end()

    def __repr__(self) -> str:
        return f"<Subscription {self._name!r}{', ended' if self._ended else ''}>"

    # In a program's own thread

    def _wait_here(self, timeout: float | None, most: int | None) -> list[Event]:
        """As `_wait`, without waking another thread but where there is something to be said."""
        _check(most, timeout)
        if timeout == 0:
            return cast(list[Event], self._link.run(self._poll, most))
        until = math.inf if timeout is None else monotonic() + timeout
        while self._nothing():
            if not self._told:
                self._link.run(self._begin)
            self._arrived_here.clear()
            left = min(LOOK, until - monotonic())
            if left <= 0:
                return []
            if self._nothing() and not self._arrived_here.wait(left):
                self._link.check()
        events = self._take(most)
        if self._room > self._ahead // 2:
            self._link.loop.call_soon_threadsafe(self._top_up)
        return events

    # On the client's loop

    def _hear(self, said: bytes | MaestroError) -> None:
        """Events have come, or will never any more."""
        if isinstance(said, bytes):
            events = self._unpacked(said)
            self._credit -= len(events)
            self._events.extend(events)
        else:
            self._lost = said
        self._arrived.set()
        self._arrived_here.set()

    async def _wait(self, timeout: float | None, most: int | None) -> list[Event]:
        _check(most, timeout)
        if timeout == 0:
            return await self._poll(most)
        try:
            async with asyncio.timeout(timeout):
                while self._nothing():
                    if not self._told:
                        await self._begin()
                        continue
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return []
        events = self._take(most)
        self._top_up()
        return events

    async def _poll(self, most: int | None) -> list[Event]:
        _check(most, None)
        events = self._take(most)
        left = math.inf if most is None else most - len(events)
        while left > 0 and not self._ended:
            asked = min(BATCH, left)
            found = self._unpacked(await self._call("poll", most=int(asked)) or b"")
            # What was told while the answer was on its way may be younger, or older.
            events = sorted([*events, *self._take(None), *found], key=lambda event: event.serial)
            left -= len(found)
            if len(found) < asked:
                break
        if most is not None:
            self._events.extendleft(reversed(events[most:]))
            del events[most:]
        if not events:
            await asyncio.sleep(0)  # let others run where somebody polls in a loop
        return events

    async def _begin(self) -> None:
        """Have events told from now on."""
        if await self._call("more", count=self._ahead) is not None:
            self._told = True
            self._credit = self._ahead

    def _top_up(self) -> None:
        """Let as many more be told as there is room for, if that is worth a word."""
        room = self._room
        if self._told and room > self._ahead // 2:
            self._credit += room
            self._link.tell("more", subscription=self._name, count=room)

    @property
    def _room(self) -> int:
        return self._ahead - self._credit - len(self._events)

    def _nothing(self) -> bool:
        """Whether there is nothing to be had, but may be soon."""
        if self._ended or self._events:
            return False
        if self._lost is not None:
            raise self._lost
        return True

    def _take(self, most: int | None) -> list[Event]:
        if self._ended:
            self._events.clear()
        there = len(self._events)
        return [self._events.popleft() for _ in range(there if most is None else min(most, there))]

    async def _call(self, word: str, **fields: Any) -> Any:
        """Ask the manager about this subscription; None where it has been ended here."""
        try:
            return await self._link.call(word, subscription=self._name, **fields)
        except (LifecycleError, PoolLostError):
            if self._ended:
                return None
            raise

    def _unpacked(self, said: bytes) -> list[Event]:
        events = list(unpack(said))
        if events:
            self._latest = max(self._latest, events[-1].serial)
        return events

    async def _ack(self, serials: list[int]) -> None:
        self._check_ack(serials)
        self._link.tell("ack", subscription=self._name, serials=serials)

    def _check_ack(self, serials: list[int]) -> None:
        if self._lost is not None:
            raise self._lost
        if self._ended:
            raise LifecycleError(f"ack: subscription {self._name!r} is unknown, or was ended")
        wrong = [serial for serial in serials if not 0 < serial <= self._latest]
        if wrong:
            raise LifecycleError(
                f"ack: got event {wrong[0]!r}, expected one of those that the subscription was"
                f" told, up to {self._latest}"
            )

    async def _end(self) -> None:
        if not self._ended:
            self._ended = True  # first, for whoever waits for events meanwhile
            self._arrived.set()
            self._arrived_here.set()
            try:
                await self._link.call("unsubscribe", subscription=self._name)
            except LifecycleError:
                self._ended = False
                raise
            self._link.listeners.pop(self._name, None)


def _check(most: int | None, timeout: float | None) -> None:
    check_timeout(timeout)
    if most is not None and not (isinstance(most, int) and most > 0):
        raise ValueError(f"most: got {most!r}, expected a number of events above 0, or None")
