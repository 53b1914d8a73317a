"""An app's line to the pool: calls to the manager, and the events that it tells."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, cast
from weakref import WeakValueDictionary

from distributed import Client
from distributed.comm.core import Comm

from maestro.apps.ahead import Ahead
from maestro.apps.telemetry import Telemetry
from maestro.config import get_bytes, get_seconds
from maestro.errors import (
    MaestroError,
    PoolLostError,
    PoolTimeoutError,
    from_wire,
)
from maestro.messages import PROTOCOL, PUSHED
from maestro.transport.asking import Asker
from maestro.transport.ways import Ways
from maestro.transport.wire import open_wire

__all__ = ["LOOK", "Link", "check_timeout", "wait_for"]

#: Seconds after which a blocking wait looks whether its client is still there.
LOOK = 1.0

#: Takes a subscription's packed events; or the error that says why there are going to be no more.
Listener: TypeAlias = Callable[[bytes | MaestroError], None]

#: Calls that may take as long as they like.
WAITING = frozenset(("demand", "locate", "withdraw"))


def wait_for(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> Any:
    """Have work done on a loop that runs in another thread, and wait for what comes of it.

    A lock is all that is needed: Dask's own `sync`, by way of Tornado's coroutines and an event,
    takes twice as long.
    """
    if asyncio._get_running_loop() is loop:
        work.close()
        raise RuntimeError("a blocking app was called from its own event loop")
    done = threading.Lock()
    done.acquire()
    tasks: list[asyncio.Task[Any]] = []

    def begin() -> None:
        tasks.append(loop.create_task(work))
        tasks[0].add_done_callback(lambda _: done.release())

    try:
        loop.call_soon_threadsafe(begin)
    except RuntimeError as closed:
        work.close()
        raise PoolLostError(f"the app's event loop is gone ({closed})") from None
    try:
        while not done.acquire(timeout=LOOK):
            if loop.is_closed():
                raise PoolLostError("the app's event loop is gone")
    except BaseException:  # such as ctrl-C
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: tasks[0].cancel())
        raise
    task = tasks.pop()  # not to be kept by the frame that an error of it remembers
    try:
        return task.result()
    finally:
        del task


def check_timeout(timeout: float | None) -> None:
    """Raise ValueError unless it is a time to wait."""
    if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
        raise ValueError(f"timeout: got {timeout!r}, expected seconds, 0 or more, or None")


class Link:
    """Calls of one app, over one line that is there as long as the app is; see `maestro.lines`.

    Parameters
    ----------
    client : Client
        A connected Dask client; its security, its loop and its connections are used.
    app : str
        The name by which the manager knows the app.
    asynchronous : bool
        Whether `run` returns awaitables.
    telemetry : Telemetry
        Where to keep account of what the app does.

    Attributes
    ----------
    ways : Ways
        The app's ways to the nodes.
    listeners : dict
        Who takes the events of a subscription.
    ahead : Ahead
        What is moved here before it is demanded.
    lease : (int, str) or None
        Version and node under which the next small part may be stored while it is being offered.
    required : dict
        The handles that have required something, by their names at the manager.
    """

    def __init__(self, client: Client, app: str, asynchronous: bool, telemetry: Telemetry) -> None:
        self.client = client
        self.app = app
        self.asynchronous = asynchronous
        self.ways = Ways(client.rpc, self.lives)
        self.telemetry = telemetry
        self.listeners: dict[str, Listener] = {PUSHED: self._hear_of_pushed}
        self.ahead = Ahead(get_bytes("transfer.ahead"))
        self.lease: tuple[int, str] | None = None
        self.required: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._patience = get_seconds("timeouts.answer")
        self._asker: Asker | None = None

    def run(self, work: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any) -> Any:
        """Do the work on the client's loop: wait for it, or return an awaitable."""
        self.check()
        if not self.asynchronous:
            return wait_for(self.loop, work(*args, **kwargs))
        if self.loop is asyncio.get_running_loop():
            return work(*args, **kwargs)
        # A blocking client's loop runs in a thread of its own; the caller awaits on another.
        running = asyncio.run_coroutine_threadsafe(work(*args, **kwargs), self.loop)
        return asyncio.wrap_future(running)

    def check(self) -> None:
        """Raise PoolLostError if the client is closed."""
        if self.client.status in ("closed", "closing"):
            raise PoolLostError(f"app {self.app!r} has left the pool")

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The client's loop."""
        loop: asyncio.AbstractEventLoop = cast(Any, self.client.loop).asyncio_loop
        return loop

    async def open(self) -> None:
        """Open the line.

        Raises
        ------
        PoolLostError
            If nobody answers, or who does is no pool manager.
        ProtocolError
            If the manager speaks another version.
        """
        address = self.address
        opening = {"op": "maestro_line", "app": self.app, "protocol": PROTOCOL}
        try:
            async with asyncio.timeout(self._patience):
                comm = await self.client.rpc.connect(address)
                wire, answer = await open_wire(comm, **opening)
        except OSError as error:
            raise PoolLostError(f"join: no pool manager at {address} ({error})") from error
        if answer is None:
            raise PoolLostError(f"join: the scheduler at {address} is no pool manager")
        if "error" in answer:
            raise from_wire(answer["error"])
        self._asker = Asker(wire, self._hear, partial(self._lose, address, comm))

    async def close(self) -> None:
        """Close the line."""
        self.ahead.close()
        if self._asker is not None:
            self._asker.close(PoolLostError(f"app {self.app!r} has left the pool"))

    def tell(self, word: str, **fields: Any) -> None:
        """Let the manager know something, which nobody waits for.

        It hears it before any later call of this app. A lost pool need not know.
        """
        if self._asker is not None and not self._asker.over:
            self._asker.tell(word, fields, None, None)

    def tell_later(self, word: str, **fields: Any) -> None:
        """As `tell`, but whoever waits for the app goes on first.

        For what the pool need not hear if the app dies now.
        """
        if self._asker is not None and not self._asker.over:
            self._asker.tell_later(word, fields, None, None)

    def tell_soon(self, word: str, **fields: Any) -> None:
        """As `tell`, from a program's own thread; no other is waited for."""
        with suppress(RuntimeError):  # the loop is gone, and the pool with it
            self.loop.call_soon_threadsafe(partial(self.tell, word, **fields))

    async def call(
        self,
        word: str,
        timeout: float | None = None,
        first: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Any:
        """Ask the manager, and return its reply.

        Parameters
        ----------
        word : str
            One of `maestro.messages.CALLS`.
        timeout : float, optional
            Seconds after which the manager is to give up a wait.
        first : dict, optional
            The word, as "word", and the fields of another call that goes before, in one message.

        Raises
        ------
        MaestroError
            What the manager answers, or that it does not.
        """
        check_timeout(timeout)
        if self._asker is None or self._asker.over:
            raise PoolLostError(f"{word}: the pool manager at {self.address} is gone")
        patience: float | None = (timeout or 0.0) + self._patience
        if timeout is None and word in WAITING:
            patience = None
        try:
            async with asyncio.timeout(patience):
                value, error = await self._asker.ask(word, fields, timeout, first)
        except TimeoutError:
            raise PoolTimeoutError(
                f"{word}: the pool manager at {self.address} did not answer in {patience:g} s"
            ) from None
        except OSError as broken:
            raise self._gone(broken) from broken
        if error is not None:
            raise from_wire(error)
        return value

    async def lives(self, node: str) -> bool:
        """Whether the pool has this node, as far as its manager can be asked."""
        try:
            return node in await self.call("nodes")
        except MaestroError:
            return False

    @property
    def address(self) -> str:
        """Address of the scheduler."""
        scheduler = self.client.scheduler
        return "(closed)" if scheduler is None else str(scheduler.address)

    def _hear(self, subscription: str, events: bytes) -> None:
        listener = self.listeners.get(subscription)
        if listener is not None:  # it may have been ended in the same moment
            listener(events)

    def _hear_of_pushed(self, handles: bytes | MaestroError) -> None:
        """Somebody pushes what these handles require."""
        if isinstance(handles, bytes):
            for handle in handles.decode(errors="replace").split():
                if handle in self.required:
                    self.required[handle]._move_ahead()

    def _lose(self, address: str, comm: Comm, error: OSError) -> None:
        """The line is over: everyone who listens is told so."""
        self.client.rpc.reuse(address, comm)
        for listener in list(self.listeners.values()):
            listener(self._gone(error))

    def _gone(self, error: OSError) -> PoolLostError:
        if isinstance(error, PoolLostError):
            return error
        return PoolLostError(f"the pool manager at {self.address} is gone ({error})")
