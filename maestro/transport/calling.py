"""A connection to a node: tried for as long as the node may be silent, and while it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from distributed.comm.core import Comm
from distributed.core import ConnectionPool

__all__ = ["Silent", "connect"]

#: How often a connection is tried while a node may be silent.
TRIES = 8

#: Seconds of the first of them: most that does not answer is gone.
FIRST_TRY = 0.25


class Silent(TimeoutError):
    """A node lives, as far as the pool knows, but does not answer: it need not be tried again."""


async def connect(
    rpc: ConnectionPool, lives: Callable[[str], Awaitable[bool]], node: str, silence: float
) -> Comm:
    """A line to a node, new or used before.

    Dask goes on trying where a connection is refused, and its handshake has no limit at all: so
    each try is a short one, and between them it is asked whether the node is still there.

    Raises
    ------
    Silent
        If it does not answer.
    OSError
        If it is gone.
    """
    loop = asyncio.get_running_loop()
    longest = silence / TRIES
    deadline, patience = loop.time() + silence, min(FIRST_TRY, longest)
    while True:
        try:
            async with asyncio.timeout(patience):
                return await rpc.connect(node, timeout=patience)
        except OSError as error:
            if not await lives(node):
                raise
            if loop.time() > deadline:
                raise Silent(f"node {node} was silent for {silence:g} s") from error
            patience = min(2 * patience, longest)
