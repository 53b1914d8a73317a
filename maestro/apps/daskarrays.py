"""Dask arrays into the pool and out of it, chunk by chunk, where the chunks are.

Each chunk is one rank's part. What moves it is a task on the Dask worker that has it, or is to
have it: no array byte goes through the client or the scheduler.
"""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import numpy as np
from distributed import Client, Future, Worker, as_completed, get_worker
from distributed.client import futures_of

from layouts import Distribution
from layouts.foreign.dask_chunks import from_chunks, to_chunks
from maestro.errors import InconsistentError, PoolTimeoutError
from maestro.report import Transfer
from maestro.spelling import dtype_from_wire, dtype_to_wire
from maestro.transport import transfer
from maestro.transport.tasks import Workplaces, all_done, heeded, on_worker, places
from maestro.transport.ways import Ways

if TYPE_CHECKING:
    from dask.array import Array

__all__ = ["Chunks", "array_of", "chunks_of", "cut", "fill_parts", "is_dask_array", "scatter_parts"]


def is_dask_array(data: Any) -> bool:
    """Whether it is one; Dask's arrays are imported by whoever made it, or not at all."""
    return type(data).__module__.startswith("dask.array") and hasattr(data, "__dask_graph__")


@dataclass(frozen=True)
class Chunks:
    """A Dask array to be offered: its chunks are computed, and lie with Dask's workers.

    Attributes
    ----------
    parts : dict of int to Future
        The chunk of each rank.
    near : dict of int to str
        Address of a worker that has it.
    """

    distribution: Distribution
    dtype: np.dtype[Any]
    parts: dict[int, Future]
    near: dict[int, str]
    quick: bool = False

    async def bring(
        self, client: Client, ways: Ways, source: transfer.Source, places: Mapping[int, str]
    ) -> None:
        """Have each chunk stored by the worker of its node."""
        words = _words(source)
        tasks = [
            client.submit(
                _store,
                self.parts[rank],
                words,
                rank,
                node,
                key=f"maestro-offer-{source.version}-{rank}-{uuid4().hex}",
                workers=[node],
                allow_other_workers=False,
                pure=False,
            )
            for rank, node in places.items()
        ]
        await all_done(client, source.name, tasks, ways, places)


async def chunks_of(
    client: Client,
    ways: Ways,
    name: str,
    array: Any,
    distribution: Distribution | None,
    dtype: np.dtype[Any] | None,
    rank: int | None,
) -> Chunks:
    """Have a Dask array computed, and say which chunk is whose part.

    Raises
    ------
    InconsistentError
        If it is not cut as was declared, or into chunks of unknown sizes, or of another dtype.
    Exception
        What its own tasks raise.
    """
    if rank is not None:
        raise InconsistentError(
            f"CDO {name!r}: a Dask array was given for rank {rank}, expected that rank's part; a"
            " handle without a rank takes a whole Dask array"
        )
    layout = _layout(name, array, distribution)
    if dtype is not None and array.dtype != dtype:
        raise InconsistentError(
            f"CDO {name!r}: the Dask array has dtype {array.dtype}, expected {dtype}"
        )
    dtype_to_wire(array.dtype, name)
    await _others_done(client, name, array, ways)
    persisted = client.persist(array)
    by_key = {future.key: future for future in futures_of(persisted, client=client)}
    futures = [by_key[key] for key in _keys(persisted)]
    await all_done(client, name, futures, ways)
    having = await cast(Any, client.who_has(futures))
    near = {rank: sorted(having[future.key]) for rank, future in enumerate(futures)}
    return Chunks(
        layout,
        array.dtype,
        dict(enumerate(futures)),
        {rank: workers[0] for rank, workers in near.items() if workers},
    )


def _layout(name: str, array: Any, declared: Distribution | None) -> Distribution:
    try:
        found = from_chunks(array.chunks)
        if declared is None:
            return found
        expected = to_chunks(declared)
    except (ValueError, TypeError) as error:
        raise InconsistentError(f"CDO {name!r}: {error}") from None
    if array.chunks != expected:
        raise InconsistentError(
            f"CDO {name!r}: the Dask array has chunks {array.chunks}, expected {expected} of"
            f" {declared}; array.rechunk makes them"
        )
    return declared


async def fill_parts(
    client: Client,
    source: transfer.Source,
    where: transfer.Whereabouts,
    target: Distribution,
    workers: Sequence[str],
    ways: Ways,
    loose: bool = False,
) -> tuple[list[Future], list[Transfer], Workplaces]:
    """The target ranks' parts, each filled on a worker; what was moved; which rank is where.

    Which worker gets which rank is chosen so that the most bytes stay where they are.

    Parameters
    ----------
    client : Client
        To Dask.
    source : Source
        What is demanded.
    where : Whereabouts
        Where the source ranks' parts are.
    target : Distribution
        How it is wanted.
    workers : sequence of str
        The workers that may have parts.
    ways : Ways
        This program's ways to the nodes.
    loose : bool
        Whether another worker may fill a part anew if its own is gone, for as long as the CDO is in
        the pool; else nobody does.
    """
    name = _called(source)
    chosen = places(source, where.nodes, target, workers)
    workplaces = chosen.workers
    words = _words(source)
    parts = [
        client.submit(
            _fetch,
            name,
            words,
            (list(where.nodes), dict(where.instead), dict(where.copies)),
            target.to_dict(),
            rank,
            key=(name, *index),
            workers=[workplaces[rank]],
            allow_other_workers=loose,
            pure=False,
        )
        for rank, index in enumerate(np.ndindex(*target.grid))
    ]
    by_rank = dict(enumerate(workplaces))
    await all_done(client, source.name, parts, ways, by_rank)
    asked = [ways.nodes.call(node, "moved", task=name) for node in sorted(set(workplaces))]
    try:
        reports = await heeded(client, source.name, asyncio.gather(*asked), ways, by_rank)
    except BaseException:
        await cast(Any, client.cancel(parts, force=True))
        raise
    return parts, [Transfer(**each) for report in reports for each in report], chosen


