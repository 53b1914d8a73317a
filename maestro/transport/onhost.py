"""Array bytes between a program and the nodes of its own host: one pass, and no message.

An offered part is copied straight into a segment of the node's arena, a demanded one is put
together straight out of segments. Where these are, links in the node's directory say, of the
names of the parts; the node is only asked for those that have none. That four ranks asked four
nodes took a tenth of the time of moving 512 MiB.

A segment that is read may go at any time, for its CDO's requirement is what holds it, and that ends
if the manager takes the program for dead. So what was read is looked at again afterwards: a
segment's header says what use it is in.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import kernels
from layouts import Distribution, Plan
from layouts.tiled import AnyArray, move_all
from maestro.arena import Mappings, Use, link_of
from maestro.config import get_bytes
from maestro.errors import DataLostError
from maestro.transport.bringing import Delivery
from maestro.transport.offload import off_loop
from maestro.transport.payload import as_part, copy_part
from maestro.transport.ways import Ways

__all__ = ["Displaced", "Found", "Moved", "fill", "is_there", "locate", "put", "worth_mapping"]

#: Bytes that are planned and moved together, and after which it is told which parts are complete.
NEWS = 128 << 20

#: What `move_all` takes: target, source and pieces.
Move: TypeAlias = tuple[AnyArray, AnyArray, Sequence[kernels.Pieces]]


@dataclass(frozen=True)
class Found:
    """A source rank's part in a node's memory.

    Attributes
    ----------
    node : str
        Whose.
    path : str
        The segment.
    use : Use
        What it was used for when it was found.
    array : ndarray or TiledArray
        The part, mapped; for as long as the use lasts.
    """

    node: str
    path: str
    use: Use
    array: AnyArray


class Displaced(DataLostError):
    """A part is not where it was: it has left the pool, or was brought to another place."""


@dataclass(frozen=True)
class Moved:
    """What was moved for one pair of ranks: target, source, bytes and seconds."""

    target: int
    source: int
    nbytes: int
    seconds: float


def worth_mapping(distribution: Distribution, itemsize: int, ranks: Sequence[int]) -> list[int]:
    """Those of the ranks whose parts are large enough for it."""
    least = get_bytes("transfer.map-from")
    return [rank for rank in ranks if distribution.local_size(rank) * itemsize >= least]


async def put(
    ways: Ways,
    node: str,
    delivery: Delivery,
    parts: Mapping[int, AnyArray],
    written: Mapping[int, str],
) -> list[int]:
    """Copy parts into the memory of a node of this host; those that are there already stay.

    Parameters
    ----------
    written : mapping
        Segments that the node has lent, and that are the memory of these ranks' parts.

    Returns
    -------
    list of int
        The ranks for which it had no segment, or none that can be mapped here; they are to be
        brought otherwise.

    Raises
    ------
    MaestroError
        What the node says.
    OSError
        If it does not answer.
    """
    async with asyncio.timeout(delivery.silence):
        words = {"delivery": delivery.to_words(), "written": dict(written)}
        placed = await ways.nodes.call(node, "place", **words)
    layout = delivery.distribution

    def copy() -> list[int]:
        left = []
        for rank in delivery.ranks:
            if rank in written and placed.get(rank) == written[rank]:
                continue
            try:
                memory = ways.mappings.attach(placed[rank], delivery.size(rank))
            except (KeyError, OSError):
                left.append(rank)
            else:
                copy_part(memory, parts[rank], layout, rank)
                ways.mappings.mark_filled(placed[rank])
        return left

    return await off_loop(False, copy)


async def locate(
    ways: Ways, node: str, version: int, layout: Distribution, dtype: np.dtype[Any],
    held: Mapping[int, int], silence: float,
) -> dict[int, Found]:  # fmt: skip
    """Where a node of this host has parts; those that can't be mapped are left out.

    ``held`` are the ranks that are looked for, and for each the rank whose part the node has.
    What is wrong with a node that does not answer is found out by whoever talks to it next.
    """
    paths, arena = {}, ways.arena(node)
    for holder in held.values():
        with suppress(OSError):
            paths[holder] = os.readlink(link_of(arena, version, holder))
    if left := [holder for holder in held.values() if holder not in paths]:
        with suppress(OSError):
            async with asyncio.timeout(silence):
                paths |= await ways.nodes.call(node, "where", version=version, ranks=left)

    def attach() -> dict[int, Found]:
        found = {}
        for rank, holder in held.items():
            size = layout.local_size(rank) * dtype.itemsize
            with suppress(OSError, KeyError):
                path = paths[holder]
                memory, use = ways.mappings.attach(path, size), ways.mappings.use(path)
                if use.filled and use[1:4] == (version, holder, size):
                    part = as_part(memory, layout.local_shape(rank), dtype, layout.order)
                    found[rank] = Found(node, path, use, part)
        return found

    return await off_loop(all(path in ways.mappings for path in paths.values()), attach)


async def fill(
    name: str,
    way: Plan,
    pairs: NDArray[np.int64],
    found: Mapping[int, Found],
    parts: Mapping[int, AnyArray],
    mappings: Mappings,
    small: bool,
) -> AsyncIterator[list[Moved]]:
    """Fill parts of target ranks straight from the memory of nodes.

    Parameters
    ----------
    name : str
        The CDO, for errors.
    way : Plan
        From the source's distribution to the target's.
    pairs : int64 array, shape (n, 2)
        Target and source rank of each pair, by target rank.
    found : mapping
        The source ranks' parts.
    parts : mapping
        The arrays to fill, by target rank.
    mappings : Mappings
        Where the parts are mapped.
    small : bool
        Whether it is sooner done than a thread is woken.

    Yields
    ------
    list of Moved
        What was moved since the last one.

    Raises
    ------
    Displaced
        If a part is not there any more.
    """
    moves, left = _moves(way, pairs, found, parts), len(pairs)
    while left:
        batch = await off_loop(small, _move, moves)
        left -= len(batch)
        for source in {each.source for each in batch}:
            part = found[source]
            if not is_there(mappings, part):
                raise Displaced(
                    f"CDO {name!r}: rank {source} was taken away, by node {part.node}, while it"
                    " was read"
                )
        yield batch


def is_there(mappings: Mappings, part: Found) -> bool:
    """Whether a part is still where it was found: so what was read since then is of it."""
    try:
        return mappings.use(part.path) == part.use
    except OSError:  # the segment is gone, and its mapping was let go
        return False


def _moves(
    way: Plan,
    pairs: NDArray[np.int64],
    found: Mapping[int, Found],
    parts: Mapping[int, AnyArray],
) -> Iterator[tuple[Moved, Move]]:
    """What is to be moved for each pair of ranks; how long it takes is not known yet."""
    incoming = None
    for target, source in pairs.tolist():
        if incoming is None or incoming.rank != target:
            incoming = way.incoming(target)
        pieces, part = incoming.pieces(source), parts[target]
        nbytes = math.prod(kernels.shape(pieces)) * part.itemsize
        yield Moved(target, source, nbytes, 0.0), (part, found[source].array, pieces)


def _move(moves: Iterator[tuple[Moved, Move]]) -> list[Moved]:
    """Move so much that it is worth telling."""
    batch, size = [], 0
    for each in moves:
        batch.append(each)
        size += each[0].nbytes
        if size >= NEWS:
            break
    begun = perf_counter()
    move_all([move for _, move in batch])
    pace = (perf_counter() - begun) / max(size, 1)
    return [replace(moved, seconds=pace * moved.nbytes) for moved, _ in batch]
