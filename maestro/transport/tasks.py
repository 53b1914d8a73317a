"""Tasks on Dask's workers: which worker gets which rank, and how a task uses that worker's node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from distributed import Client, Future, as_completed, get_worker
from distributed.utils import sync
from numpy.typing import NDArray

from layouts import Distribution, plan
from maestro.config import get_seconds
from maestro.errors import DataLostError, MaestroError, PoolTimeoutError
from maestro.transport import transfer
from maestro.transport.ways import Ways

__all__ = ["Workplaces", "all_done", "ended", "heeded", "on_worker", "places"]

T = TypeVar("T")

#: Seconds after which it is asked whether those live who have a task to do.
LOOK = 1.0

#: Ranks up to which their workers are assigned exactly, which takes as many numbers as its square.
MANY = 1024


@dataclass(frozen=True)
class Workplaces:
    """The worker of each target rank.

    Attributes
    ----------
    workers : list of str
        By rank.
    kept : int
        Bytes of the ranks' parts that lie with their workers already.
    saved : int
        How many more these are than if each target rank had the worker of the source rank of its
        number, those beyond going round.
    """

    workers: list[str]
    kept: int
    saved: int


def places(
    source: transfer.Source, nodes: Sequence[str], target: Distribution, workers: Sequence[str]
) -> Workplaces:
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
    chosen = _assigned(here, seats)
    natural = [number.get(nodes[rank % len(nodes)]) for rank in range(target.size)]
    before = sum(int(here[k, rank]) for rank, k in enumerate(natural) if k is not None)
    kept = sum(int(here[k, rank]) for rank, k in enumerate(chosen))
    return Workplaces([workers[k] for k in chosen], kept, kept - before)


def _assigned(here: NDArray[np.int64], seats: int) -> list[int]:
    """The worker's number for each rank, by the bytes of each rank at each worker."""
    size = here.shape[1]
    if size == 1 or size > MANY:  # where there is no choice, SciPy need not be loaded
        return _one_by_one(here, seats)
    from scipy.optimize import linear_sum_assignment

    rows, ranks = linear_sum_assignment(np.repeat(here, seats, axis=0), maximize=True)
    chosen = dict(zip(ranks.tolist(), (rows // seats).tolist(), strict=True))
    return [chosen[rank] for rank in range(size)]


def _one_by_one(here: NDArray[np.int64], seats: int) -> list[int]:
    left, chosen = np.full(len(here), seats), []
    for rank in range(here.shape[1]):
        worker = int(np.argmax(np.where(left > 0, here[:, rank], -1)))
        left[worker] -= 1
        chosen.append(worker)
    return chosen


async def all_done(
    client: Client,
    name: str,
    futures: Sequence[Future],
    ways: Ways,
    where: Mapping[int, str] | None = None,
) -> None:
    """Wait for all; if one fails or somebody gives up, none goes on, and the failure is raised.

    A task waits for ever for a worker that does not get on, and if only that one may run it, for
    one that is gone: so the workers are watched.

    Parameters
    ----------
    client : Client
        To Dask.
    name : str
        The CDO, for errors.
    futures : sequence of Future
        The tasks.
    ways : Ways
        This program's ways to the nodes.
    where : mapping of int to str, optional
        The only workers that may run the tasks, by rank; by default those that Dask has chosen.
    """
    try:
        await _watched(
            _each_done(client, name, futures), _watch(client, name, futures, ways, where)
        )
    except BaseException:
        await cast(Any, client.cancel(list(futures), force=True))
        raise


async def heeded(
    client: Client,
    name: str,
    work: Awaitable[T],
    ways: Ways,
    where: Mapping[int, str] | None = None,
    futures: Sequence[Future] = (),
) -> T:
    """Wait for what workers do, as long as they live and say something.

    Parameters
    ----------
    client : Client
        To Dask.
    name : str
        The CDO, for errors.
    work : awaitable
        What is waited for.
    ways : Ways
        This program's ways to the nodes.
    where : mapping of int to str, optional
        The workers that do it, by rank.
    futures : sequence of Future
        Without these, the tasks that are waited for.

    Raises
    ------
    DataLostError, PoolTimeoutError
        If one dies, or does not answer.
    """
    try:
        return await _watched(work, _watch(client, name, futures, ways, where))
    except MaestroError:
        raise
    except OSError as error:  # of whoever is gone, or does not get on
        await _check_alive(name, ways, (where or {}).values())
        raise DataLostError(f"CDO {name!r}: the connection to a node broke: {error}") from error


async def _watched(work: Awaitable[T], watch: Awaitable[None]) -> T:
    """What work gives, unless who watches it raises before."""
    waiting, watching = asyncio.ensure_future(work), asyncio.ensure_future(watch)
    both: set[asyncio.Future[Any]] = {waiting, watching}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            await watching  # which does not end but by raising
        return await waiting
    finally:
        for task in both:
            task.cancel()
        for task in (await asyncio.wait(both))[0]:
            task.cancelled() or task.exception()  # it is of no interest any more


async def _watch(
    client: Client,
    name: str,
    futures: Sequence[Future],
    ways: Ways,
    where: Mapping[int, str] | None,
) -> None:
    """Raise if a node dies that has something to do, or if it does not answer."""
    silence = get_seconds("transfer.silence")
    while True:
        for _ in range(max(1, round(silence / LOOK))):
            await asyncio.sleep(LOOK)
            await _check_alive(name, ways, (where or {}).values())
        having = await _having(client, futures) if where is None else where
        if silent := await ways.silent(having.values()):
            ranks = [rank for rank, node in having.items() if node in silent]
            raise PoolTimeoutError(
                f"CDO {name!r}: ranks {ranks} are not to be had: node {', '.join(sorted(silent))}"
                f" was silent for {silence:g} s"
            )


async def _check_alive(name: str, ways: Ways, nodes: Iterable[str]) -> None:
    """Raise DataLostError if one is gone."""
    for node in set(nodes):
        if not await ways.lives(node):
            raise DataLostError(f"CDO {name!r}: node {node} died before it was through")


async def _having(client: Client, futures: Sequence[Future]) -> dict[int, str]:
    """The workers that have tasks to do, by their numbers."""
    ranks = {future.key: rank for rank, future in enumerate(futures)}
    having = await cast(Any, client.scheduler).processing(workers=None)
    return {ranks[key]: node for node, keys in having.items() for key in keys if key in ranks}


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
