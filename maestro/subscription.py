"""What an app has subscribed to: events to poll, to wait for, to go through and to acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Any

from maestro.errors import LifecycleError, PoolLostError
from maestro.events import Event, unpack
from maestro.link import Link

__all__ = ["Subscription"]


class Subscription:
    """Events of a pool, as they happen; made by `App.subscribe`.

    Every call blocks until it is done, or returns an awaitable where the app is asynchronous. One
    program part at a time fetches events; others may acknowledge meanwhile.
    """

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name
        self._ended = False

    def poll(self, most: int | None = None) -> Any:
        """The events that are there now, a list, oldest first; so many at most.

        Returns
        -------
        list of Event
            Where the subscriber was too slow, the first is of kind "missed".
        """
        return self._link.run(self._poll, most, 0.0)

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
        return self._link.run(self._poll, most, timeout)

    def ack(self, events: Event | Iterable[Event]) -> Any:
        """Acknowledge an event, or several at once.

        What the pool does not wait for, or not any more, is let pass.
        """
        if isinstance(events, Event):
            events = [events]
        return self._link.run(self._ack, [event.serial for event in events])

    def end(self) -> Any:
        """Be told no more, and be waited for no more; a second time does nothing."""
        return self._link.run(self._end)

    def __iter__(self) -> Iterator[Event]:
        while not self._ended:
            yield from self.wait()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while not self._ended:
            for event in await self.wait():
                yield event

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.end()

    def __repr__(self) -> str:
        return f"<Subscription {self._name!r}{', ended' if self._ended else ''}>"

    async def _poll(self, most: int | None, timeout: float | None) -> list[Event]:
        if most is not None and not (isinstance(most, int) and most > 0):
            raise ValueError(f"most: got {most!r}, expected a number of events above 0, or None")
        try:
            batch = await self._link.call(
                "poll", timeout=timeout, subscription=self._name, most=most
            )
        except (LifecycleError, PoolLostError):
            if self._ended:
                return []
            raise
        events = list(unpack(batch))
        if not events:
            await asyncio.sleep(0)  # let others run where somebody polls in a loop
        return events

    async def _ack(self, serials: list[int]) -> None:
        await self._link.call("ack", subscription=self._name, serials=serials)

    async def _end(self) -> None:
        if not self._ended:
            self._ended = True  # first, for whoever waits for events meanwhile
            try:
                await self._link.call("unsubscribe", subscription=self._name)
            except LifecycleError:
                self._ended = False
                raise
