"""Tasks that begin when what they need is in the pool.

::

    offer ──> told ──> required, acknowledged ──> one of each? ──> a turn ──> demanded ──> the task
                                  └──────────────── it cannot leave the pool ────────────────┘

A trigger runs in its app: it is told of offers, and keeps what matches by a requirement. Once a set
is complete, each of its CDOs is brought to the worker whose node has most of it, and a task of
Dask's works on them there. The requirement lasts until that has ended; so if the worker dies, all
is done again elsewhere.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter, deque
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Hashable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from distributed import Future
from distributed.protocol.pickle import dumps

from maestro.apps.cdo import Cdo
from maestro.apps.link import check_timeout
from maestro.apps.subscription import Subscription
from maestro.config import get_number
from maestro.errors import DataLostError, PoolLostError
from maestro.events import Event
from maestro.scope import Scope
from maestro.transport.tasks import ended
from maestro.triggers.conditions import Condition, Joining
from maestro.triggers.matches import (
    bring,
    call,
    call_async,
    call_part,
    call_part_async,
    fail,
    lay_parts,
)

if TYPE_CHECKING:
    from maestro.apps.app import App

__all__ = ["Trigger"]

logger = logging.getLogger("maestro.trigger")

#: Versions that are remembered once their tasks have ended: each rank of a CDO tells of its offer,
#: and the last of them may be heard late.
SEEN = 1 << 16


@dataclass(eq=False)
class _Kept:
    """A CDO that stays in the pool until its task has ended."""

    handle: Cdo
    version: int

    @property
    def name(self) -> str:
        return self.handle.name


class Trigger(Scope):
    """Tasks that begin when CDOs are in the pool; made by `App.when`.

    Going through it gives the key and the Dask future of each task as it ends, well or in an error,
    until the trigger has ended and with it the last of its tasks. It serves ``for`` and ``with``;
    ``async for``, ``async with`` and ``await`` where its app is asynchronous. Of results that
    nobody takes the latest are kept, ``maestro.triggers.kept`` of them.

    Attributes
    ----------
    function : callable
        What the tasks call. The trigger can be called like it.
    started, failed : int
        Sets of CDOs whose turn has come, and of these how many ended in an error.
    missed : int
        CDOs that had left the pool before they could be kept.
    """

    def __init__(
        self,
        app: App,
        function: Callable[..., Any],
        condition: Condition,
        own: bool,
        limit: int,
        parts: bool,
        how: Mapping[str, Any],
    ) -> None:
        if not callable(function):
            raise TypeError(f"when: got {function!r}, expected a function")
        try:
            dumps(function)
        except Exception as error:  # whatever its own pickling raises
            raise TypeError(f"when: {function!r} can't be sent to workers: {error}") from error
        self.function = function
        self.started = self.failed = self.missed = 0
        self._app, self._link = app, app._link
        self._name = getattr(function, "__name__", type(function).__name__)
        self._condition, self._own, self._parts, self._how = condition, own, parts, how
        self._joining: Joining[_Kept] = Joining(len(condition.selectors))
        self._turns = asyncio.Semaphore(limit)
        self._keeping: Counter[int] = Counter()  # by version: the tasks that it is kept for
        self._seen: dict[int, None] = {}  # versions that were kept
        self._running: set[asyncio.Task[None]] = set()
        self._done: deque[tuple[Hashable, Future]] = deque(
            maxlen=max(1, int(get_number("triggers.kept")))
        )
        self._offers: Subscription | None = None
        self._following: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()  # taking up what was told
        self._ended = False
        self._broken: BaseException | None = None
        self._news = asyncio.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function here."""
        return self.function(*args, **kwargs)

    def wait(self, timeout: float | None = None, most: int | None = None) -> Any:
        """Wait for tasks to end, and take them.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; without limit by default.
        most : int, optional
            Tasks to return at most.

        Returns
        -------
        list of (key, distributed.Future)
            At least one; none if the time ran out, or the trigger has ended with all its tasks.
            The key is what the CDOs have in common, or else their names.

        Raises
        ------
        PoolLostError
            If the trigger can't go on: the pool is gone.
        """
        return self._link.run(self._wait, timeout, most)

    def end(self) -> Any:
        """Take up nothing more; a second time does nothing.

        What was offered before still gets its tasks, but for sets of which something is missing:
        those are let go.
        """
        return self._link.run(self._end)

    def __iter__(self) -> Iterator[tuple[Hashable, Future]]:
        while found := self.wait(most=1):
            yield from found

    async def __aiter__(self) -> AsyncIterator[tuple[Hashable, Future]]:
        while found := await self.wait(most=1):
            for each in found:
                yield each

    def _exit(self) -> Any:
        return self.end()

    def __await__(self) -> Generator[Any, None, Trigger]:
        return self._await().__await__()

    async def __aenter__(self) -> Trigger:
        return await self

    def __repr__(self) -> str:
        return (
            f"<Trigger {self._name!r}{', ended' if self._ended else ''}: {len(self._keeping)} CDOs"
            f" kept, {len(self._running)} tasks running or to come, {len(self._done)} to be taken>"
        )

    # Beginning and ending, on the client's loop

    def _start(self) -> Trigger:
        """Begin: now where the app is blocking, else as soon as its loop comes to it."""
        beginning = self._link.run(self._begin)
        if self._link.asynchronous:
            self._beginning = asyncio.ensure_future(beginning)
            self._beginning.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self

    async def _await(self) -> Trigger:
        """Wait until it is told of offers."""
        await asyncio.shield(self._beginning)
        return self

    async def _begin(self) -> None:
        async with self._busy:
            try:
                self._offers = await self._app._subscribe(
                    selector=self._condition.text,
                    kinds=["offer"],
                    when="after",
                    ack=True,
                    own=self._own,
                    since=None,
                )
                await self._look()
            except BaseException as error:
                self._break(error)
                raise
            self._following = asyncio.create_task(self._follow(self._offers))

    async def _follow(self, offers: Subscription) -> None:
        try:
            while events := await offers._wait(None, None):
                async with self._busy:
                    await self._take_up(offers, events)
        except Exception as error:
            self._break(error)

    async def _end(self) -> None:
        async with self._busy:  # so the other one waits, and nothing is lost if that is cancelled
            if self._ended:
                return
            if self._following is not None and self._offers is not None and self._broken is None:
                self._following.cancel()
                await asyncio.wait([self._following])
                await self._take_up(self._offers, await self._offers._poll(None))
                await self._offers._end()
            self._ended = True
            self._let_go()

    def _break(self, error: BaseException) -> None:
        """The trigger can't go on."""
        if self._broken is None:
            logger.error("Trigger %s can't go on: %s", self._name, error)
            self._broken = error
            self._let_go()

    def _let_go(self) -> None:
        """Keep no more what waits for others."""
        for kept in self._joining.clear():
            self._release(kept)
        self._tell()

    async def _close(self) -> None:
        """Give up all that is under way: the app leaves."""
        self._ended = True
        tasks = {*self._running, *filter(None, [self._following])}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._let_go()

    def _tell(self) -> None:
        self._news.set()
        if self._over:
            self._app._triggers.discard(self)

    @property
    def _over(self) -> bool:
        return self._ended and not self._running

    async def _wait(self, timeout: float | None, most: int | None) -> list[tuple[Hashable, Future]]:
        check_timeout(timeout)
        if most is not None and not (isinstance(most, int) and most > 0):
            raise ValueError(f"most: got {most!r}, expected a number of tasks above 0, or None")
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not (self._done or self._over or self._broken):
                    self._news.clear()
                    await self._news.wait()
        if self._broken is not None and not self._done:
            raise self._broken
        there = len(self._done)
        return [self._done.popleft() for _ in range(there if most is None else min(most, there))]

    # What is kept

    async def _take_up(self, offers: Subscription, events: Sequence[Event]) -> None:
        """Keep what events tell of, and acknowledge them."""
        told = [event for event in events if event.kind != "missed"]
        await asyncio.gather(
            *(self._keep(str(e.name), e.payload["version"], e.attributes) for e in told)
        )
        if told:
            await offers._ack([event.serial for event in told])
        if len(told) < len(events):
            await self._look()

    async def _look(self) -> None:
        """Keep what is in the pool."""
        pool = await self._app._list_pool()
        theirs = [e for e in pool.values() if self._own or e.apps != [self._app.name]]
        await asyncio.gather(*(self._keep(e.name, e.version, e.selectable) for e in theirs))

    async def _keep(self, name: str, version: int, attributes: Mapping[str, Any]) -> None:
        """Keep a CDO, once for each of the places that it takes, and let complete sets begin."""
        places = self._condition.places(attributes)
        if version in self._keeping or version in self._seen or not places:
            return
        self._keeping[version] = len(places)
        key = self._condition.key(attributes)
        for place in places:
            kept = _Kept(Cdo(self._link, name), version)
            if await kept.handle._require(wanted=False) is None:
                self.missed += 1
                self._release(kept)
            elif (together := self._joining.add(key, place, kept)) is not None:
                self._soon(self._serve(key, together))

    def _release(self, kept: _Kept) -> None:
        """A CDO may leave, as far as one of its tasks is concerned."""
        kept.handle._release_soon()
        self._keeping[kept.version] -= 1
        if not self._keeping[kept.version]:
            del self._keeping[kept.version]
            self._seen[kept.version] = None
            while len(self._seen) > SEEN:
                del self._seen[next(iter(self._seen))]

    # Tasks

    async def _serve(self, key: tuple[Hashable, ...], together: Sequence[_Kept]) -> None:
        """Have a task run on what belongs together, once it is its turn."""
        name = key or tuple(kept.name for kept in together)
        try:
            async with self._turns:
                self.started += 1
                futures = await self._run(together)
        finally:
            for kept in together:
                self._release(kept)
        for rank, future in futures.items():
            called = name if rank is None else (*name, rank)
            self._done.append((called[0] if len(called) == 1 else called, future))

    async def _run(self, together: Sequence[_Kept]) -> dict[int | None, Future]:
        """The futures of the tasks, which have ended: of each part, or of all under None."""
        done: dict[int | None, Future] = {}
        failures: dict[int | None, BaseException | None] = {}
        # A worker that dies takes with it what lay there; with the pool it may have been elsewhere.
        for _ in range(int(get_number("transfer.retries")) + 1):
            lost = [rank for rank, error in failures.items() if isinstance(error, DataLostError)]
            if failures and not lost:
                break
            try:
                jobs = await self._jobs(together)
            except PoolLostError:
                raise
            except Exception as error:  # it can't be had: whoever takes the future is told
                for rank in lost or [None]:
                    done[rank] = self._submit(fail, error)
                    failures[rank] = await ended(self._link.client, done[rank])
                break
            begun = {rank: jobs[rank]() for rank in lost or jobs}
            done |= begun
            for rank, future in begun.items():
                failures[rank] = await ended(self._link.client, future)
        failed = [failure for failure in failures.values() if failure is not None]
        if failed:
            self.failed += 1
            what = ", ".join(repr(kept.name) for kept in together)
            logger.warning("Trigger %s: the task on CDO %s failed: %r", self._name, what, failed[0])
        return done

    async def _jobs(self, together: Sequence[_Kept]) -> dict[int | None, Callable[[], Future]]:
        """What begins each of the tasks, by the part that it is for."""
        waits = inspect.iscoroutinefunction(self.function)
        if self._parts:
            (kept,) = together
            work = call_part_async if waits else call_part
            parts = await lay_parts(kept.handle, kept.version)
            if parts:
                run = partial(self._submit, work, self.function)
                return {
                    part.rank: partial(run, words, part, **{**part.workers, **self._how})
                    for words, part in parts
                }
        given = [await bring(kept.handle, kept.version) for kept in together]
        whole = call_async if waits else call
        return {None: partial(self._submit, whole, self.function, given, **self._how)}

    def _submit(self, work: Callable[..., Any], *args: Any, **how: Any) -> Future:
        key = f"{self._name}-{uuid4().hex}"
        return self._link.client.submit(work, *args, key=key, pure=False, **how)

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Work in the background."""
        task = asyncio.create_task(work)
        self._running.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._break(error)
            self._tell()

        task.add_done_callback(done)
