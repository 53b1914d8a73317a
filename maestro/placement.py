"""Which node holds which part: the ledger of the nodes' bytes.

Nodes have a limit and are never given more than it; what does not fit is refused before a byte is
allocated anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

__all__ = ["Ledger", "NodeBytes"]


@dataclass
class NodeBytes:
    """What one node may hold and what is promised to it, in bytes."""

    limit: int
    used: int = 0


class Ledger:
    """The bytes of all nodes.

    Examples
    --------
    >>> ledger = Ledger()
    >>> ledger.join("a", 100); ledger.join("b", 100)
    >>> ledger.reserve({0: 60, 1: 60})
    {0: 'a', 1: 'b'}
    >>> ledger.reserve({0: 60}) is None
    True
    >>> str(ledger)
    'a 40 of 100 bytes free, b 40 of 100 bytes free'
    """

    def __init__(self) -> None:
        self.nodes: dict[str, NodeBytes] = {}
        self.freed = False  # whether there is more room than when this was last set to False

    def join(self, node: str, limit: int) -> None:
        """Take a node in, or note its new limit."""
        self.nodes.setdefault(node, NodeBytes(limit)).limit = limit
        self.freed = True

    def leave(self, node: str) -> None:
        """Forget a node."""
        self.nodes.pop(node, None)

    def reserve(
        self, sizes: Mapping[int, int], near: Mapping[int, str] | None = None
    ) -> dict[int, str] | None:
        """Promise room for a part of each rank; None, and nothing promised, if it is not there.

        The largest parts go first, each to the node that has the smallest share of its limit in
        use: so equal parts spread evenly.

        Parameters
        ----------
        sizes : mapping of int to int
            Bytes of each rank's part.
        near : mapping of int to str, optional
            Nodes that some of the ranks would rather be on: they are, while there is room, before
            any others are placed; unless there is room for all only where this is not looked at.
            Nodes that are not there are passed over.
        """
        places = self._reserve_near(sizes, near or {})
        heap = [(node.used / max(node.limit, 1), address) for address, node in self.nodes.items()]
        heapify(heap)
        for rank, size in _largest_first(sizes):
            if rank in places:
                continue
            full = []
            while heap and not self._fits(heap[0][1], size):
                full.append(heappop(heap))
            if not heap:
                for taken, place in places.items():  # as if nothing had been promised
                    self.nodes[place].used -= sizes[taken]
                return self.reserve(sizes) if near else None
            _, address = heappop(heap)
            node = self.nodes[address]
            node.used += size
            places[rank] = address
            for entry in (*full, (node.used / max(node.limit, 1), address)):
                heappush(heap, entry)
        return dict(sorted(places.items()))

    def _reserve_near(self, sizes: Mapping[int, int], near: Mapping[int, str]) -> dict[int, str]:
        places: dict[int, str] = {}
        for rank, size in _largest_first(sizes):
            address = near.get(rank)
            if address in self.nodes and self._fits(address, size):
                self.nodes[address].used += size
                places[rank] = address
        return places

    def _fits(self, address: str, size: int) -> bool:
        node = self.nodes[address]
        return node.used + size <= node.limit

    def release(self, node: str, size: int) -> None:
        """Take a promise back."""
        if node in self.nodes:
            self.nodes[node].used -= size
            self.freed = True

    def __str__(self) -> str:
        return ", ".join(
            f"{address} {node.limit - node.used} of {node.limit} bytes free"
            for address, node in self.nodes.items()
        )


def _largest_first(sizes: Mapping[int, int]) -> list[tuple[int, int]]:
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
