"""Work that would hold the event loop up goes to threads; what is small stays: a thread costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["SMALL", "compiled", "off_loop"]

T = TypeVar("T")

#: Bytes that are moved sooner than a thread is woken: some 30 us.
SMALL = 1 << 18

_compiled: set[int] = set()


def compiled(itemsize: int) -> bool:
    """Whether elements of this size were asked for before: then the kernel for them is there."""
    known = itemsize in _compiled
    _compiled.add(itemsize)
    return known


async def off_loop(small: bool, work: Callable[..., T], *args: Any) -> T:
    """Do the work in a thread, or at once where it is small.

    A thread can't be stopped. So where the caller is cancelled, that takes effect once the thread
    is through: then nobody writes any more into what the caller takes back.
    """
    if small:
        return work(*args)
    running = asyncio.get_running_loop().run_in_executor(None, work, *args)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        running.exception()  # nobody asks what became of it any more
        raise
