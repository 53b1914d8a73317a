"""Running a program until it has ended, or is told to."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["first_of", "run"]

T = TypeVar("T")


def run(program: Coroutine[Any, Any, T]) -> T | None:
    """Run a coroutine; ctrl-C and SIGTERM cancel it, and so let it end in good order.

    The second of either ends the process as it usually does. Called from the main thread.

    Returns
    -------
    What the coroutine returns, None if it was told to end.
    """
    with _ctrl_c_is_ours():
        return asyncio.run(_run(program))


async def first_of(*programs: Coroutine[Any, Any, Any], seconds: float | None = None) -> None:
    """Run coroutines until one of them ends, or time is up; raise what it raises, if it does."""
    tasks = [asyncio.ensure_future(program) for program in programs]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()


async def _run(program: Coroutine[Any, Any, T]) -> T | None:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(program)
    told = False

    def tell(number: signal.Signals) -> None:
        nonlocal told
        told = True
        loop.remove_signal_handler(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, tell, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not told:
            raise
        return None


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """Processes that are started meanwhile don't hear ctrl-C: it is for this one to end them.

    A terminal sends it to all processes of a command at once. What a thread blocks, the processes
    that it starts block as well; one more thread, which does not block it, hears it for us.
    """
    over = threading.Event()
    ear = threading.Thread(target=over.wait, name="maestro-ctrl-C", daemon=True)
    ear.start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        over.set()
        ear.join()
