"""How a program comes to a pool, and leaves it again."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote
from uuid import uuid4

from distributed import Client
from distributed.security import Security

from maestro.apps.link import Link
from maestro.apps.reach import reach, reach_async
from maestro.apps.telemetry import Telemetry
from maestro.config import get_path, get_seconds
from maestro.errors import LifecycleError, MaestroError, PoolLostError
from maestro.schemas import Schemas
from maestro.scope import Scope

if TYPE_CHECKING:
    from maestro.triggers.trigger import Trigger

__all__ = ["Connection"]

logger = logging.getLogger("maestro.app")


class Connection(Scope):
    """A program's connection to a pool, blocking or asynchronous: what every `App` is."""

    def __init__(
        self,
        pool: Any,
        workflow: str,
        component: str,
        security: Security | None,
        timeout: float | None,
        asynchronous: bool | None,
        schemas: Schemas,
    ) -> None:
        for name, given in (("workflow", workflow), ("component", component)):
            if not isinstance(given, str):
                raise TypeError(f"{name}: got {given!r}, expected a string")
        self.name = f"{component}-{uuid4().hex[:8]}"
        self.workflow = workflow
        self.component = component
        self.schemas = schemas
        # None until it is known: a blocking client or cluster may serve either way.
        if asynchronous is None and getattr(pool, "asynchronous", False):
            asynchronous = True
        self._asynchronous = asynchronous
        self._how = (pool, security, timeout or get_seconds("timeouts.connect"))
        self._started: Any = None  # the exit stack of what was started for this app
        self._line: Link | None = None
        self._triggers: set[Trigger] = set()  # which end with it
        self._telemetry = Telemetry(self.name)
        self._left = False

    @property
    def client(self) -> Client:
        """The Dask client of this app, to compute with what `Cdo.demand_dask` gives.

        It is not Dask's default client, unless `connect` was given one that is:
        ``with app.client.as_current(): array.compute()``.
        """
        return self._link.client

    @property
    def report(self) -> Telemetry:
        """What this app has done with each CDO so far, and how long it took; also once it has left.

        A mapping from names to accounts, printed as a table. An app that leaves logs it in short,
        and leaves it in a file where ``maestro.telemetry.directory`` says so.
        """
        return self._telemetry

    @property
    def address(self) -> str:
        """What another app passes to `connect` to join this pool."""
        return self._link.address

    def leave(self) -> Any:
        """Disconnect. What this app offers leaves the pool once those who require it are served."""
        return self._leave_async() if self._asynchronous else self._leave()

    close = leave

    def _enter(self) -> Any:
        return self._link

    def _exit(self) -> Any:
        return self.leave()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self

    def __repr__(self) -> str:
        where = "left" if self._left else "not connected"
        if self._line is not None:
            where = self.address
        return f"<App {self.name!r} of workflow {self.workflow!r}, {where}>"

    # Coming and going

    @property
    def _link(self) -> Link:
        """The line to the pool; the first use connects a blocking app that has not yet."""
        if self._left:
            raise PoolLostError(f"app {self.name!r} has left the pool")
        if self._line is None:
            if self._asynchronous:
                raise LifecycleError(
                    f"app {self.name!r} is asynchronous and not connected: use async with, or"
                    " await it"
                )
            self._asynchronous = False
            client, self._started = reach(*self._how)
            self._line = Link(client, self.name, False, self._telemetry)
            try:
                self._line.run(self._join)
            except BaseException:
                self._leave()
                raise
        return self._line

    async def _open(self) -> Self:
        if self._asynchronous is False:
            raise LifecycleError(f"app {self.name!r} is blocking: use with")
        self._asynchronous = True
        if self._line is None and not self._left:
            client, self._started = await reach_async(*self._how)
            self._line = Link(client, self.name, True, self._telemetry)
            try:
                await self._line.run(self._join)
            except BaseException:
                await self._leave_async()
                raise
        return self

    async def _join(self) -> None:
        link = self._link
        await link.open()
        await link.call(
            "join", client=link.client.id, workflow=self.workflow, component=self.component
        )
        logger.info("%s of workflow %r joined %s", self.name, self.workflow, link.address)

    def _leave(self) -> None:
        line, self._line, self._left = self._line, None, True
        if line is not None:
            with suppress(MaestroError):
                line.run(self._farewell, line)
            line.ways.close()
            self._started.close()
            self._say_farewell()

    async def _leave_async(self) -> None:
        line, self._line, self._left = self._line, None, True
        if line is not None:
            with suppress(MaestroError):
                await line.run(self._farewell, line)
            line.ways.close()
            await self._started.aclose()
            self._say_farewell()

    async def _farewell(self, line: Link) -> None:
        try:
            for trigger in list(self._triggers):
                await trigger._close()
            await line.call("leave")
        finally:
            await line.close()

    def _say_farewell(self) -> None:
        """Log what this app has done, and leave it in a file if one is wanted."""
        report = self._telemetry
        logger.info("%s left the pool: %s", self.name, report.summary())
        logger.debug("%s:\n%s", self.name, report)
        if (folder := get_path("telemetry.directory")) is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                report.write(folder / f"{quote(self.name, safe=' ')}.json")
            except OSError as error:
                logger.warning("%s leaves no report: %s", self.name, error)
