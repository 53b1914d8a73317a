"""Which node holds which part: the ledger of the nodes' bytes.

Nodes have a limit and are never given more than it; what does not fit is refused before a byte is
allocated anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

__all__ = ["Ledger", "NodeBytes", "host_of"]


@dataclass
class NodeBytes:
    """What one node may hold and what is promised to it, in bytes.

    Attributes
    ----------
    homes : list of (str, str)
        Directories on its host in which it keeps parts, and the proof that one sees them; those of
        dead nodes that it has taken over among them.
    map_from : int
        Bytes of the smallest part that is kept there.
    """

    limit: int
    used: int = 0
    homes: list[tuple[str, str]] = field(default_factory=list)
    map_from: int = 0


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
        self._lodged: dict[str, tuple[str, int]] = {}  # by place, whose it is, and its bytes
        self.freed = False  # whether there is more room than when this was last set to False

    def join(
        self, node: str, limit: int, homes: Iterable[tuple[str, str]] = (), map_from: int = 0
    ) -> None:
        """Take a node in, or note its new limit."""
        known = self.nodes.setdefault(node, NodeBytes(limit, 0, list(homes), map_from))
        known.limit = limit
        self.freed = True

    def leave(self, node: str) -> NodeBytes:
        """Forget a node; what was known of it."""
        self._lodged = {place: each for place, each in self._lodged.items() if each[0] != node}
        return self.nodes.pop(node, NodeBytes(0))

    def reserve(
        self, sizes: Mapping[int, int], near: Mapping[int, str] | None = None
    ) -> dict[int, str] | None:
        """Promise room for a part of each rank; None, and nothing promised, if it is not there.

        The largest parts go first, each to the node that has the smallest share of its limit in
        use, counted in parts: so parts spread evenly. Of several such nodes it is the one whose
        turn it is by the rank, not by who asks first: where each rank is a program of its own, it
        finds its node again at every step, and there memory of the right size that it has mapped.

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
        rest = {rank: size for rank, size in sizes.items() if rank not in places}
        first, unit = min(rest, default=0), min(rest.values(), default=0)
        heap = [
            (self._burden(address, unit), (number - first) % len(self.nodes), address)
            for number, address in enumerate(self.nodes)
        ]
        heapify(heap)
        for rank, size in _largest_first(rest):
            full = []
            while heap and not self._fits(heap[0][-1], size):
                full.append(heappop(heap))
            if not heap:
                self.undo(places, sizes)
                return self.reserve(sizes) if near else None
            _, turn, address = heappop(heap)
            self.nodes[address].used += size
            places[rank] = address
            for entry in (*full, (self._burden(address, unit), turn, address)):
                heappush(heap, entry)
        return dict(sorted(places.items()))

    def reserve_apart(
        self, sizes: Mapping[int, int], places: Sequence[Mapping[int, str]]
    ) -> dict[int, str] | None:
        """Promise room for one more copy of each part, where no copy is yet; or None, and nothing.

        On other hosts, as far as addresses tell, if there is room there.

        Parameters
        ----------
        sizes : mapping of int to int
            Bytes of each rank's part.
        places : sequence of mapping
            Where its other copies are.
        """
        found: dict[int, str] = {}
        for rank, size in _largest_first(sizes):
            taken = {copy[rank] for copy in places}
            hosts = set(map(host_of, taken))
            free = (a for a in self.nodes if a not in taken and self._fits(a, size))

            def burden(address: str, hosts: set[str] = hosts) -> tuple[bool, float]:
                return host_of(address) in hosts, self._burden(address)

            address = min(free, key=burden, default=None)
            if address is None:
                self.undo(found, sizes)
                return None
            self.nodes[address].used += size
            found[rank] = address
        return found

    def emptiest(self) -> str | None:
        """The node that has the smallest share of its limit in use."""
        return min(self.nodes, key=lambda address: (self._burden(address), address), default=None)

    def reserve_at(self, node: str, size: int) -> bool:
        """Promise room at one node; whether it is there."""
        if node not in self.nodes or not self._fits(node, size):
            return False
        self.nodes[node].used += size
        return True

    def could_hold(self, sizes: Mapping[int, int]) -> bool:
        """Whether there would be room if nothing else was held."""
        empty = Ledger()
        for address, node in self.nodes.items():
            empty.join(address, node.limit)
        return empty.reserve(sizes) is not None

    def _reserve_near(self, sizes: Mapping[int, int], near: Mapping[int, str]) -> dict[int, str]:
        places: dict[int, str] = {}
        for rank, size in _largest_first(sizes):
            address = near.get(rank)
            if address in self.nodes and self._fits(address, size):
                self.nodes[address].used += size
                places[rank] = address
        return places

    def _burden(self, address: str, unit: int = 1) -> float:
        """How much of its limit is in use, in whole units: less than half of one counts for none.

        To be compared between nodes, for the same unit.
        """
        node = self.nodes[address]
        return round(node.used / max(unit, 1)) / max(node.limit, 1)

    def _fits(self, address: str, size: int) -> bool:
        node = self.nodes[address]
        return node.used + size <= node.limit

    def undo(self, places: Mapping[int, str], sizes: Mapping[int, int]) -> None:
        """Go back to where nothing had been promised: nobody has more room than before."""
        for rank, node in places.items():
            self.nodes[node].used -= sizes[rank]

    def lodge(self, place: str, node: str, size: int) -> None:
        """Note that what a node has room for is elsewhere; it counts as the node's as before."""
        self._lodged[place] = node, size

    def lodged(self, node: str) -> int:
        """Bytes of a node's that are elsewhere."""
        return sum(size for by, size in self._lodged.values() if by == node)

    def release(self, node: str, size: int) -> None:
        """Take a promise back: there is more room."""
        node, size = self._lodged.pop(node, (node, size))
        if node in self.nodes:
            self.nodes[node].used -= size
            self.freed = True

    def __str__(self) -> str:
        return ", ".join(
            f"{address} {node.limit - node.used} of {node.limit} bytes free"
            for address, node in self.nodes.items()
        )


def host_of(address: str) -> str:
    """An address without its port: likely the same for nodes of one host, which proves nothing."""
    return address.rpartition(":")[0] or address


def _largest_first(sizes: Mapping[int, int]) -> list[tuple[int, int]]:
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
