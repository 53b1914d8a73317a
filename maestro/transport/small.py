"""Small parts: a word to their node, and one back.

Nothing of a stream is needed for them (`maestro.transport.bringing`, `maestro.transport.pulling`):
that took four times as long as the words. `AT_ONCE` bytes go in a word at most, and are not
counted. Where it does not work out, None or False is the answer, and the stream tries again, and
knows what to say.

::

    store   parts of one or of many CDOs, as they lie
    whole   parts as they lie; parts that are wanted so need no plan
    pieces  of a stream's request, all that it asks for
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from layouts import Plan
from layouts.orders import in_order
from layouts.tiled import AnyArray
from maestro.config import get_seconds
from maestro.errors import MaestroError, ProtocolError
from maestro.locations import is_location
from maestro.nodes.holdings import Arrival, Holdings
from maestro.report import Transfer
from maestro.transport.bringing import Delivery
from maestro.transport.ends import AT_ONCE, Missing
from maestro.transport.packing import Slab, messages, nbytes, pack, unpack
from maestro.transport.payload import as_bytes, copy_part
from maestro.transport.pulling import Request
from maestro.transport.shares import Source
from maestro.transport.ways import Ways

__all__ = [
    "announced",
    "fetch_pieces",
    "fetch_whole",
    "give_pieces",
    "give_whole",
    "store",
    "take",
    "whole",
]

#: A version and a rank.
Key: TypeAlias = tuple[int, int]


# The app's ends


async def store(
    ways: Ways,
    node: str,
    coming: Sequence[Delivery],
    parts: Sequence[Mapping[int, AnyArray]],
) -> bool:
    """Store parts at a node; whether they are there.

    Parameters
    ----------
    ways : Ways
        This program's ways to the nodes.
    node : str
        Which.
    coming : sequence of Delivery
        What of each CDO is brought.
    parts : sequence of mapping
        The arrays of each CDO, by rank.
    """
    data = b"".join(
        _bytes_of(array[rank], delivery, rank).data
        for delivery, array in zip(coming, parts, strict=True)
        for rank in delivery.ranks
    )
    words = [delivery.to_words() for delivery in coming]
    return await _ask(ways, node, "store", deliveries=words, data=data) is True


async def fetch_whole(
    ways: Ways,
    source: Source,
    nodes: Sequence[str | None],
    instead: Mapping[int, int],
    parts: Mapping[int, AnyArray],
) -> list[Transfer] | None:
    """Fill parts with those of the same ranks, if they are small.

    Parameters
    ----------
    ways : Ways
        This program's ways to the nodes.
    source : Source
        What is demanded, and how it is wanted.
    nodes : sequence of str
        The node of each rank.
    instead : mapping
        Ranks whose own parts are gone, and others whose parts are the same.
    parts : mapping
        The arrays to fill, by rank.

    Returns
    -------
    list of Transfer or None
        What was moved; None if it is to be fetched in another way.
    """
    layout, itemsize = source.distribution, source.dtype.itemsize
    sizes = {rank: layout.local_size(rank) * itemsize for rank in parts}
    by_node: dict[str, list[int]] = {}
    for rank in parts:
        node = nodes[rank]
        if node is None or is_location(node):
            return None
        by_node.setdefault(node, []).append(rank)
    if sum(sizes.values()) > AT_ONCE:
        return None

    async def fetch(node: str, ranks: list[int]) -> list[Transfer] | None:
        begun = perf_counter()
        held = [(source.version, instead.get(rank, rank)) for rank in ranks]
        came = await whole(ways, node, held, [sizes[rank] for rank in ranks])
        if came is None:
            return None
        for rank, memory in zip(ranks, came, strict=True):
            as_bytes(parts[rank], layout.order)[:] = memory
        seconds = (perf_counter() - begun) / len(ranks)
        full = (rank for rank in ranks if sizes[rank])
        return [Transfer(r, r, node, "network", sizes[r], 1, seconds) for r in full]

    asked = [fetch(*each) for each in by_node.items()]
    # For one no task is needed, nor the turns of the event loop that it takes to begin and end.
    moved = await asyncio.gather(*asked) if len(asked) > 1 else [await each for each in asked]
    found = [each for each in moved if each is not None]
    return list(chain.from_iterable(found)) if len(found) == len(moved) else None


async def whole(
    ways: Ways, node: str, keys: Sequence[Key], sizes: Sequence[int]
) -> list[NDArray[np.uint8]] | None:
    """The bytes of parts that a node holds, if they are of these sizes; else None."""
    data = await _ask(ways, node, "whole", parts=list(keys))
    if not isinstance(data, bytes) or len(data) != sum(sizes):
        return None
    ends = accumulate(sizes, initial=0)
    return [np.frombuffer(data, np.uint8, *each) for each in zip(sizes, ends, strict=False)]


async def fetch_pieces(
    ways: Ways, node: str, way: Plan, request: Request, parts: Mapping[int, AnyArray]
) -> list[Slab] | None:
    """Fill parts with all that a request asks for; what that was, or None if it did not come."""
    if not request.at_once:
        return None
    data = await _ask(ways, node, "pieces", request=request.to_words())
    slabs = list(
        chain.from_iterable(messages(way, request.pairs, request.itemsize, request.order, AT_ONCE))
    )
    if not isinstance(data, bytes) or len(data) != nbytes(slabs):
        return None
    unpack(slabs, parts, request.order, np.frombuffer(data, np.uint8))
    return slabs


async def _ask(ways: Ways, node: str, word: str, **what: Any) -> Any:
    """What a node answers; None if it does not."""
    try:
        async with asyncio.timeout(get_seconds("transfer.silence")):
            return await ways.nodes.call(node, word, **what)
    except (OSError, MaestroError):
        return None


def _bytes_of(part: AnyArray, delivery: Delivery, rank: int) -> NDArray[np.uint8]:
    layout = delivery.distribution
    if in_order(part, layout.order):
        return as_bytes(part, layout.order)
    memory = np.empty(delivery.size(rank), np.uint8)
    copy_part(memory, part, layout, rank)
    return memory


# The node's ends


def announced(deliveries: Any, data: Any) -> list[Delivery]:
    """What comes, if it is what was said.

    Raises
    ------
    ProtocolError
        If it is not.
    """
    if not isinstance(deliveries, list | tuple) or not isinstance(data, bytes):
        raise ProtocolError(f"store: got {deliveries!r}, expected a list, and bytes")
    coming = [Delivery.from_words(words) for words in deliveries]
    size = sum(delivery.nbytes for delivery in coming)
    if size != len(data) or size > AT_ONCE:
        raise ProtocolError(
            f"store: got {len(data)} bytes, expected {size}, and no more than {AT_ONCE}"
        )
    return coming


def take(holdings: Holdings, coming: Sequence[Delivery], data: bytes) -> bool:
    """Hold parts; whether all were still expected."""
    stored, offset = True, 0
    for delivery in coming:
        with Arrival(holdings, delivery) as arrival:
            for rank in delivery.ranks:
                memory = arrival.allocate(rank)
                memory[:] = np.frombuffer(data, np.uint8, len(memory), offset)
                offset += len(memory)
            stored &= arrival.enter() is None
    return stored


def give_whole(holdings: Holdings, keys: Any) -> bytes | None:
    """The bytes of parts one after the other; None if one is not there, or they are too many."""
    if not isinstance(keys, list | tuple):
        return None
    try:
        held = [holdings.parts[version, rank] for version, rank in keys]
    except (KeyError, TypeError, ValueError):
        return None
    if sum(part.nbytes for part in held) > AT_ONCE:
        return None
    with holdings.reading(keys):
        return b"".join(part.memory.data for part in held)


def give_pieces(holdings: Holdings, words: Any) -> bytes | None:
    """All that a request asks for; None if it is not there, or too much."""
    request = Request.from_words(words)
    keys = [(request.version, rank) for rank in request.held.values()]
    with holdings.reading(keys):
        try:
            arrays, sequence = request.sequence(holdings.parts, AT_ONCE)
        except Missing:
            return None
        slabs = list(chain.from_iterable(sequence))
        if nbytes(slabs) > AT_ONCE:
            return None
        data = np.empty(nbytes(slabs), np.uint8)
        pack(slabs, arrays, request.order, data)
        return data.tobytes()
