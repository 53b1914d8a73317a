"""A pool whose manager, nodes and apps are processes of their own, to measure what is said there.

The apps are told what to do over pipes; what counts is measured inside of them. `perf_counter` is
one clock for all processes of a machine, so a time may begin in one and end in another.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from time import perf_counter, thread_time
from typing import Any, NamedTuple

import dask
import numpy as np
from distributed import Client, Scheduler, Worker
from ranks import PATIENCE, Processes, serve

import maestro

__all__ = ["PARAM", "STEP", "Pool"]

#: What the offers of these benchmarks say of themselves, and selectors ask for.
PARAM, STEP, SENT = ".bench.param", ".bench.step", ".bench.sent"

QUIET = {
    # What Dask does beside our work, and would be in every figure: statistical profiles, every 10
    # ms, and the tick that looks for a blocked loop, every 20 ms.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
}


class Block(NamedTuple):
    """How long an event loop did not come round, at most, in seconds.

    Attributes
    ----------
    seconds : float
        By the clock, so with the time that its thread waited for a core.
    at_work : float
        Of a core's time: the longest that it was at work itself.
    """

    seconds: float
    at_work: float

    def cells(self) -> list[str]:
        """As in the tables."""
        return [f"{self.seconds * 1e3:.1f} ms", f"{self.at_work * 1e3:.1f} at work"]


class Pool:
    """A pool of processes: one manager, one node, and as many apps as are asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._manager = self._start(1, _be_manager)
        ((self.address),) = self._manager.each("address")[1]
        self._node = self._start(1, _be_node, self.address)
        self._node.each("ready")

    def _start(self, size: int, target: Any, *arguments: Any) -> Processes:
        processes = Processes(size, target, *arguments)
        self._stack.callback(processes.close)
        return processes

    def apps(self, size: int = 1) -> Processes:
        """Blocking apps: see `_App`."""
        return self._start(size, _be_app, self.address)

    def pipelining(self) -> Processes:
        """An asynchronous app that makes many calls at a time: see `_Pipelining`."""
        return self._start(1, _be_pipelining, self.address)

    def watch(self) -> None:
        """Look how long the manager's loop does nothing else, which takes a twentieth of a core."""
        self._manager.each("watch")

    def longest_block(self) -> Block:
        """The longest time since `watch`, with which it ends."""
        (seconds,) = self._manager.each("longest_block")[1]
        return Block(*seconds)


