"""The archiver: a program that saves CDOs before they leave the pool.

::

    offer ───────> told, required ──> written by the nodes ──> committed ──> acknowledged, let go
    withdraw ────> told before it takes effect ─────────────────────────> acknowledged

Acknowledged is what is saved, and nothing else. The subscriptions are durable: where the archiver
dies, what it has not acknowledged waits for the next one, if that comes soon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from maestro.apps.app import App
from maestro.apps.cdo import Cdo
from maestro.apps.subscription import Subscription
from maestro.config import get_seconds
from maestro.errors import DataLostError, MaestroError, PoolTimeoutError, StoreError
from maestro.pool import Pool
from maestro.programs.saving import Held, Saver
from maestro.programs.telling import Told
from maestro.scope import Scope
from maestro.selectors import Selector
from maestro.stores.archive import Archive
from maestro.stores.writing import claim
from maestro.transport.offload import off_loop

__all__ = ["Archiver"]

logger = logging.getLogger("maestro.archiver")

#: CDOs that are being written at once.
TURNS = 128


class Archiver(Scope):
    """Saves CDOs to a Zarr store, for as long as it is open. To be used in ``with``.

    Every CDO becomes an array of the store, written by the nodes that hold it and visible once it
    is complete. Its order in memory is kept as a transpose codec, its attributes as attributes; how
    it was distributed, and what else there is to say, under the attribute "maestro", from which
    `Librarian` brings it back as it was. What is offered again under a name that was saved is saved
    beside it, as ``name@2``. A CDO without data becomes an empty group.

    Parameters
    ----------
    app : App
        Connected to the pool.
    store : str or Path
        A local path, or an URL such as ``s3://bucket/prefix``, which nodes and this program see.
    selector : str, optional
        Which CDOs; all of them by default.
    resume : bool
        Whether to go on with an archive that is there: what was saved of this pool stays, what was
        not saved to its end is done again.
    compressors : sequence of dict
        Codecs of Zarr's after the bytes, such as ``{"name": "zstd", "configuration": {"level": 1,
        "checksum": True}}``; none by default.
    tell : callable, optional
        Called with the path of each CDO that is saved.

    Attributes
    ----------
    saved : dict
        Where in the store each CDO is, by path: what was saved by this archiver.
    failures : dict
        Why CDOs could not be saved, by name. They stay in the pool while the archiver is open; it
        tries again every ``maestro.stores.retry``.
    missed : list
        Names of CDOs that had left before they could be held.
    bytes_held, bytes_saved : int
        Of arrays that were to be saved, and of those that were.

    Raises
    ------
    StoreExistsError
        When it is opened, if something is there.
    StoreError
        If the store cannot be written to, or another archiver does. When it is closed, if CDOs are
        left that could not be saved.

    Examples
    --------
    >>> import tempfile, numpy as np, zarr
    >>> import maestro
    >>> with tempfile.TemporaryDirectory() as folder, maestro.connect() as app:
    ...     with maestro.Archiver(app, f"{folder}/run.zarr"):
    ...         handle = app.offer("t2m", np.arange(6.0).reshape(2, 3))
    ...         handle.withdraw()  # returns once it is saved
    ...     print(zarr.open(f"{folder}/run.zarr")["t2m"][1])
    [3. 4. 5.]
    """

    def __init__(
        self,
        app: App,
        store: str | Path,
        selector: str | None = None,
        *,
        resume: bool = False,
        compressors: Sequence[Any] = (),
        tell: Callable[[str], None] = lambda path: None,
    ) -> None:
        self._told = tell
        self._selector = Selector(selector)
        self._app, self._link = app, app._link
        self._url, self._resume, self._compressors = str(store), resume, tuple(compressors)
        self.saved: dict[str, str] = {}
        self.failures: dict[str, MaestroError] = {}
        self.missed: list[str] = []
        self.bytes_held = self.bytes_saved = 0
        self._owner = uuid4().hex
        self._held: dict[int, Held] = {}  # by version
        self._done: set[int] = set()
        self._archive: Archive | None = None
        self._events = Told(app, self._selector.text, self._soon)
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None
        self._telling: asyncio.Future[None] | None = None

    def open(self) -> Any:
        """Take the store, and save from now on: also what is in the pool already."""
        return self._link.run(self._open)

    def wait(self, count: int = 0, timeout: float | None = None) -> Any:
        """Wait until so many CDOs are saved, and none is held that is not.

        Raises
        ------
        StoreError
            If one could not be saved, as far as it was tried.
        PoolTimeoutError
            If the time runs out.
        """
        return self._link.run(self._wait, count, timeout)

    def run(self, count: int | None = None) -> Any:
        """Save until it can't go on, and raise why; or until so many CDOs are saved."""
        return self._link.run(self._run, count)

    @property
    def held(self) -> int:
        """How many CDOs are held until they are saved."""
        return len(self._held)

    def close(self) -> Any:
        """Hold no more, save what is held, and let go of the store."""
        return self._link.run(self._close)

    _second = (StoreError,)

    def _enter(self) -> Any:
        return self.open()

    def _exit(self) -> Any:
        return self.close()

    def __repr__(self) -> str:
        return f"<Archiver to {self._url}, {len(self.saved)} saved, {len(self._held)} held>"

    # Opening and closing

    async def _open(self) -> None:
        if self._archive is not None:
            return
        self._closing = asyncio.Event()
        self._changed = asyncio.Condition()
        self._turns = asyncio.Semaphore(TURNS)
        client: Any = self._link.client
        self._pool = str((await client.scheduler.identity())["id"])
        owner = {
            "pool": self._pool,
            "app": self._link.app,
            "host": platform.node(),
            "process": os.getpid(),
        }
        listing = await self._link.call("list")
        apps = {each["app"] for each in listing["apps"]}

        def dead(theirs: Any) -> bool:
            return theirs.get("pool") == self._pool and theirs.get("app") not in apps

        self._archive = archive = await off_loop(
            False, Archive, self._url, owner, dead, self._resume
        )
        self._saver = Saver(
            self._link, archive, self._pool, self._owner, self._compressors, self._note
        )
        try:
            await client.run(claim, archive.store.url, self._owner)
            await off_loop(False, archive.look)
            self._done = {
                origin["version"]
                for origin in archive.origins.values()
                if origin["pool"] == self._pool
            }
            await self._events.open(archive.identity)
            await self._look()
            for events in self._events:
                self._soon(self._follow(events))
        except BaseException:
            await self._let_go()
            raise

    async def _close(self) -> None:
        if self._archive is None:
            return
        self._closing.set()
        try:
            async with self._changed:
                await self._changed.wait_for(
                    lambda: self._broken or not (self._held or self._events.acknowledging)
                )
            await self._events.end()
        finally:
            await self._let_go()
        if self._broken is not None:
            raise self._broken
        if self.failures:
            raise self._unsaved()

    async def _let_go(self) -> None:
        archive, self._archive = self._archive, None
        self._closing.set()
        for task in set(self._tasks):
            task.cancel()
        await self._saver.close()
        for held in self._held.values():
            self._link.tell("dispose", handle=held.handle)
        self._held.clear()
        if archive is not None:
            await off_loop(False, archive.close)

    def _unsaved(self) -> StoreError:
        names = ", ".join(map(repr, list(self.failures)[:5]))
        first = next(iter(self.failures.values()))
        error = StoreError(
            f"store {self._url}: {len(self.failures)} CDOs are not saved, {names}: {first}"
        )
        error.__cause__ = first
        return error

    async def _wait(self, count: int, timeout: float | None) -> None:
        def enough() -> bool:
            return bool(self.failures or self._broken) or (
                len(self.saved) >= count and not self._held
            )

        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(enough)
        except TimeoutError:
            raise PoolTimeoutError(
                f"store {self._url}: {len(self.saved)} CDOs saved after {timeout:g} s, expected"
                f" {count}; {len(self._held)} are held"
            ) from None
        if self._broken is not None:
            raise self._broken
        if self.failures:
            raise self._unsaved()

    async def _run(self, count: int | None) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._broken or (count is not None and len(self.saved) >= count)
            )
        if self._broken is not None:
            raise self._broken

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Work in the background; what goes wrong there ends all of it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and task.exception() is not None:
                self._broken = self._broken or task.exception()
                logger.error("Archiver to %s: %r", self._url, self._broken)
            self._tell()

        task.add_done_callback(done)

    def _tell(self) -> None:
        """Let those who wait look again, once for all that changes meanwhile."""
        if self._telling is None or self._telling.done():
            self._telling = asyncio.ensure_future(self._wake())

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _note(self, nbytes: int) -> None:
        self.bytes_saved += nbytes

    # What is to be saved

    async def _follow(self, events: Subscription) -> None:
        """Save what is told of, and acknowledge that."""
        while batch := await events._wait(None, None):  # none once it has ended
            for event in batch:
                if event.kind == "missed":
                    await self._look()
                    continue
                name, version = str(event.name), event.payload.get("version")
                held = None if version is None else self._hold(name, version, event.payload)
                if held is None:
                    self._events.acknowledge(events, event.serial)
                else:
                    held.told.append((events, event.serial))

    async def _look(self) -> None:
        """Save what is in the pool."""
        pool = Pool(await self._link.call("list"))
        for entry in pool.select(self._selector.text):
            self._hold(entry.name, entry.version, {})

    def _hold(self, name: str, version: int, payload: Mapping[str, Any]) -> Held | None:
        """Have a version saved; None if it is already, or is not to be."""
        if version in self._held:
            return self._held[version]
        if version in self._done or self._closing.is_set():
            return None
        held = self._held[version] = Held(Cdo(self._link, name))
        self._soon(self._require(version, held, partly="rank" in payload))
        return held

    async def _require(self, version: int, held: Held, partly: bool) -> None:
        """See to it that a version stays, and save it."""
        seal = held.cdo._sealing()
        try:
            if partly:  # other ranks may still be on their way
                await self._link.call("require", first=seal, handle=held.handle)
            else:
                held.found = await held.cdo._ask(0, seal, along=False)
            if held.found is not None and held.found["version"] != version:
                raise PoolTimeoutError(f"CDO {held.name!r}: version {version} is not there")
        except PoolTimeoutError:
            logger.warning("CDO %r left before it could be saved to %s", held.name, self._url)
            self.missed.append(held.name)
            self._forget(version)
        else:
            await self._save(version, held)

    def _forget(self, version: int) -> None:
        held = self._held.pop(version)
        self._link.tell("dispose", handle=held.handle)
        for events, serial in held.told:
            self._events.acknowledge(events, serial)
        self._tell()

    # Saving it

    async def _save(self, version: int, held: Held) -> None:
        """Save a CDO, however often it takes, and let it go."""
        counted = False
        while True:
            try:
                if held.found is None:
                    held.found = await self._completed(version, held)
                if held.found is None:
                    break
                if not counted:
                    self.bytes_held += held.nbytes
                    counted = True
                async with self._turns:
                    await self._saver.save(held)
            except (DataLostError, PoolTimeoutError) as error:
                if not await self._still_there(version, held):
                    self.failures[held.name] = error
                    break
            except MaestroError as error:
                self.failures[held.name] = error
                logger.error("CDO %r stays in the pool: %s", held.name, error)
            else:
                self.failures.pop(held.name, None)
                self.saved[held.path] = held.name
                self._told(held.path)
                cast(Archive, self._archive).documents[held.path] = held.document
                self._done.add(version)
                self._link.tell("received", handle=held.handle, served=True, stay=False, moved={})
                break
            self._tell()
            if self._closing.is_set():
                break
            try:
                async with asyncio.timeout(get_seconds("stores.retry")):
                    await self._closing.wait()
            except TimeoutError:
                continue
        self._forget(version)

    async def _completed(self, version: int, held: Held) -> dict[str, Any] | None:
        """What the pool says of a version once all of its ranks are there; None if they won't be.

        They are not waited for by an archiver that closes.
        """
        found = asyncio.ensure_future(held.cdo._ask(along=False))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({found, closing}, return_when=asyncio.FIRST_COMPLETED)
            if found.done() and found.result()["version"] == version:
                return found.result()
        except DataLostError as error:
            logger.info("CDO %r was never complete: %s", held.name, error)
        finally:
            found.cancel()
            closing.cancel()
        return None

    async def _still_there(self, version: int, held: Held) -> bool:
        """Whether a CDO that could not be read can be read again."""
        try:
            held.found = await held.cdo._ask(0, along=False)
        except (DataLostError, PoolTimeoutError):
            return False
        return bool(held.found is not None and held.found["version"] == version)
