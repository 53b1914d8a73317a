"""Several things at once, but no more than so many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

__all__ = ["so_many"]


async def so_many(lanes: int, jobs: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Do all of it, so many at a time; the first error ends the rest, and nothing goes on."""
    left = iter(jobs)

    async def lane() -> None:
        for job in left:  # the lanes share the iterator: each takes the next job that is left
            await job()

    if lanes == 1:  # no task is needed for it
        return await lane()
    tasks = [asyncio.create_task(lane()) for _ in range(lanes)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
