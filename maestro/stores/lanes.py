"""Jobs for nodes: one word at a time to each, with all that has come up for it meanwhile.

A word costs a fraction of a millisecond at either end, however little is to be done; so small jobs
share one, and the busier a node is, the more of them do. As tasks of Dask's they took six times as
long: each is a dozen messages between client, scheduler and worker.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from maestro.apps.link import Link
from maestro.errors import DataLostError, MaestroError, from_wire

__all__ = ["Lanes"]

#: Jobs and bytes of one word at most.
JOBS, BYTES = 64, 256 << 20

#: How often to ask whether a node that is busy is still one of the pool's, in seconds.
LOOK = 5.0


class Job(Protocol):
    """What a node is to do."""

    @property
    def nbytes(self) -> int: ...

    def to_words(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class _Waiting:
    job: Job
    done: asyncio.Future[None]


class Lanes:
    """The nodes' jobs, for one event loop.

    Parameters
    ----------
    link : Link
        To the pool.
    word : str
        What the nodes do with the jobs. For each of these they answer None, or its error.
    news : callable
        Called with the bytes of each job that is done.
    **common
        What is said with all of the jobs.
    """

    def __init__(
        self,
        link: Link,
        word: str,
        news: Callable[[int], None] = lambda nbytes: None,
        **common: Any,
    ) -> None:
        self._link, self._word, self._news, self._common = link, word, news, common
        self._waiting: defaultdict[str, deque[_Waiting]] = defaultdict(deque)
        self._driven: dict[str, asyncio.Task[None]] = {}

    async def do(self, jobs: Iterable[tuple[str, Job]]) -> None:
        """Have jobs done, each by its node; the first error is raised when none goes on.

        Raises
        ------
        MaestroError
            What a job met, or that its node died.
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
                answers = await self._ask(node, [waiting.job.to_words() for waiting in batch])
                for waiting, answer in zip(batch, answers, strict=True):
                    if answer is None:
                        self._news(waiting.job.nbytes)
                        _settle(waiting, None)
                    else:
                        _settle(waiting, from_wire(answer))
                batch = []
        except MaestroError as error:  # what it says of all of them
            for waiting in (*batch, *self._waiting.pop(node)):
                _settle(waiting, error)
        except Exception as error:
            lost = DataLostError(f"node {node} did not do what it had to: {error!r}")
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

    async def _ask(self, node: str, jobs: list[dict[str, Any]]) -> list[dict[str, str] | None]:
        asking = asyncio.ensure_future(
            self._link.ways.nodes.call(node, self._word, **self._common, jobs=jobs)
        )
        try:
            while not (await asyncio.wait({asking}, timeout=LOOK))[0]:
                if not await self._link.lives(node):
                    raise ConnectionError("it is gone")
            answers: list[dict[str, str] | None] = asking.result()
            return answers
        finally:
            asking.cancel()


def _settle(waiting: _Waiting, error: Exception | None) -> None:
    if waiting.done.done():
        return
    if error is None:
        waiting.done.set_result(None)
    else:
        waiting.done.set_exception(error)
