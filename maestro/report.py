"""What a demand moved, from where, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["MOVED", "WAYS", "Report", "Transfer"]


@dataclass
class Transfer:
    """What one source rank gave one target rank.

    Attributes
    ----------
    source, target : int
        The ranks.
    node : str
        Address of the node that held the source's part.
    transport : str
        Which way the bytes took: "host", straight from the node's memory, "network", or "store".
    bytes : int
        Array bytes moved.
    messages : int
        Messages that carried them.
    seconds : float
        Time under way, summed over messages or passes.
    """

    source: int
    target: int
    node: str
    transport: str = "network"
    bytes: int = 0
    messages: int = 0
    seconds: float = 0.0


#: The ways that bytes take, and what they are called in a line.
WAYS = {"host": "on this host", "network": "in messages", "store": "from a store"}

#: What the manager is told of what demands moved: their number, seconds until what they want was in
#: the pool, seconds under way, and array bytes by transport.
MOVED = ("demands", "waited", "seconds", *WAYS)


@dataclass
class Report:
    """What one demand cost.

    Attributes
    ----------
    name : str
        The CDO.
    waited : float
        Seconds until it was in the pool.
    seconds : float
        Seconds from then until the data was here.
    transfers : list of Transfer
        One for each pair of ranks.
    kept : int
        Where Dask's workers have got the parts, the array bytes of these that were with the same
        worker before.
    saved : int
        How many more these are because ranks were relabelled: than if each rank were where the
        producers' rank of its number is.
    """

    name: str
    waited: float = 0.0
    seconds: float = 0.0
    transfers: list[Transfer] = field(default_factory=list)
    kept: int = 0
    saved: int = 0

    @property
    def bytes(self) -> int:
        """Array bytes moved."""
        return sum(transfer.bytes for transfer in self.transfers)

    @property
    def messages(self) -> int:
        """Messages that carried array bytes."""
        return sum(transfer.messages for transfer in self.transfers)

    def __str__(self) -> str:
        rate = self.bytes / self.seconds / 1e9 if self.seconds else 0.0
        nodes = len({t.node for t in self.transfers})
        return (
            f"{self.name}: {self.bytes / 1e6:.1f} MB from"
            f" {nodes} node{'' if nodes == 1 else 's'} ({self._ways()}),"
            f" {self.seconds * 1e3:.1f} ms"
            f" ({rate:.2f} GB/s), after {self.waited * 1e3:.1f} ms of waiting{self._stayed()}"
        )

    def _stayed(self) -> str:
        if not self.kept:
            return ""
        saved = f", {self.saved / 1e6:.1f} MB of it by relabelling" if self.saved else ""
        return f"; {self.kept / 1e6:.1f} MB stayed with their workers{saved}"

    def _ways(self) -> str:
        ways = []
        for transport, words in WAYS.items():
            nbytes = sum(t.bytes for t in self.transfers if t.transport == transport)
            if nbytes:
                ways.append(f"{nbytes / 1e6:.1f} MB {words}")
        return ", ".join(ways) or "nothing to move"
