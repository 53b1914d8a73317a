"""Small parts that are wanted as they lie: a word to their node, and one back with their bytes.

Nothing is planned, packed or counted, on either side: that took four times as long as the words.
Where it does not work out, the stream (`maestro.pulling`) tries again, and knows what to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from layouts.tiled import AnyArray
from maestro.config import get_seconds
from maestro.ends import AT_ONCE
from maestro.locations import is_location
from maestro.payload import as_bytes
from maestro.report import Transfer
from maestro.shares import Source
from maestro.ways import Ways

__all__ = ["bytes_of", "fetch_whole", "is_request"]


class Held(Protocol):
    """One rank's part, as a node holds it."""

    @property
    def nbytes(self) -> int:
        """Size in bytes, what pads tiles included."""

    @property
    def memory(self) -> NDArray[np.uint8]:
        """The bytes."""


def is_request(version: Any, ranks: Any) -> bool:
    """Whether this is what a node can be asked for."""
    if type(version) is not int or not isinstance(ranks, list | tuple):
        return False
    return all(type(rank) is int for rank in ranks)


def bytes_of(
    parts: Mapping[tuple[int, int], Held], version: int, ranks: Sequence[int]
) -> bytes | None:
    """The bytes of parts one after the other; None if one is not there, or they are too many."""
    wanted = [parts.get((version, rank)) for rank in ranks]
    held = [part for part in wanted if part is not None]
    if len(held) < len(wanted) or sum(part.nbytes for part in held) > AT_ONCE:
        return None
    return b"".join(part.memory[: part.nbytes].tobytes() for part in held)


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
        held = [instead.get(rank, rank) for rank in ranks]
        data = await ways.call(node, "maestro_whole", version=source.version, ranks=held)
        if not isinstance(data, bytes) or len(data) != sum(sizes[rank] for rank in ranks):
            return None
        came, offset = np.frombuffer(data, np.uint8), 0
        for rank in ranks:
            as_bytes(parts[rank], layout.order)[:] = came[offset : offset + sizes[rank]]
            offset += sizes[rank]
        seconds = (perf_counter() - begun) / len(ranks)
        full = (rank for rank in ranks if sizes[rank])
        return [Transfer(r, r, node, "network", sizes[r], 1, seconds) for r in full]

    try:
        async with asyncio.timeout(get_seconds("transfer.silence")):
            moved = await asyncio.gather(*(fetch(*each) for each in by_node.items()))
    except OSError:
        return None
    transfers: list[Transfer] = []
    for each in moved:
        if each is None:
            return None
        transfers += each
    return transfers
