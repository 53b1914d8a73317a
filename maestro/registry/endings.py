"""How versions, requirements and handles end: what is let go of, and who is told."""

from __future__ import annotations

from collections.abc import Iterable

from maestro import messages as m
from maestro.catalogue import Cdo
from maestro.errors import DataLostError, PoolLostError
from maestro.registry.state import State
from maestro.registry.telling import tell
from maestro.versions import Stage, Version

__all__ = [
    "cancel",
    "drop_requirement",
    "empty",
    "end",
    "fail",
    "forget_handle",
    "take_out",
    "tidy",
]


def take_out(state: State, cdo: Cdo, version: Version) -> None:
    """A rank is withdrawn: end the version as soon as nobody is to be served any more."""
    if version.unacknowledged:
        return  # whoever was told of it may still come for it
    if version.stage is Stage.POOLED:
        version.stage = Stage.LEAVING
        cdo.past.append(version)
        cdo.current = None
    wanted = cdo.pending if version.stage is Stage.FORMING else version.requirements
    if not wanted:
        end(state, cdo, version)


def end(state: State, cdo: Cdo, version: Version) -> None:
    """The version is over: its bytes go, and its producers are told."""
    empty(state, version, version.slots)
    for request, key in version.withdrawing.items():
        state.out.append(m.Reply(request))
        if key in state.handles:
            tell(state, "withdraw", cdo, state.handles[key], version)
    version.withdrawing.clear()
    for serial in list(version.unacknowledged):
        state.bulletin.unpinned(serial)
    version.requirements.clear()
    if version.stage is not Stage.OVER:
        version.stage = Stage.OVER
        version.over_at = state.joined
    if cdo.current is version:
        cdo.current = None
        cdo.past.append(version)
    tidy(state, cdo)


def fail(state: State, cdo: Cdo, version: Version, text: str) -> None:
    """What was lost can't be had any more: tell everyone who wants it, and end the version."""
    if version.stage is Stage.FORMING:
        for request, handle in list(cdo.waiting.items()):
            del cdo.waiting[request]
            if not state.handles[handle].required:
                cdo.pending.discard(handle)
            state.refuse(request, DataLostError(text))
    for handle in version.requirements:
        if state.handles[handle].required:
            state.handles[handle].lost = text
            cdo.pending.add(handle)
    end(state, cdo, version)


def empty(state: State, version: Version, ranks: Iterable[int], settled: bool = False) -> None:
    """Let the nodes drop these parts; those that are not stored may still be written to."""
    by_node: dict[tuple[str, bool], list[int]] = {}
    for rank in ranks:
        slot = version.slots[rank]
        if slot.node is not None:
            state.ledger.release(slot.node, slot.size)
            by_node.setdefault((slot.node, settled or slot.stored), []).append(rank)
            slot.node = None
    for (node, through), dropped in by_node.items():
        state.out.append(m.Free(node, version.serial, tuple(dropped), through))


def drop_requirement(state: State, cdo: Cdo, handle: str) -> None:
    """The handle wants nothing any more: served, retracted, or gone."""
    cancel(state, cdo.waiting, handle, f"CDO {cdo.name!r}: the demand was given up")
    state.handles[handle].required = False
    state.handles[handle].lost = ""
    cdo.pending.discard(handle)
    for version in cdo.versions():
        version.requirements.discard(handle)
        if version.going and version.stage is not Stage.OVER:
            take_out(state, cdo, version)


def cancel(state: State, waits: dict[int, str], handle: str, text: str) -> None:
    """Answer what a handle waits for but nobody will take any more."""
    for request in [request for request, waiter in waits.items() if waiter == handle]:
        del waits[request]
        state.refuse(request, PoolLostError(text))


def forget_handle(state: State, cdo: Cdo, handle: str) -> None:
    """Drop a handle that nobody will use any more."""
    del cdo.handles[handle], state.handles[handle]
    tidy(state, cdo)


def tidy(state: State, cdo: Cdo) -> None:
    """Drop what nobody can ask for any more."""
    cdo.past = [version for version in cdo.past if not version.forgettable(state.joins)]
    if not (cdo.handles or cdo.current or cdo.past):
        state.cdos.pop(cdo.name, None)
