"""Tasks on Dask's workers: which worker gets which rank, and how a task uses that worker's node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from distributed import Client, Future, as_completed, get_worker
from distributed.utils import sync
from numpy.typing import NDArray

from layouts import Distribution, plan
from maestro import transfer
from maestro.errors import DataLostError

__all__ = ["Lives", "all_done", "ended", "on_worker", "places"]

#: Whether the pool still has the node of an address.
Lives: TypeAlias = Callable[[str], Awaitable[bool]]

#: Seconds after which it is asked whether those live who have a task to do.
LOOK = 1.0

#: Ranks up to which their workers are assigned exactly, which takes as many numbers as its square.
MANY = 1024


def places(
    source: transfer.Source, nodes: Sequence[str], target: Distribution, workers: Sequence[str]
) -> list[str]:
    """The worker of each target rank: no worker has more than its share of ranks.

    Within that the most bytes stay, by an exact assignment (SciPy's `linear_sum_assignment`); of
    more than `MANY` ranks, each has the best worker that has a seat left.
    """
    seats = -(-target.size // len(workers))
    here: NDArray[np.int64] = np.zeros((len(workers), target.size), np.int64)
    number = {worker: k for k, worker in enumerate(workers)}
    way = plan(source.distribution, target)
    for rank in range(target.size):
        share = way.incoming(rank)
        for giver, nbytes in zip(share.sources, share.bytes(source.dtype.itemsize), strict=True):
            if nodes[giver] in number:
                here[number[nodes[giver]], rank] += nbytes
    if target.size == 1 or target.size > MANY:  # where there is no choice, SciPy need not be loaded
        return _one_by_one(here, workers, seats)
    from scipy.optimize import linear_sum_assignment

    rows, ranks = linear_sum_assignment(np.repeat(here, seats, axis=0), maximize=True)
    chosen = dict(zip(ranks.tolist(), (workers[row // seats] for row in rows), strict=True))
    return [chosen[rank] for rank in range(target.size)]


def _one_by_one(here: NDArray[np.int64], workers: Sequence[str], seats: int) -> list[str]:
    left, chosen = np.full(len(workers), seats), []
    for rank in range(here.shape[1]):
        worker = int(np.argmax(np.where(left > 0, here[:, rank], -1)))
        left[worker] -= 1
        chosen.append(workers[worker])
    return chosen


async def all_done(
    client: Client,
    name: str,
    futures: Sequence[Future],
    workers: Collection[str] = (),
    lives: Lives | None = None,
) -> None:
    """Wait for all; if one fails or somebody gives up, none goes on, and the failure is raised.

    A task that only one of these workers may run would wait for ever if that is gone.
    """
    waiting = asyncio.create_task(_each_done(client, name, futures))
    try:
        while not (await asyncio.wait({waiting}, timeout=LOOK))[0]:
            for worker in workers:
                if lives is not None and not await lives(worker):
                    raise DataLostError(f"CDO {name!r}: node {worker} died before it was through")
        await waiting
    except BaseException:
        waiting.cancel()
        await asyncio.wait({waiting})
        await cast(Any, client.cancel(list(futures), force=True))
        raise


async def _each_done(client: Client, name: str, futures: Sequence[Future]) -> None:
    async for future in as_completed(futures, loop=client.loop):
        if future.status == "error":
            raise await cast(Any, future.exception())
        if future.status != "finished":
            raise DataLostError(f"CDO {name!r}: Dask's task {future.key!r} is {future.status}")


async def ended(client: Client, future: Future) -> BaseException | None:
    """Wait for a task to end; the error that it ended in, if it did."""
    async for _ in as_completed([future], loop=client.loop):
        pass
    if future.status == "error":
        return cast(BaseException, await cast(Any, future.exception()))
    if future.status != "finished":
        return DataLostError(f"Dask's task {future.key!r} is {future.status}")
    return None


def on_worker(work: Any, *args: Any) -> Any:
    """Do it on the event loop of the worker that runs this task; it is given the worker first."""
    worker = get_worker()

    def run() -> Coroutine[Any, Any, Any]:
        coroutine: Coroutine[Any, Any, Any] = work(worker, *args)
        return coroutine

    return sync(worker.loop, run)
