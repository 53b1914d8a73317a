"""Memory for parts that are to be written and then offered: the nodes' own, where that can be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from layouts import Distribution
from maestro.apps.link import Link
from maestro.config import get_bytes
from maestro.errors import PoolFullError
from maestro.transport.lending import Lent

__all__ = ["lent_parts"]


async def lent_parts(
    link: Link, name: str, layout: Distribution, ranks: Iterable[int], dtype: np.dtype[Any]
) -> dict[int, Lent]:
    """Parts by rank, of any content, in memory of this host's nodes or else in the app's own.

    Raises
    ------
    PoolFullError
        If there is no memory, naming the CDO.
    """
    nodes = await link.call("nodes")
    near = await link.ways.on_this_host(nodes)
    free = {node: nodes[node]["limit"] - nodes[node]["used"] for node in sorted(near)}
    return {rank: await _lend(link, name, free, layout, rank, dtype) for rank in ranks}


async def _lend(
    link: Link,
    name: str,
    free: dict[str, int],
    layout: Distribution,
    rank: int,
    dtype: np.dtype[Any],
) -> Lent:
    """A part in memory of the node that has most of it free; in the app's own if there is none.

    A node that does not answer is not asked again.
    """
    nbytes = layout.local_size(rank) * dtype.itemsize
    while nbytes >= get_bytes("transfer.map-from") and free:
        node = max(free, key=lambda each: free[each])
        try:
            lent = await link.ways.lend_part(node, layout, rank, dtype)
        except MemoryError as error:
            raise PoolFullError(
                f"CDO {name!r}: no memory for the part of rank {rank}, {nbytes} bytes: {error}"
            ) from None
        except OSError:
            del free[node]
        else:
            free[node] -= nbytes
            return lent
    return Lent(link.ways.empty_part(layout, rank, dtype, name), "", "")
