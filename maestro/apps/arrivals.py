"""The parts of one demand, one by one as they are complete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from layouts.tiled import AnyArray
from maestro.apps.link import Link

__all__ = ["Arrivals"]

#: Starts a demand; called with a function that takes each part as it is complete.
Start = Callable[[Callable[[int, AnyArray], None]], Coroutine[Any, Any, None]]


class Arrivals:
    """Ranks and parts in the order in which they come; for ``for`` and ``async for``.

    The demand begins with the first part that is asked for, and is over with the last. Whoever
    stops before calls `close` (or leaves a ``with`` block), which gives up what is still missing:
    then the demand counts as not made.

    Parameters
    ----------
    link : Link
        The app's line to the pool.
    start : callable
        Makes the demand.
    """

    def __init__(self, link: Link, start: Start) -> None:
        self._link, self._start = link, start
        self._come: asyncio.Queue[tuple[int, AnyArray] | None] = asyncio.Queue()
        self._demand: asyncio.Task[None] | None = None
        self._over = False

    def __iter__(self) -> Arrivals:
        return self

    def __next__(self) -> tuple[int, AnyArray]:
        found: tuple[int, AnyArray] | None = self._link.run(self._next)
        if found is None:
            raise StopIteration
        return found

    def __aiter__(self) -> Arrivals:
        return self

    async def __anext__(self) -> tuple[int, AnyArray]:
        found: tuple[int, AnyArray] | None = await self._link.run(self._next)
        if found is None:
            raise StopAsyncIteration
        return found

    def close(self) -> Any:
        """Give up what has not come yet; nothing if all has."""
        return self._link.run(self._close)

    def __enter__(self) -> Arrivals:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Arrivals:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # On the client's loop

    async def _next(self) -> tuple[int, AnyArray] | None:
        if self._over:
            return None
        if self._demand is None:
            self._demand = asyncio.create_task(self._run())
        found = await self._come.get()
        if found is None:
            self._over = True
            await self._demand  # raises what went wrong
        return found

    async def _run(self) -> None:
        try:
            await self._start(lambda rank, part: self._come.put_nowait((rank, part)))
        finally:
            self._come.put_nowait(None)

    async def _close(self) -> None:
        self._over = True
        if self._demand is not None and not self._demand.done():
            self._demand.cancel()
            await asyncio.wait({self._demand})
