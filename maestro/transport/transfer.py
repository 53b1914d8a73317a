"""Array bytes on their way between a program and the nodes, never through the scheduler.

An offer brings each part to the node that the manager chose, a demand fills the parts that are
wanted (`maestro.transport.fetching`). Where program and node share a host, the bytes go straight
from one's memory to the other's (`maestro.transport.onhost`). Small ones go in a word to the node
(`maestro.transport.small`), all others as one stream of bounded messages per node
(`maestro.transport.network`).

Here it is decided which way the bytes of a pair of ranks take, and no byte is touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from layouts.tiled import AnyArray
from maestro.errors import PoolFullError
from maestro.transport import small
from maestro.transport.bringing import Delivery
from maestro.transport.fetching import Whereabouts, fetch
from maestro.transport.lanes import so_many
from maestro.transport.lending import Lent
from maestro.transport.network import Network, terms
from maestro.transport.onhost import put, worth_mapping
from maestro.transport.shares import Share, Source, shares
from maestro.transport.ways import Ways

__all__ = ["Share", "Source", "Whereabouts", "fetch", "shares", "store"]


async def store(
    ways: Ways,
    source: Source,
    places: Mapping[int, str],
    parts: Mapping[int, AnyArray],
    lent: Mapping[int, Lent] | None = None,
) -> None:
    """Bring parts to their nodes.

    Parameters
    ----------
    ways : Ways
        This program's ways to the nodes.
    source : Source
        What is offered.
    places : mapping
        The node for each rank.
    parts : mapping
        The arrays, by rank.
    lent : mapping, optional
        Those that lie in memory which a node has lent, by rank.

    Raises
    ------
    DataLostError, PoolTimeoutError
        If a node is gone or silent before it has everything.
    PoolFullError
        If a node has less room than it said: its disk is full.
    """
    ranks: defaultdict[str, list[int]] = defaultdict(list)
    for rank, node in places.items():
        ranks[node].append(rank)
    if not ranks:
        return
    agreed = terms(len(ranks))
    network = Network(ways.nodes, agreed, source.name)
    large = worth_mapping(source.distribution, source.dtype.itemsize, list(places))
    near = await ways.on_this_host(places[rank] for rank in large)

    def delivery(chosen: Sequence[int]) -> Delivery:
        return Delivery(
            source.version,
            source.distribution,
            source.dtype.itemsize,
            tuple(chosen),
            agreed.chunk,
            agreed.credit,
            agreed.silence,
        )

    async def bring(node: str) -> None:
        left = ranks[node]
        if node in near:
            mapped = [rank for rank in left if rank in set(large)]
            with suppress(OSError):  # the stream finds out what is wrong with the node
                written = {r: own.path for r, own in (lent or {}).items() if own.node == node}
                unplaced = await put(ways, node, delivery(mapped), parts, written)
                left = [rank for rank in left if rank not in mapped or rank in unplaced]
        if not left:
            return
        coming = delivery(left)
        if not (coming.at_once and await small.store(ways, node, [coming], [parts])):
            await network.bring(node, coming, parts)

    try:
        await so_many(agreed.streams, (partial(bring, node) for node in ranks))
    except PoolFullError as error:
        raise PoolFullError(f"CDO {source.name!r}: {error}") from None
