"""A TCP relay that a test controls: it counts what goes through, and can cut or hold it."""

from __future__ import annotations

import asyncio


class Relay:
    """Relays connections to an address, on the running loop, until closed.

    Attributes
    ----------
    address : str
        Where it listens.
    through : int
        Bytes that went either way, over all connections.
    cut_after : int or None
        Bytes that go through before all connections are cut, once; they may be made again.
    refuse : bool
        Whether new connections are cut at once.
    """

    def __init__(self, target):
        host, port = target.removeprefix("tcp://").split(":")
        self.target = host, int(port)
        self.through = 0
        self.cut_after = None
        self.refuse = False
        self.cuts = 0
        self.connections = 0
        self._writers = set()
        self._tasks = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"tcp://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self):
        """Break all connections."""
        self.cuts += 1
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        if self.refuse:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(1 << 14):
                self.through += len(data)
                if self.cut_after is not None and self.through > self.cut_after:
                    self.cut_after = None
                    self.cut()
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
