"""One offering of a CDO, from its first rank's offer to its last rank's withdraw.

A name may be offered again and again, and ranks in separate processes do not keep step: rank 0 may
be withdrawing the second offering while rank 1 has yet to withdraw the first. So every offering is
a version of its own, and parts of different versions never meet.

::

    forming --all ranks stored--> pooled --first withdraw--> leaving --last served--> over
       |                                                                               ^
       '--------a rank withdrawn, or its app or node lost, before all were there-------'

A version may need versions of other names: what it depends on, or the members of a group. It holds
them: they do not leave before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from layouts import Distribution
from maestro.spelling import layout_to_wire

__all__ = ["Batch", "Slot", "Stage", "Version"]


class Stage(Enum):
    """Where a version stands."""

    FORMING = "forming"
    POOLED = "pooled"
    LEAVING = "leaving"
    OVER = "over"


@dataclass
class Slot:
    """One rank's part in a version."""

    app: str
    handle: str
    nodes: list[str] = field(default_factory=list)  # of each copy; none: no bytes, or none any more
    size: int = 0
    stored: bool = False
    withdrawn: bool = False  # its producer has called withdraw, or is gone
    needs: tuple[str, ...] = ()  # names without which its producer says the CDO is nothing
    push: bool = False  # whether it is to be moved at once to all who require it
    left_by: str = ""  # the node with which the last copy was lost
    estate: int = 0  # what else that node has left

    @property
    def node(self) -> str | None:
        """The node to ask for it."""
        return self.nodes[0] if self.nodes else None


@dataclass(eq=False)
class Batch:
    """The withdrawal of a group: its versions leave together, then the request is answered."""

    request: int
    handle: str
    offered: dict[str, Version]  # by handle

    @property
    def versions(self) -> list[Version]:
        """Each of them once."""
        return list({version.serial: version for version in self.offered.values()}.values())


@dataclass
class Version:
    """One offering of a name."""

    serial: int
    name: str
    distribution: Distribution | None
    dtype: str | None
    group: bool = False
    spread: int = 1  # ranks of a CDO without data: more than one for groups of such members
    stage: Stage = Stage.FORMING
    slots: dict[int, Slot] = field(default_factory=dict)
    requirements: set[str] = field(default_factory=set)  # handles yet to be served
    unacknowledged: set[int] = field(default_factory=set)  # events that keep it in the pool
    withdrawing: dict[int, str] = field(default_factory=dict)  # requests that wait, and handles
    batches: list[Batch] = field(default_factory=list, compare=False)  # with others
    needs: tuple[str, ...] = ()  # names
    needed: dict[str, Version] = field(default_factory=dict)  # of these, what is there
    # By serial, those that need it. Comparing these would never end: they know it, too.
    holders: dict[int, Version] = field(default_factory=dict, compare=False)
    gone: set[int] = field(default_factory=set)  # stored ranks of which no copy is left
    attributes: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)  # of attributes that nobody has set
    over_at: int = 0  # count of joins when it ended

    @property
    def size(self) -> int:
        """Number of ranks; a CDO without data has one, a group as many as its members."""
        return self.spread if self.distribution is None else self.distribution.size

    @property
    def complete(self) -> bool:
        """Whether every rank's part is stored."""
        return len(self.slots) == self.size and all(slot.stored for slot in self.slots.values())

    @property
    def going(self) -> bool:
        """Whether any rank has been withdrawn."""
        return any(slot.withdrawn for slot in self.slots.values())

    @property
    def push(self) -> bool:
        """Whether it is moved at once to all who require it."""
        return any(slot.push for slot in self.slots.values())

    @property
    def apps(self) -> set[str]:
        """The apps that offered a rank."""
        return {slot.app for slot in self.slots.values()}

    @property
    def company(self) -> list[Version]:
        """What leaves together with it and has not left yet, this version first."""
        company = {self.serial: self}
        todo = [self]
        while todo:
            for batch in todo.pop().batches:
                for version in batch.versions:
                    if version.serial not in company and version.stage is not Stage.OVER:
                        company[version.serial] = version
                        todo.append(version)
        return list(company.values())

    @property
    def there(self) -> bool:
        """Whether it can be had by those that it is kept for."""
        return self.stage in (Stage.POOLED, Stage.LEAVING)

    def ranks_of(self, handle: str) -> list[int]:
        """The ranks that a handle offered."""
        return [rank for rank, slot in self.slots.items() if slot.handle == handle]

    def forgettable(self, joins: Mapping[str, int]) -> bool:
        """Whether it is over and nobody can belong to it any more.

        Parameters
        ----------
        joins : mapping
            The apps that are connected and their places in the order of joins.
        """
        gone = all(slot.withdrawn for slot in self.slots.values())
        if self.stage is not Stage.OVER or self.batches or not gone:
            return False
        apps = self.apps
        return len(self.slots) == self.size or not any(
            joined <= self.over_at and app not in apps for app, joined in joins.items()
        )

    def holder(self, rank: int) -> int | None:
        """A rank whose part is there and the same as this one's: its own, or a replica."""
        if rank not in self.gone:
            return rank
        return next((twin for twin in self._twins(rank) if self.slots[twin].nodes), None)

    def _twins(self, rank: int) -> list[int]:
        """The ranks that hold the same, of a version that is complete: all must be stored."""
        if self.distribution is None or not self.complete:
            return []
        return self.distribution.twins(rank)

    @property
    def missing_parts(self) -> list[int]:
        """The ranks whose parts are lost, and are not those of others either."""
        return sorted(rank for rank in self.gone if self.holder(rank) is None)

    def layout(self) -> dict[str, Any]:
        """How it is offered, in plain values; known from its first rank on."""
        return {
            "dtype": self.dtype,
            "distribution": layout_to_wire(self.distribution),
        }

    def describe(self) -> dict[str, Any]:
        """What a demand needs to know, in plain values."""
        instead = {rank: twin for rank in self.gone if (twin := self.holder(rank)) is not None}
        slots = [self.slots[instead.get(rank, rank)] for rank in range(self.size)]
        return {
            "version": self.serial,
            **self.layout(),
            "nodes": [slot.node for slot in slots],
            "copies": {r: slot.nodes[1:] for r, slot in enumerate(slots) if len(slot.nodes) > 1},
            "instead": instead,
            "attributes": {**self.defaults, **self.attributes},
            "group": self.group,
            "needs": list(self.needs),
        }

    def withdraw(self, handle: str) -> None:
        """Mark what a handle offered as on its way out."""
        for rank in self.ranks_of(handle):
            self.slots[rank].withdrawn = True

    def missing(self) -> list[int]:
        """The ranks whose parts are not stored."""
        stored = {rank for rank, slot in self.slots.items() if slot.stored}
        return [rank for rank in range(self.size) if rank not in stored]
