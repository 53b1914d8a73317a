"""A line to the manager over which anything can be said."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from maestro import messages as m
from maestro.transport.wire import wire_over


class Say:
    """Make calls of any kind, one at a time; each is answered, or times out."""

    def __init__(self, wire):
        self.wire = wire
        self.number = 0

    async def __call__(self, call, fields, timeout=None, first=None):
        self.number += 1
        self.wire.send(self.number, call, fields, timeout, first)
        async with asyncio.timeout(300):
            while True:
                for number, *answer in await self.wire.read():
                    if number is not None:
                        assert number == self.number
                        return answer


@asynccontextmanager
async def stranger(client, app="stranger"):
    """An app's line, over which it has not joined yet."""
    comm = await client.rpc.connect(client.scheduler.address)
    try:
        opening = {"op": "maestro_line", "app": app, "protocol": m.PROTOCOL}
        await comm.write({**opening, "socket": False})
        assert await comm.read() == {"socket": False}
        yield Say(await wire_over(comm, socket=False))
    finally:
        comm.abort()
        client.rpc.reuse(client.scheduler.address, comm)