async def scatter_parts(
    client: Client, ways: Ways, source: transfer.Source, target: Distribution, parts: Sequence[Any]
) -> Array:
    """A Dask array whose chunks are the target ranks' parts, which are here already.

    They go straight to the workers, to those that answer. One that stops answering just then may
    keep what it has read, which Dask does not know of.
    """
    name, chunks = _called(source), cut(source, target)
    running = await cast(Any, client.scheduler).ncores_running(workers=None)
    workers = sorted(running.keys() - await ways.silent(running))
    if not workers:
        raise PoolTimeoutError(
            f"CDO {source.name!r}: no worker takes its chunks: none of {sorted(running)} answers"
        )
    by_rank = {rank: workers[rank % len(workers)] for rank in range(target.size)}
    keys = [(name, *index) for index in np.ndindex(*target.grid)]

    async def put(worker: str) -> dict[Any, Future]:
        data = {keys[rank]: parts[rank] for rank, at in by_rank.items() if at == worker}
        scattering = client.scatter(data, workers=[worker], direct=True)
        return cast(dict[Any, Future], await cast(Any, scattering))

    putting = asyncio.gather(*map(put, sorted(set(by_rank.values()))))
    found = ChainMap(*await heeded(client, source.name, putting, ways, by_rank))
    return array_of([found[key] for key in keys], chunks, source)


def _called(source: transfer.Source) -> str:
    return f"maestro-{source.name}-{source.version}-{uuid4().hex}"


def cut(source: transfer.Source, target: Distribution) -> Any:
    """The chunks of a Dask array that is cut like this.

    Raises
    ------
    InconsistentError
        If none can be.
    """
    try:
        return to_chunks(target)
    except ValueError as error:
        raise InconsistentError(
            f"CDO {source.name!r}: {target} is no layout of a Dask array: {error}"
        ) from None


def array_of(parts: Sequence[Future], chunks: Any, source: transfer.Source) -> Array:
    """The Dask array whose chunks these are."""
    import dask.array

    name = cast(tuple[str, ...], parts[0].key)[0]
    meta = np.empty((0,) * len(chunks), source.dtype)
    return dask.array.Array({part.key: part for part in parts}, name, chunks, meta=meta)


async def _others_done(client: Client, name: str, array: Any, ways: Ways) -> None:
    """Wait for what other clients have under way: the scheduler may not have heard of it yet."""
    theirs = [future for future in futures_of(array) if future.client is not client]
    for loop in {future.client.loop for future in theirs}:  # which may be other threads'
        futures = [future for future in theirs if future.client.loop is loop]
        ending = asyncio.run_coroutine_threadsafe(_over(futures, loop), loop.asyncio_loop)
        await heeded(client, name, asyncio.wrap_future(ending), ways, futures=futures)


async def _over(futures: Sequence[Future], loop: Any) -> None:
    async for _ in as_completed(futures, loop=loop):
        pass


def _keys(array: Any) -> list[Any]:
    """Keys of the chunks by rank: in C order."""
    return [(array.name, *index) for index in np.ndindex(*array.numblocks)]


def _words(source: transfer.Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "version": source.version,
        "distribution": source.distribution.to_dict(),
        "dtype": dtype_to_wire(source.dtype, source.name),
    }


# On the workers


def _source(words: Mapping[str, Any]) -> transfer.Source:
    layout = Distribution.from_dict(words["distribution"])
    return transfer.Source(words["name"], words["version"], layout, dtype_from_wire(words["dtype"]))


def _store(chunk: Any, words: Mapping[str, Any], rank: int, node: str) -> None:
    part = np.asarray(chunk)
    source = _source(words)
    expected = source.distribution.local_shape(rank)
    if part.shape != expected or part.dtype != source.dtype:
        raise InconsistentError(
            f"CDO {source.name!r}: the chunk of rank {rank} has shape {part.shape} and dtype"
            f" {part.dtype}, expected {expected} and {source.dtype}"
        )
    on_worker(_bring, source, {rank: node}, {rank: part})


def _fetch(
    name: str,
    words: Mapping[str, Any],
    where: tuple[Any, ...],
    target: Mapping[str, Any],
    rank: int,
) -> Any:
    source, layout = _source(words), Distribution.from_dict(target)
    part, moved = on_worker(_filled, source, transfer.Whereabouts(*where), layout, rank)
    get_worker().extensions["maestro"].reports[name].extend(map(vars, moved))
    return part


async def _bring(worker: Worker, *what: Any) -> None:
    await transfer.store(worker.extensions["maestro"].ways, *what)


async def _filled(
    worker: Worker,
    source: transfer.Source,
    where: transfer.Whereabouts,
    layout: Distribution,
    rank: int,
) -> tuple[Any, list[Transfer]]:
    ways: Ways = worker.extensions["maestro"].ways
    part = ways.empty_part(layout, rank, source.dtype, source.name)
    moved = await transfer.fetch(ways, source, where, layout, {rank: part}, lambda _: None)
    return part, moved
