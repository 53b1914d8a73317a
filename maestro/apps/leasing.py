"""Small parts that are stored while they are being offered, not after: one round trip less.

::

    app                       manager                         node
     |  offer, placed ---------->|                              |
     |  store, version of the lease --------------------------->|
     |<--  version, node, lease  |                              |
     |<---------------------------------------------------  ok  |
     |  stored ----------------->|

With the answer to each small offer the manager leases the app the number of a version, and says at
which node its part would go: under these the app stores the next one. If it turns out that this
one goes elsewhere, or is refused, the app has the node forget it. A lease takes no room: that is
reserved when the offer is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

from maestro.apps.link import Link
from maestro.apps.offering import Given, Offering
from maestro.errors import MaestroError, PoolLostError, PoolTimeoutError
from maestro.transport import transfer

__all__ = ["storing_ahead"]

#: Takes the manager's answer; what ends once the part is stored, None if it is to be brought yet.
Stored: TypeAlias = Callable[[Any], Awaitable[None] | None]


@asynccontextmanager
async def storing_ahead(
    link: Link, name: str, given: Given, asked: dict[str, Any]
) -> AsyncIterator[Stored]:
    """Begin to store what is offered, if there is a lease, and it is small, and of one part.

    Parameters
    ----------
    link : Link
        The app's.
    name : str
        The CDO.
    given : Given
        What is offered.
    asked : dict
        What the manager is asked, to be completed.
    """
    if not _is_alone(given) or asked["near"] or asked["copies"] != 1:
        yield lambda answer: None
        return
    lease, link.lease = link.lease, None
    asked["placed"] = lease or ()
    storing: asyncio.Task[None] | None = None
    if lease is not None:
        storing = asyncio.create_task(_store(link, name, given, *lease))
        storing.add_done_callback(lambda done: done.cancelled() or done.exception())
    used = False

    def stored(answer: Any) -> Awaitable[None] | None:
        nonlocal used
        link.lease = answer.get("lease")
        used = lease is not None and (answer["version"], answer["nodes"]) == (
            lease[0],
            {0: lease[1]},
        )
        return storing if used else None

    try:
        yield stored
    except (PoolLostError, PoolTimeoutError):  # what became of the offer is not known
        used = True
        raise
    except MaestroError:
        link.lease = lease
        raise
    finally:
        if storing is not None and lease is not None and not used:
            await _forget(link, storing, *lease)


def _is_alone(given: Given) -> bool:
    layout = given.distribution
    return isinstance(given, Offering) and given.quick and layout is not None and layout.size == 1


async def _store(link: Link, name: str, given: Given, version: int, node: str) -> None:
    if given.distribution is not None and given.dtype is not None:
        source = transfer.Source(name, version, given.distribution, given.dtype)
        await given.bring(link.client, link.ways, source, {0: node})


async def _forget(link: Link, storing: asyncio.Task[None], version: int, node: str) -> None:
    """Have the node forget what was stored there, or is just being."""
    storing.cancel()
    await asyncio.wait({storing})
    with suppress(OSError, MaestroError):
        await link.ways.nodes.call(node, "free", version=version, ranks=[0], settled=True)
