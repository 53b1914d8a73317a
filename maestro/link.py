"""An app's line to the pool: calls to the manager, sync or async, over its Dask client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, cast

from distributed import Client

from maestro.config import get_seconds
from maestro.errors import MaestroError, PoolLostError, PoolTimeoutError, from_wire
from maestro.messages import PROTOCOL
from maestro.ways import Ways

__all__ = ["Link"]


class Link:
    """Calls of one app.

    Parameters
    ----------
    client : Client
        A connected Dask client; its security, its loop and its connections are used.
    app : str
        The name by which the manager knows the app.
    asynchronous : bool
        Whether `run` returns awaitables.

    Attributes
    ----------
    ways : Ways
        The app's ways to the nodes.
    """

    def __init__(self, client: Client, app: str, asynchronous: bool) -> None:
        self.client = client
        self.app = app
        self.asynchronous = asynchronous
        self.ways = Ways(client.rpc, self.lives)
        self._telling: asyncio.Task[None] | None = None

    def run(self, work: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any) -> Any:
        """Do the work on the client's loop: wait for it, or return an awaitable."""
        if self.client.status in ("closed", "closing"):
            raise PoolLostError(f"app {self.app!r} has left the pool")
        if not self.asynchronous:
            return self.client.sync(work, *args, asynchronous=False, **kwargs)
        loop = cast(Any, self.client.loop).asyncio_loop
        if loop is asyncio.get_running_loop():
            return work(*args, **kwargs)
        # A blocking client's loop runs in a thread of its own; the caller awaits on another.
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(*args, **kwargs), loop))

    def tell(self, word: str, **fields: Any) -> None:
        """Let the manager know something, which nobody waits for.

        It hears it before any later call of this app. A lost pool need not know.
        """
        before = self._telling

        async def telling() -> None:
            if before is not None:
                await before
            with suppress(MaestroError):
                await self._ask(word, **fields)

        self._telling = asyncio.create_task(telling())

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
        if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
            raise ValueError(f"timeout: got {timeout!r}, expected seconds, 0 or more, or None")
        if self._telling is not None:
            told, self._telling = self._telling, None
            await told
        if first is not None:
            fields["first"] = {"app": self.app, **first}
        return await self._ask(word, timeout, **fields)

    async def _ask(self, word: str, timeout: float | None = None, **fields: Any) -> Any:
        if self.client.status == "connecting":  # the client lost its scheduler and looks for it
            raise PoolLostError(f"{word}: the pool manager at {self.address} is gone")
        waits = word in ("demand", "withdraw", "poll")
        patience = (
            None if waits and timeout is None else (timeout or 0) + get_seconds("timeouts.answer")
        )
        try:
            async with asyncio.timeout(patience):
                answer = await cast(Any, self.client.scheduler).maestro_call(
                    call=word, protocol=PROTOCOL, timeout=timeout, app=self.app, **fields
                )
        except TimeoutError:
            raise PoolTimeoutError(
                f"{word}: the pool manager at {self.address} did not answer in {patience:g} s"
            ) from None
        except (OSError, AttributeError) as error:  # the client's scheduler is None once it closed
            raise PoolLostError(f"{word}: no pool manager at {self.address} ({error})") from error
        if answer is None:
            raise PoolLostError(f"{word}: the scheduler at {self.address} is no pool manager")
        if "error" in answer:
            raise from_wire(answer["error"])
        return answer["value"]

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
