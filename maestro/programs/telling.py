"""What an archiver is told: subscriptions that outlive it.

Where an archiver dies, what it has not acknowledged waits for the next one of the same archive.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from maestro.apps.app import App
from maestro.apps.subscription import Subscription
from maestro.config import get_seconds
from maestro.errors import LifecycleError

__all__ = ["Told"]

#: Seconds between questions whether a subscription is free.
ASK = 0.05


class Told:
    """Subscriptions of an archive: to offers, and to withdrawals before they take effect.

    Parameters
    ----------
    app : App
        The archiver's.
    selector : str or None
        Which CDOs.
    soon : callable
        Has a coroutine run in the background.
    """

    def __init__(
        self,
        app: App,
        selector: str | None,
        soon: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._app, self._selector, self._soon = app, selector, soon
        self._all: list[Subscription] = []
        self._heard: defaultdict[Subscription, list[int]] = defaultdict(list)
        self.acknowledging = False

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._all)

    async def open(self, archive: str) -> None:
        """Be told, also of what an archiver of this archive that died has left."""
        for kind, when in (("offer", "after"), ("withdraw", "before")):
            self._all.append(await self._subscribe(kind, when, archive))

    async def end(self) -> None:
        """Be told no more; the pool waits for nobody any more."""
        for events in self._all:
            await events._end()

    def acknowledge(self, events: Subscription, serial: int) -> None:
        """Acknowledge soon, with all that comes up meanwhile."""
        self._heard[events].append(serial)
        if not self.acknowledging:
            self.acknowledging = True
            self._soon(self._acknowledge_all())

    async def _acknowledge_all(self) -> None:
        try:
            while self._heard:
                events, serials = self._heard.popitem()
                await events._ack(serials)
        finally:
            self.acknowledging = False

    async def _subscribe(self, kind: str, when: str, archive: str) -> Subscription:
        """Subscribe in place of one that is dead.

        That it is, the store's lock says; the pool may be told of it a little later.
        """
        async with asyncio.timeout(get_seconds("timeouts.connect")):
            while True:
                try:
                    return await self._app._subscribe(
                        selector=self._selector,
                        kinds=[kind],
                        when=when,
                        ack=True,
                        own=True,
                        since=None,
                        durable=f"maestro-archive-{archive}-{kind}",
                        patience=get_seconds("stores.patience"),
                    )
                except LifecycleError:
                    await asyncio.sleep(ASK)
