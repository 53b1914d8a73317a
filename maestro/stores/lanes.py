"""Jobs for workers: one task at a time for each, with all that has come up for it meanwhile.

A task costs some milliseconds, however little it does; so small jobs share one, and the busier a
worker is, the more of them do.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from distributed import as_completed

from maestro.apps.link import Link
from maestro.errors import DataLostError, from_wire
from maestro.stores.writing import Job, written

__all__ = ["Lanes"]

#: Jobs and bytes of one task at most.
JOBS, BYTES = 64, 256 << 20

#: How often to ask whether a worker that is busy still lives, in seconds.
LOOK = 5.0


@dataclass(frozen=True)
class _Waiting:
    job: Job
    done: asyncio.Future[None]


class Lanes:
    """The workers' jobs, for one event loop.

    Parameters
    ----------
    link : Link
        To Dask, and to the pool.
    news : callable
        Called with the bytes of each job that is done.
    """

    def __init__(self, link: Link, news: Callable[[int], None]) -> None:
        self._link, self._news = link, news
        self._waiting: defaultdict[str, deque[_Waiting]] = defaultdict(deque)
        self._driven: dict[str, asyncio.Task[None]] = {}

    async def do(self, jobs: Iterable[tuple[str, Job]]) -> None:
        """Have jobs done, each by its worker; the first error is raised when none goes on.

        Raises
        ------
        MaestroError
            What a job met, or that its worker died.
        """
        loop = asyncio.get_running_loop()
        waiting = []
        for node, job in jobs:
            waiting.append(_Waiting(job, loop.create_future()))
            self._waiting[node].append(waiting[-1])
            if node not in self._driven:
                self._driven[node] = asyncio.create_task(self._drive(node))
        for error in await asyncio.gather(*(w.done for w in waiting), return_exceptions=True):
            if isinstance(error, BaseException):
                raise error

    async def close(self) -> None:
        """Let go of what is not done."""
        for task in self._driven.values():
            task.cancel()
        if self._driven:
            await asyncio.wait(self._driven.values())

    async def _drive(self, node: str) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting[node]:
                batch = self._batch(node)
                answers = await self._run(node, [waiting.job for waiting in batch])
                for waiting, answer in zip(batch, answers, strict=True):
                    if answer is None:
                        self._news(waiting.job.nbytes)
                        _settle(waiting, None)
                    else:
                        _settle(waiting, from_wire(answer))
                batch = []
        except Exception as error:
            lost = DataLostError(f"node {node} did not write what it had to: {error!r}")
            for waiting in (*batch, *self._waiting.pop(node)):
                _settle(waiting, lost)
        finally:
            del self._driven[node]
            for waiting in (*batch, *self._waiting.pop(node, ())):
                waiting.done.cancel()

    def _batch(self, node: str) -> list[_Waiting]:
        queue, nbytes = self._waiting[node], 0
        batch: list[_Waiting] = []
        while queue and len(batch) < JOBS and nbytes < BYTES:
            batch.append(queue.popleft())
            nbytes += batch[-1].job.nbytes
        return batch

    async def _run(self, node: str, jobs: list[Job]) -> list[dict[str, str] | None]:
        client: Any = self._link.client
        if not await self._link.lives(node):
            raise ConnectionError("it is gone")
        future = client.submit(
            written,
            jobs,
            key=f"maestro-write-{uuid4().hex}",
            workers=[node],
            allow_other_workers=False,
            pure=False,
        )

        async def result() -> list[dict[str, str] | None]:
            async for _ in as_completed([future], loop=client.loop):
                pass
            found: list[dict[str, str] | None] = await future.result()
            return found

        running = asyncio.create_task(result())
        try:
            while not running.done():
                await asyncio.wait({running}, timeout=LOOK)
                if not running.done() and not await self._link.lives(node):
                    raise ConnectionError("it died")
            return running.result()
        finally:
            running.cancel()
            future.release()


def _settle(waiting: _Waiting, error: Exception | None) -> None:
    if waiting.done.done():
        return
    if error is None:
        waiting.done.set_result(None)
    else:
        waiting.done.set_exception(error)
