"""A program that keeps chosen CDOs in the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from maestro.apps.app import App
from maestro.apps.cdo import Cdo
from maestro.apps.subscription import Subscription
from maestro.errors import PoolLostError
from maestro.scope import Scope

__all__ = ["KeepAlive", "offered"]


class KeepAlive(Scope):
    """Requires what a selector selects, so that it stays in the pool.

    What is there, and whatever is offered from then on: the pool lets none of it go before it is
    required here. Withdrawals wait until this stops, or its app leaves. It serves ``with``, or
    ``async with`` where its app is asynchronous.

    Parameters
    ----------
    app : App
        On whose behalf; connected.
    selector : str, optional
        Which CDOs; all by default.
    tell : callable, optional
        Called with the name of each CDO that is kept, each time that it is offered anew.

    Attributes
    ----------
    kept : dict
        What is kept, by name and version.

    Examples
    --------
    >>> import maestro
    >>> with maestro.connect() as app, KeepAlive(app, "(step = 6)") as keep:
    ...     cdo = app.offer("t2m", [280.0], attributes={"step": 6})
    ...     cdo.withdraw(timeout=0.1)
    Traceback (most recent call last):
    ...
    maestro.errors.PoolTimeoutError: CDO 't2m': not withdrawn after 0.1 s: still required by app-...
    """

    def __init__(
        self,
        app: App,
        selector: str | None = None,
        tell: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.kept: dict[tuple[str, int], Cdo] = {}
        self._app = app
        self._selector = selector
        self._tell = tell
        self._subscription: Subscription | None = None
        self._following: asyncio.Task[None] | None = None

    def start(self) -> Any:
        """Begin; returns once what is in the pool is kept.

        Raises
        ------
        SelectorError
            If the selector can't be read; the text shows where.
        """
        return self._app._link.run(self._start)

    def stop(self) -> Any:
        """Let everything go."""
        return self._app._link.run(self._stop)

    def wait(self) -> Any:
        """Wait until it can't go on, and raise why: without limit if all is well."""
        return self._app._link.run(self._wait)

    def _enter(self) -> Any:
        return self.start()

    def _exit(self) -> Any:
        return self.stop()

    async def _start(self) -> None:
        self._subscription = await self._app._subscribe(
            selector=self._selector, kinds=["offer"], when="after", ack=True, own=True, since=None
        )
        await self._keep_all()
        self._following = asyncio.create_task(self._follow(self._subscription))

    async def _keep_all(self) -> None:
        pool = await self._app._list_pool()
        for entry in pool.select(self._selector):
            await self._keep(entry.name, entry.version)

    async def _follow(self, subscription: Subscription) -> None:
        while events := await subscription._wait(None, None):
            for event in events:
                if event.kind == "missed":
                    await self._keep_all()
                else:
                    await self._keep(str(event.name), event.payload["version"])
            await subscription._ack([event.serial for event in events if event.kind != "missed"])

    async def _keep(self, name: str, version: int) -> None:
        if (name, version) not in self.kept:  # every rank of it tells of its offer
            cdo = self._app.declare(name)
            await cdo._require(wanted=False)
            self.kept[name, version] = cdo
            self._tell(name)

    async def _wait(self) -> None:
        if self._following is not None:
            await asyncio.shield(self._following)

    async def _stop(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.wait([following])
        kept, self.kept = self.kept, {}
        with suppress(PoolLostError):  # then there is nothing to let go
            if self._subscription is not None:
                await self._subscription._end()
            for cdo in kept.values():
                await cdo._retract()
                await cdo._dispose()


async def offered(app: App, name: str) -> None:
    """Wait until a CDO of a name is offered, or is in the pool already.

    Parameters
    ----------
    app : App
        Asynchronous.
    name : str
    """
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    async with await app.subscribe(
        f'(.maestro.core.cdo.name = "{quoted}")', kinds="offer"
    ) as offers:
        if name not in await app.pool:
            await offers.wait()
