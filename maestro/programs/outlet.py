"""Writing to a pipe whose reader may be slow, or gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading

__all__ = ["Outlet"]


class Outlet:
    """A file descriptor that is written to without holding up the event loop.

    Whoever reads may have stopped reading, for a while or for good. So writing is done in a thread
    that nobody has to wait for, and a pipe is watched for its reader to go away.

    Parameters
    ----------
    fd : int
        Of a file, a pipe or a terminal.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def write(self, text: str) -> None:
        """Write all of it.

        Raises
        ------
        BrokenPipeError
            If nobody reads any more.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish(error: OSError | None) -> None:
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)

        def work() -> None:
            left = memoryview(text.encode(errors="backslashreplace"))
            failed = None
            try:
                while left:
                    left = left[os.write(self._fd, left) :]
            except OSError as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(finish, failed)

        threading.Thread(target=work, name="maestro-outlet", daemon=True).start()
        await done

    async def closed(self) -> None:
        """Wait until nobody reads any more: for ever if it is no pipe."""
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            await gone.wait()
        loop.add_reader(self._fd, gone.set)  # the end to write to has nothing to read but that
        try:
            await gone.wait()
        finally:
            loop.remove_reader(self._fd)
