"""Small parts of many CDOs, as groups have them: as many as go in one word to their node.

Whatever is wrong with a word (`maestro.transport.small`) is not for it to find out: what it did not
bring goes by the stream of its own CDO, which tries again and says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import kernels
from layouts import plan
from layouts.tiled import AnyArray, move
from maestro.locations import is_location
from maestro.report import Report, Transfer
from maestro.transport import small
from maestro.transport.bringing import Delivery
from maestro.transport.ends import AT_ONCE
from maestro.transport.lanes import so_many
from maestro.transport.network import terms
from maestro.transport.payload import as_part
from maestro.transport.shares import Source
from maestro.transport.taking import Found, Wanted, source_of
from maestro.transport.ways import Ways

__all__ = ["Brought", "bring", "fetch"]

T = TypeVar("T")

#: Messages under way at once.
LANES = 4


@dataclass(frozen=True)
class Brought:
    """What is to be brought of one CDO: its parts, and the node of each, by rank."""

    source: Source
    places: Mapping[int, str]
    parts: Mapping[int, AnyArray]

    @property
    def small(self) -> bool:
        """Whether it can be brought like this."""
        return sum(part.nbytes for part in self.parts.values()) <= AT_ONCE


async def bring(ways: Ways, brought: Sequence[Brought]) -> list[Brought]:
    """Store what is small at the nodes; returns all that is not stored."""
    agreed = terms(1)
    by_node: dict[str, list[tuple[int, Delivery]]] = {}
    left = {number for number, each in enumerate(brought) if not each.small}
    for number, each in enumerate(brought):
        for node in dict.fromkeys(each.places.values()) if number not in left else ():
            ranks = tuple(rank for rank, place in each.places.items() if place == node)
            layout = each.source.version, each.source.distribution, each.source.dtype.itemsize
            delivery = Delivery(*layout, ranks, agreed.chunk, agreed.credit, agreed.silence)
            by_node.setdefault(node, []).append((number, delivery))

    async def send(node: str, bundle: Sequence[tuple[int, Delivery]]) -> None:
        stored = False
        try:
            parts = [brought[number].parts for number, _ in bundle]
            stored = await small.store(ways, node, [delivery for _, delivery in bundle], parts)
        finally:
            if not stored:
                left.update(number for number, _ in bundle)

    await so_many(
        LANES,
        (
            partial(send, node, bundle)
            for node, all_of_it in by_node.items()
            for bundle in _bundles(all_of_it, lambda each: each[1].nbytes)
        ),
    )
    return [brought[number] for number in sorted(left)]


async def fetch(ways: Ways, asked: Iterable[tuple[Wanted, Found, Report]]) -> dict[str, Any]:
    """The data of what is small and could be had, by name; as `transport.taking.take` gives it."""
    asked_for = {}
    for wanted, found, report in asked:
        source = source_of(wanted.name, found)
        stored = any(map(is_location, found["nodes"]))
        if source is not None and not stored and _nbytes(source) <= AT_ONCE:
            asked_for[wanted.name] = wanted, source, found["nodes"], report
    by_node: dict[str, list[tuple[str, int, int]]] = {}
    for name, (_, source, nodes, _) in asked_for.items():
        for rank, node in enumerate(nodes):
            size = source.distribution.local_size(rank) * source.dtype.itemsize
            by_node.setdefault(node, []).append((name, rank, size))
    came: dict[str, dict[int, NDArray[np.uint8]]] = {name: {} for name in asked_for}

    async def ask(node: str, bundle: Sequence[tuple[str, int, int]]) -> None:
        parts = [(asked_for[name][1].version, rank) for name, rank, _ in bundle]
        memory = await small.whole(ways, node, parts, [size for *_, size in bundle])
        for (name, rank, _), part in zip(bundle, memory or (), strict=False):
            came[name][rank] = part

    await so_many(
        LANES,
        (
            partial(ask, node, bundle)
            for node, all_of_it in by_node.items()
            for bundle in _bundles(all_of_it, lambda each: each[2])
        ),
    )
    return {
        name: _put_together(ways, wanted, source, nodes, came[name], report)
        for name, (wanted, source, nodes, report) in asked_for.items()
        if len(came[name]) == source.distribution.size
    }


def _put_together(
    ways: Ways,
    wanted: Wanted,
    source: Source,
    nodes: Sequence[str],
    came: Mapping[int, NDArray[np.uint8]],
    report: Report,
) -> Any:
    """What is wanted, out of all parts of the source."""
    layout, dtype = source.distribution, source.dtype
    given = {
        rank: as_part(memory, layout.local_shape(rank), dtype, layout.order)
        for rank, memory in came.items()
    }
    target = wanted.target(layout)
    way, parts = plan(layout, target), {}
    for rank in wanted.ranks(target):
        part = parts[rank] = ways.empty_part(target, rank, dtype, wanted.name)
        for giver, pieces in way.incoming(rank):
            move(part, given[giver], pieces, threads=1)
            nbytes = math.prod(kernels.shape(pieces)) * dtype.itemsize
            report.transfers.append(Transfer(giver, rank, nodes[giver], "network", nbytes, 1))
    return wanted.result(parts)


def _nbytes(source: Source) -> int:
    ranks = range(source.distribution.size)
    return sum(map(source.distribution.local_size, ranks)) * source.dtype.itemsize


def _bundles(all_of_it: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """As many at a time as go in one message; each of them does."""
    bundle: list[T] = []
    room = AT_ONCE
    for each in all_of_it:
        if bundle and size(each) > room:
            yield bundle
            bundle, room = [], AT_ONCE
        bundle.append(each)
        room -= size(each)
    if bundle:
        yield bundle
