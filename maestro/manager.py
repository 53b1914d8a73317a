"""The pool manager: a scheduler plugin that carries out what the registry decides.

It never sees an array byte. The plugin that travels is empty; its state is made where it starts,
and kept as an extension of the scheduler, so that installing it twice changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from maestro import messages as m
from maestro.collection import Collection
from maestro.config import get_number, get_seconds
from maestro.errors import MaestroError, StoreError
from maestro.lines import Lines
from maestro.locations import Location, is_location, is_owned
from maestro.metrics import COLLECTOR
from maestro.nodes.node import NodePlugin, clear_away
from maestro.registry import Registry
from maestro.registry.subscriptions import Subscriptions
from maestro.selectors import Selector
from maestro.stores.store import open_store
from maestro.transport.asking import NodeLines

__all__ = ["ManagerPlugin"]

logger = logging.getLogger("maestro.manager")

#: A selector that has all there can be in one: reading it loads what reads selectors, which would
#: keep the first subscriber's manager from everything else for half a second.
_ANY = '(and (a = 1) (b ~= "c") (d > 2026-01-01T00:00:00Z))'

#: How long a worker may take to become a node before the manager goes on without it, in seconds.
ENLIST = 60.0


#: Seconds until a node that could not be told something is told again.
AGAIN = 0.5


class ManagerPlugin(SchedulerPlugin):
    """Makes a Dask scheduler a pool manager; the second time does nothing."""

    name = "maestro"
    idempotent = True

    _manager: Manager | None = None  # where this plugin made it

    async def start(self, scheduler: Scheduler) -> None:
        manager, before = scheduler.extensions.get("maestro"), set(scheduler.workers)
        if manager is None:
            manager = scheduler.extensions["maestro"] = self._manager = Manager(scheduler)
            for worker in before:
                manager.enlist_soon(worker)
            await asyncio.to_thread(Selector, _ANY)
        await manager.ready()
        if self._manager is not None:  # of who came or went meanwhile Dask has told no plugin
            for worker in scheduler.workers.keys() - before:
                manager.enlist_soon(worker)
            for worker in before - scheduler.workers.keys():
                manager.carry_out(m.NodeLost(worker))

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        scheduler.extensions["maestro"].enlist_soon(worker)

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        scheduler.extensions["maestro"].carry_out(m.NodeLost(worker))

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        scheduler.extensions["maestro"].carry_out(m.AppLost(client))

    async def close(self) -> None:
        if self._manager is not None:
            self._manager.close()
            await self._manager.clear_inns()


class Manager:
    """The registry with its requests, its timers and its connections to the nodes."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.registry = Registry(
            Subscriptions(
                int(get_number("events.queue")),
                int(get_number("events.log")),
                get_seconds("events.patience"),
            ),
            get_seconds("node.heir"),
        )
        self._timer: asyncio.TimerHandle | None = (
            None  # until the registry has something to do by itself
        )
        self._timer_at = 0.0
        self._messages: deque[Any] = deque()  # the first is being carried out
        self._tasks: set[asyncio.Task[Any]] = set()
        self._enlisting: set[asyncio.Task[Any]] = set()
        self.lines = Lines(self.carry_out)
        self._nodes = NodeLines(scheduler.rpc, self._has)
        self._do: dict[type, Callable[[Any], None]] = {
            m.Reply: lambda i: self.lines.answer(i.request, i.value),
            m.Refuse: lambda i: self.lines.answer(i.request, None, i.error),
            m.Tell: lambda i: self.lines.tell(i.app, i.subscription, i.events),
            m.Free: lambda i: self._soon(self._free(i), self._tasks),
            m.Adopt: lambda i: self._soon(self._adopt(i), self._tasks),
        }
        scheduler.handlers["maestro_line"] = self.lines.serve
        scheduler.handlers["maestro_lodged"] = self.lodged
        self._inns: set[str] = set()  # stores where nodes have put parts up
        self._collection: Collection | None = None
        COLLECTOR.managers.add(self)

    def own_process(self) -> None:
        """Have this process serve the pool above all else: it is the manager's own."""
        if self._collection is None:
            self._collection = Collection(lambda: self.lines.asked)

    def carry_out(self, message: Any) -> None:
        """Let the registry decide, and do what it says.

        What an answer brings about at once (a call that was to be made after another) comes after
        all that is to be done about this message.
        """
        self._messages.append(message)
        if len(self._messages) > 1:
            return
        while self._messages:
            for instruction in self._decide(self._messages[0]):
                self._do[type(instruction)](instruction)
            self._messages.popleft()
        self._set_timer()

    def _decide(self, message: Any) -> list[m.Instruction]:
        try:
            return self.registry.handle(message, time.time())
        except Exception as error:  # a mistake of ours: whoever asks is told, and the pool goes on
            logger.exception("%s", type(message).__name__)
            word = type(message).__name__.lower()
            if isinstance(message, m.Call) and message.request in self.lines.waiting:
                text = f"call {word!r}: the pool manager failed: {error!r}"
                return [m.Refuse(message.request, MaestroError(text))]
            return []

    def _set_timer(self) -> None:
        """Come back when events are to be told, or somebody was waited for long enough."""
        deadline = self.registry.deadline
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        patience = max(0.0, deadline - time.time())
        self._timer = asyncio.get_running_loop().call_later(patience, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.carry_out(m.Tick())

    def lodged(self, node: str, version: int, rank: int, location: str) -> None:
        """A node says that a part lives in a store from now on."""
        self._inns.add(Location.of(location).store)
        self.carry_out(m.Lodged(node, version, rank, location))

    async def clear_inns(self) -> None:
        """Leave nothing in stores of what nodes have put up there."""
        for store in self._inns:
            try:
                await asyncio.to_thread(open_store(store).delete, str(self.scheduler.id))
            except StoreError as error:
                logger.warning("Parts are left there: %s", error)

    async def _free(self, parts: m.Free) -> None:
        if is_location(parts.node):
            await self._clear(parts)
            return
        words = {"version": parts.version, "ranks": parts.ranks, "settled": parts.settled}
        while parts.node in self.scheduler.workers:
            try:
                await self._nodes.call(parts.node, "free", **words)
            except OSError:  # one that is merely silent must hear of it when it can
                await asyncio.sleep(AGAIN)
            except MaestroError:  # it is about to go
                break
            else:
                return
        logger.info("Node %s went before it could drop version %d", parts.node, parts.version)

    async def _clear(self, parts: m.Free) -> None:
        """Have a node, whichever, clear away what the pool has in a store."""
        if not is_owned(parts.node):
            return
        for node in list(self.registry.ledger.nodes):
            with suppress(OSError):  # then another one
                await self.scheduler.rpc(node).maestro_clear(location=parts.node)
                return

    async def _adopt(self, left: m.Adopt) -> None:
        words = [{**vars(each), "distribution": each.distribution.to_dict()} for each in left.parts]
        try:
            answer = await self.scheduler.rpc(left.heir).maestro_adopt(
                homes=left.homes, parts=words
            )
        except OSError:  # the heir is gone, or soon will be
            answer = {"outcome": "elsewhere", "parts": ()}
        found = tuple((version, rank) for version, rank in answer["parts"])
        self.carry_out(m.Adopted(left.number, answer["outcome"], found))

    def enlist_soon(self, worker: str) -> None:
        """Make a worker a node as soon as it listens.

        In a task of its own: a worker answers no call before it is registered, so waiting for one
        within its registration would never end. And by a call to each worker rather than by the
        scheduler's list of worker plugins: where that list holds a plugin that a worker cannot
        unpickle, the worker does not start; this way it merely is no node.
        """
        self._soon(self._enlist(worker), self._enlisting)

    async def _enlist(self, worker: str) -> None:
        try:
            async with asyncio.timeout(ENLIST):
                rpc = self.scheduler.rpc(worker)
                answer = await getattr(rpc, "plugin-add")(
                    plugin=pickle.dumps(NodePlugin()), name=NodePlugin.name
                )
                if answer.get("status") != "OK":
                    raise answer["exception"]
                hello = await rpc.maestro_enlist(pool=self.scheduler.id)
        except Exception as error:  # whatever a foreign worker answers, it is no node
            logger.warning("Worker %s is no pool node: %r", worker, error)
        else:
            if worker in self.scheduler.workers:
                homes = tuple((directory, token) for directory, token in hello["homes"])
                self.carry_out(m.NodeJoined(worker, hello["limit"], homes, hello["map_from"]))

    async def ready(self) -> None:
        """Wait until the workers that are there now are nodes, or have been given up."""
        if self._enlisting:
            await asyncio.wait(self._enlisting)

    def close(self) -> None:
        """Leave nothing under way."""
        COLLECTOR.managers.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._collection is not None:
            self._collection.close()
        for task in (*self._tasks, *self._enlisting):
            task.cancel()
        self._nodes.close()
        clear_away()

    async def _has(self, node: str) -> bool:
        return node in self.scheduler.workers

    def _soon(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[Any]]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
