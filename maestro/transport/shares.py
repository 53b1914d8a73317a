"""What a demand needs of whom: its pairs of ranks, by the node that holds the source's part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layouts import Distribution, Plan
from maestro.spelling import dtype_from_wire, dtype_to_wire, layout_from_wire, layout_to_wire

__all__ = ["Share", "Source", "by_node", "shares"]


@dataclass(frozen=True)
class Source:
    """A version of a CDO, and how its producers hold it."""

    name: str
    version: int
    distribution: Distribution
    dtype: np.dtype[Any]

    def to_words(self) -> dict[str, Any]:
        """As part of a plain message."""
        return {
            "name": self.name,
            "version": self.version,
            "distribution": layout_to_wire(self.distribution),
            "dtype": dtype_to_wire(self.dtype, self.name),
        }

    @classmethod
    def from_words(cls, words: Mapping[str, Any]) -> Source:
        """That of a message.

        Raises
        ------
        KeyError, TypeError, ValueError
            If there is none.
        """
        layout, dtype = layout_from_wire(words["distribution"]), dtype_from_wire(words["dtype"])
        return cls(words["name"], words["version"], layout, dtype)


@dataclass(frozen=True)
class Share:
    """What one node has for the target ranks of a demand.

    Attributes
    ----------
    node : str
        Its address.
    pairs : int64 array, shape (n, 2)
        Target and source rank of each pair, by target rank.
    sizes : int64 array, shape (n,)
        Bytes of each pair.
    """

    node: str
    pairs: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return int(self.sizes.sum())

    @property
    def targets(self) -> list[int]:
        """The target ranks."""
        found: list[int] = np.unique(self.pairs[:, 0]).tolist()
        return found

    def of(self, chosen: NDArray[np.bool_]) -> Share:
        """Some of the pairs."""
        return Share(self.node, self.pairs[chosen], self.sizes[chosen])


def shares(way: Plan, itemsize: int, nodes: Sequence[str], ranks: Sequence[int]) -> list[Share]:
    """What each node has for these target ranks.

    Ranks that ask at the same time begin with different nodes.
    """
    incoming = [way.incoming(rank) for rank in ranks]
    sources = [share.sources for share in incoming]
    target = np.repeat(np.array(ranks, np.int64), [len(found) for found in sources])
    source = np.concatenate([np.empty(0, np.int64), *sources])
    sizes = np.concatenate([np.empty(0, np.int64), *(share.bytes(itemsize) for share in incoming)])
    result = by_node(np.stack([target, source], axis=1), sizes, nodes)
    first = min(ranks, default=0) % max(len(result), 1)
    return result[first:] + result[:first]


def by_node(
    pairs: NDArray[np.int64], sizes: NDArray[np.int64], nodes: Sequence[str | None]
) -> list[Share]:
    """Pairs of ranks, in the order given, by the node that holds the source rank's part.

    An empty part is no loss, so it may have no node; and no pair either.
    """
    holders = [address or "" for address in nodes]
    addresses = sorted(set(holders))
    number = {address: k for k, address in enumerate(addresses)}
    holder = np.array([number[address] for address in holders], np.int64)
    where = holder[pairs[:, 1]]
    order = np.argsort(where, kind="stable")
    return [
        Share(addresses[int(where[rows[0]])], pairs[rows], sizes[rows])
        for rows in np.split(order, np.flatnonzero(np.diff(where[order])) + 1)
        if len(rows)
    ]