class _Manager:
    """The scheduler's process: the loop runs there, and the line is listened to by a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, scheduler: Scheduler) -> None:
        self._loop, self._scheduler = loop, scheduler

    async def _beat(self) -> None:
        while True:
            before, worked = perf_counter(), thread_time()
            await asyncio.sleep(0.001)
            self._longest = max(self._longest, perf_counter() - before - 0.001)
            self._at_work = max(self._at_work, thread_time() - worked)

    def address(self) -> str:
        return str(self._scheduler.address)

    def watch(self) -> None:
        self._longest = self._at_work = 0.0
        self._beating = asyncio.run_coroutine_threadsafe(self._beat(), self._loop)

    def longest_block(self) -> tuple[float, float]:
        self._beating.cancel()
        return self._longest, self._at_work


def _be_manager(line: Connection, number: int) -> None:
    async def main() -> None:
        options = {"dashboard": False, "preload": ["maestro.preload"]}
        async with Scheduler(host="127.0.0.1", port=0, **options) as scheduler:
            loop = asyncio.get_running_loop()
            await asyncio.to_thread(serve, line, _Manager(loop, scheduler))

    _run(main())


def _be_node(line: Connection, number: int, address: str) -> None:
    class Ready:
        def ready(self) -> None:
            pass

    async def main() -> None:
        async with Worker(address, nthreads=1, dashboard=False):
            await asyncio.to_thread(serve, line, Ready())

    _run(main())


def _run(main: Any) -> None:
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with dask.config.set(QUIET):
        asyncio.run(main)


def _be_app(line: Connection, number: int, address: str) -> None:
    with dask.config.set(QUIET):
        with maestro.connect(address, component=f"app-{number}", timeout=PATIENCE) as app:
            serve(line, _App(app))


def _be_pipelining(line: Connection, number: int, address: str) -> None:
    with dask.config.set(QUIET), asyncio.Runner() as runner:
        app = runner.run(_join(address))
        serve(line, _Pipelining(app, runner))
        runner.run(app.leave())


async def _join(address: str) -> maestro.App:
    return await maestro.connect(address, component="pipelining", timeout=PATIENCE)


class _App:
    """What one blocking app can do; each method is one call."""

    def __init__(self, app: maestro.App) -> None:
        self.app = app
        self.subscriptions: list[maestro.Subscription] = []
        self.kilobyte = np.arange(128.0)

    def subscribe(self, selectors: list[str | None], kinds: Any, ack: bool = False) -> None:
        """Subscribe once for each selector; what was subscribed to before is ended."""
        while self.subscriptions:
            self.subscriptions.pop().end()
        for selector in selectors:
            subscription = self.app.subscribe(selector, kinds=kinds, ack=ack)
            self.subscriptions.append(subscription)

    def count_events(self, count: int) -> float:
        """Take so many events of the last subscription; the time at which the last has come."""
        subscription, taken = self.subscriptions[-1], 0
        while taken < count:
            events = subscription.wait(timeout=PATIENCE)
            if any(event.kind == "missed" for event in events) or not events:
                raise ArithmeticError(f"only {taken} of {count} events came, then {events[:1]}")
            taken += len(events)
        if taken != count:
            raise ArithmeticError(f"{taken} events came, expected {count}")
        return perf_counter()

    def latencies(self, count: int) -> list[float]:
        """Of each of so many events, seconds from its publication to the return of `wait`."""
        subscription = self.subscriptions[-1]
        seconds: list[float] = []
        while len(seconds) < count:
            events = subscription.wait(timeout=PATIENCE)
            now = perf_counter()
            seconds += [now - event.attributes[SENT] for event in events]
        return seconds

    def work_on_events(self, count: int) -> list[float]:
        """Require, demand and acknowledge what is offered; seconds from the offer to the end."""
        subscription = self.subscriptions[-1]
        seconds: list[float] = []
        while len(seconds) < count:
            for event in subscription.wait(timeout=PATIENCE):
                want = self.app.declare(event.name)
                want.require()
                self.check(want.demand(timeout=PATIENCE))
                subscription.ack(event)
                seconds.append(perf_counter() - event.attributes[SENT])
                want.dispose()
        return seconds

    def check(self, array: Any) -> None:
        if not np.array_equal(array, self.kilobyte):
            raise ArithmeticError(f"got {array}")

    def offer_each(self, names: list[str], data: bool, step: int = 0) -> list[float]:
        """Offer one after the other, with 1 KiB of data or without; seconds of each offer.

        After each, it is withdrawn and disposed of, and a while goes by.
        """
        return [self._offer(name, self.kilobyte if data else None, step) for name in names]

    def _offer(self, name: str, data: Any, step: int) -> float:
        begun = perf_counter()
        cdo = self.app.offer(name, data, attributes={PARAM: 130, STEP: step, SENT: begun})
        seconds = perf_counter() - begun
        cdo.withdraw()
        cdo.dispose()
        return seconds

    def offer(self, name: str) -> float:
        """Offer 1 KiB, which stays; seconds."""
        begun = perf_counter()
        self.cdo = self.app.offer(name, self.kilobyte)
        return perf_counter() - begun

    def is_awaited(self, name: str) -> None:
        """Wait until somebody demands it."""
        require = self.app.subscribe(f'(.maestro.core.cdo.name = "{name}")', kinds="seal", since=1)
        require.wait(timeout=PATIENCE)
        require.end()

    def now(self) -> float:
        return perf_counter()

    def demand(self, name: str) -> tuple[float, float]:
        """Demand it; seconds, and when it was there."""
        begun = perf_counter()
        array = self.app.demand(name, timeout=PATIENCE)
        ended = perf_counter()
        self.check(array)
        return ended - begun, ended

    def require_eagerly(self, name: str) -> None:
        """Have it moved here as soon as it is offered."""
        self.want = self.app.declare(name, eagerness="eager")
        self.want.require()

    def demand_required(self) -> float:
        """Demand what was required; seconds."""
        begun = perf_counter()
        array = self.want.demand(timeout=PATIENCE)
        seconds = perf_counter() - begun
        self.check(array)
        self.want.dispose()
        return seconds

    def take_back(self) -> None:
        """Withdraw and dispose of what was offered last."""
        self.cdo.withdraw()
        self.cdo.dispose()


class _Pipelining:
    """What an asynchronous app can do; each method is one call."""

    def __init__(self, app: maestro.App, runner: asyncio.Runner) -> None:
        self.app, self._runner = app, runner
        self.cdos: list[maestro.Cdo] = []
        gc.freeze()  # what is there from now on: not to be looked through in the middle of a run

    def offer_many(self, prefix: str, count: int, at_once: int) -> tuple[float, float]:
        """Offer CDOs without data, so many at a time; when that began, and when it was through.

        As a program does that has several fields to offer: ``asyncio.gather`` over calls of
        `App.offer`, one group after the other.
        """
        return self._runner.run(self._offer_many(prefix, count, at_once))

    async def _offer_many(self, prefix: str, count: int, at_once: int) -> tuple[float, float]:
        begun = perf_counter()
        for first in range(0, count, at_once):
            group = range(first, min(first + at_once, count))
            offers = (
                self.app.offer(f"{prefix}{n}", attributes={PARAM: 130, STEP: n % 240})
                for n in group
            )
            self.cdos += await asyncio.gather(*offers)
        return begun, perf_counter()

    def take_back(self, at_once: int) -> None:
        """Withdraw and dispose of all that was offered."""
        self._runner.run(self._take_back(at_once))

    async def _take_back(self, at_once: int) -> None:
        async def end(cdo: maestro.Cdo) -> None:
            await cdo.withdraw()
            await cdo.dispose()

        while self.cdos:
            group, self.cdos = self.cdos[:at_once], self.cdos[at_once:]
            await asyncio.gather(*map(end, group))


@contextmanager
def quiet_client(address: str) -> Iterator[Client]:
    """A Dask client, for what Dask's own calls cost."""
    with dask.config.set(QUIET), Client(address, set_as_default=False) as client:
        yield client
