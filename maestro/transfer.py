"""Array bytes on their way between an app and the nodes, never through the scheduler.

An offer brings each part to the node that the manager chose. A demand pulls: for every piece of
its part it asks the node that holds the source; the node packs bounded messages in the order of
the destination, and each is put in its place as it arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from distributed.core import ConnectionPool
from distributed.protocol.serialize import to_serialize

import kernels
from layouts import Distribution, convert, plan
from layouts.orders import in_order
from layouts.tiled import AnyArray, move
from maestro.config import get_bytes, get_number
from maestro.errors import DataLostError
from maestro.payload import as_bytes, as_part, message_order
from maestro.report import Transfer

__all__ = ["Source", "fetch", "store"]


@dataclass(frozen=True)
class Source:
    """A version of a CDO, and how its producers hold it."""

    name: str
    version: int
    distribution: Distribution
    dtype: np.dtype[Any]


async def store(
    rpc: ConnectionPool,
    source: Source,
    places: Mapping[int, str],
    parts: Mapping[int, AnyArray],
) -> None:
    """Bring parts to their nodes.

    Raises
    ------
    DataLostError
        If a node is gone before it has everything.
    """
    layout, chunk = source.distribution.to_dict(), get_bytes("transfer.chunk")

    async def bring(rank: int) -> None:
        part, order = parts[rank], source.distribution.order
        if not in_order(part, order):
            part = await asyncio.to_thread(lambda: convert(part, order))
        memory = as_bytes(part, order)
        for offset in range(0, max(1, len(memory)), chunk):
            await _ask(
                source,
                rank,
                places[rank],
                rpc(places[rank]).maestro_put(
                    version=source.version,
                    rank=rank,
                    distribution=layout,
                    itemsize=source.dtype.itemsize,
                    offset=offset,
                    data=to_serialize(memory[offset : offset + chunk]),
                ),
            )

    await _at_once(bring(rank) for rank in places)


async def fetch(
    rpc: ConnectionPool,
    source: Source,
    nodes: Sequence[str],
    target: Distribution,
    parts: Mapping[int, AnyArray],
) -> list[Transfer]:
    """Fill the parts of target ranks from the nodes that hold the source's, by source rank.

    Raises
    ------
    DataLostError
        If a node is gone before it has given everything.
    """
    layout, chunk = target.to_dict(), get_bytes("transfer.chunk")
    limit = max(1, chunk // max(1, source.dtype.itemsize))
    transfers: list[Transfer] = []

    async def pull(
        transfer: Transfer, number: int, slab: Sequence[kernels.Pieces], part: AnyArray
    ) -> None:
        begun = perf_counter()
        answer = await _ask(
            source,
            transfer.source,
            transfer.node,
            rpc(transfer.node).maestro_fetch(
                version=source.version,
                rank=transfer.source,
                target=layout,
                target_rank=transfer.target,
                chunk=chunk,
                slab=number,
            ),
        )
        order = message_order(target.order)
        message = as_part(answer["data"], kernels.shape(slab), source.dtype, order)
        pieces = [axis.unpacked() for axis in slab]
        await asyncio.to_thread(move, part, message, pieces)
        transfer.bytes += message.nbytes
        transfer.messages += 1
        transfer.seconds += perf_counter() - begun

    def pulls() -> Iterator[Awaitable[None]]:
        way = plan(source.distribution, target)
        for rank, part in parts.items():
            for sender, pieces in way.incoming(rank):
                transfer = Transfer(sender, rank, nodes[sender])
                transfers.append(transfer)
                for number, slab in enumerate(kernels.slabs(pieces, limit)):
                    yield pull(transfer, number, slab, part)

    await _at_once(pulls())
    return transfers


async def _ask(source: Source, rank: int, node: str, call: Awaitable[Any]) -> dict[str, Any]:
    where = f"CDO {source.name!r}: rank {rank} is not to be had: node {node}"
    try:
        answer: dict[str, Any] = await call
    except OSError as error:  # connections that break or time out
        raise DataLostError(f"{where} does not answer ({error})") from error
    if answer.get("missing"):
        raise DataLostError(f"{where} does not hold it any more")
    return answer


async def _at_once(work: Iterator[Awaitable[None]]) -> None:
    """Do all of it, so many at a time as configured; the first error ends the rest."""
    lanes = max(1, int(get_number("transfer.in-flight")))

    async def lane() -> None:
        for job in work:  # the lanes share the iterator: each takes the next job that is left
            await job

    tasks = [asyncio.create_task(lane()) for _ in range(lanes)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
