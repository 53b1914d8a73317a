"""What is known under one name: its handles, and its versions past and present."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from layouts import Distribution
from maestro.errors import InconsistentError
from maestro.messages import Seal
from maestro.registry.versions import Stage, Version
from maestro.spelling import dtype_from_wire

__all__ = ["Cdo", "Handle", "Spread", "ranks_spoken_for", "unite"]


@dataclass(frozen=True)
class Spread:
    """The ranks that a group's handle speaks for, out of how many: those of its members."""

    ranks: tuple[int, ...] = (0,)
    size: int = 1


@dataclass
class Handle:
    """What an app has announced of a CDO."""

    app: str
    name: str
    rank: int | None
    dtype: str | None
    distribution: Distribution | None
    attributes: dict[str, Any]
    defaults: dict[str, Any] = field(default_factory=dict)  # of attributes that nobody has set
    depends: tuple[str, ...] = ()  # names of CDOs that go with it; a group's members
    wants: tuple[str, ...] = ()  # names that a requirement of this handle is about
    members: tuple[str, ...] = ()  # a group's: handles
    group: Spread | None = None
    push: bool = False
    owner: str = ""  # the group that it is a member of: its handle
    demands: set[int] = field(default_factory=set)  # requests that wait
    required: bool = False  # by a require, apart from any demand
    along: bool = True  # whether its demand is also for what goes with it
    lost: str = ""  # why the version that it required can't be had any more

    @classmethod
    def of(cls, call: Seal) -> Handle:
        """The handle that a call announces."""
        words = call.attributes, call.defaults, call.depends, (call.name, *call.depends)
        handle = cls(call.app, call.name, call.rank, call.dtype, call.distribution, *words)
        handle.group = Spread() if call.group else None
        handle.push = call.push
        return handle

    def part_size(self, rank: int) -> int:
        """Bytes of one rank's part; 0 for a CDO without data."""
        if self.distribution is None or self.dtype is None:
            return 0
        itemsize = dtype_from_wire(self.dtype).itemsize
        return self.distribution.local_size(rank) * itemsize


@dataclass
class Cdo:
    """One name."""

    name: str
    handles: dict[str, Handle] = field(default_factory=dict)
    current: Version | None = None  # forming or pooled: there is never more than one
    past: list[Version] = field(default_factory=list)  # leaving or over, oldest first
    # Handles that want the next version: of this name, or of one that this goes with.
    pending: set[str] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)  # requests of demands
    awaited: dict[int, Version] = field(default_factory=dict)  # versions that need the next one

    @property
    def empty(self) -> bool:
        """Whether there is nothing to be known of it any more."""
        known = self.handles or self.current or self.past
        return not (known or self.pending or self.waiting or self.awaited)

    @property
    def pooled(self) -> bool:
        """Whether it is in the pool."""
        return self.current is not None and self.current.stage is Stage.POOLED

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        return [*self.past, self.current] if self.current is not None else list(self.past)

    def offered_by(self, handle: str) -> Version | None:
        """The version that a handle has offered and not withdrawn."""
        for version in self.versions():
            for slot in version.slots.values():
                if slot.handle == handle and not slot.withdrawn:
                    return version
        return None

    def required_by(self, handle: str) -> Version | None:
        """The version that is kept for a handle."""
        return next((v for v in self.versions() if handle in v.requirements), None)

    def check(self, given: Handle, but: str = "") -> None:
        """Raise InconsistentError if a handle disagrees with what is known under this name.

        Parameters
        ----------
        given : Handle
            What is said.
        but : str
            The handle that says it, if it is one of these already.
        """
        known = [
            (f"app {handle.app!r} says", handle.distribution, handle.dtype, handle.attributes)
            for key, handle in self.handles.items()
            if key != but
        ]
        if self.current is not None:
            version = self.current
            known.append(("offered", version.distribution, version.dtype, version.attributes))
        for who, distribution, dtype, attributes in known:
            self._compare("shape", _shape(given.distribution), _shape(distribution), who)
            self._compare("dtype", given.dtype, dtype, who)
            for key in given.attributes.keys() & attributes.keys():
                what = f"attribute {key!r}"
                self._compare(what, given.attributes[key], attributes[key], who)

    def _compare(self, what: str, given: Any, expected: Any, who: str) -> None:
        if given is not None and expected is not None and given != expected:
            if what == "dtype":
                given, expected = dtype_from_wire(given), dtype_from_wire(expected)
            raise InconsistentError(
                f"CDO {self.name!r}: {what} {given!s} was given, expected {expected!s} as {who}"
            )

    def progress(self) -> str:
        """How far the next version is, in words."""
        for each in self.versions():
            if each.stage is not Stage.OVER and (lost := each.missing_parts):
                nodes = ", ".join(sorted({each.slots[rank].left_by for rank in lost}))
                return f"ranks {_listed(lost)} were left by node {nodes}, and no other has them yet"
        version = self.current
        if version is None or version.stage is not Stage.FORMING:
            ended = ", the last one is withdrawn or lost" if self.past else ""
            return f"nobody offers it{ended}"
        missing = version.missing()
        return (
            f"ranks {_listed(missing)} of {version.size} are missing"
            f" (offered so far by {', '.join(sorted(version.apps))})"
        )


def ranks_spoken_for(handle: Handle) -> list[int]:
    """The ranks that a handle offers: its own, or all of them."""
    if handle.group is not None:
        return list(handle.group.ranks)
    if handle.rank is not None:
        return [handle.rank]
    return list(range(1 if handle.distribution is None else handle.distribution.size))


def unite(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The attributes of two handles that agree."""
    return {**one, **other}


def _shape(distribution: Distribution | None) -> tuple[int, ...] | None:
    return None if distribution is None else distribution.shape


def _listed(ranks: list[int]) -> str:
    if len(ranks) > 20:
        return f"[{', '.join(map(str, ranks[:20]))} and {len(ranks) - 20} more]"
    return str(ranks)
