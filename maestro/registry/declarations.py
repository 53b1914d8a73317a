"""Handles: how they come and go."""

from __future__ import annotations

from maestro import messages as m
from maestro.errors import InconsistentError, LifecycleError, MaestroError
from maestro.registry.catalogue import Cdo, Handle, Spread
from maestro.registry.endings import drop_requirement, forget_handle
from maestro.registry.needs import check_acyclic
from maestro.registry.state import State
from maestro.registry.telling import tell

__all__ = ["dispose", "seal", "seal_all"]


def seal(state: State, call: m.Seal) -> None:
    """Take a handle in, if it agrees with the others of its name."""
    handle = _take_in(state, call)
    state.reply(call)
    _tell(state, handle)


def seal_all(state: State, call: m.Seals) -> None:
    """Take all of the handles in, or none."""
    handles: dict[str, Handle] = {}
    try:
        for each in call.seals:
            handles[each.handle] = _take_in(state, each)
    except MaestroError:
        for key in reversed(handles):
            forget_handle(state, key)
        raise
    state.reply(call)
    for handle in handles.values():
        _tell(state, handle)


def dispose(state: State, call: m.Dispose) -> None:
    """Forget a handle that offers nothing, for a group also those of its members."""
    handle, _ = state.find(call)
    if handle.owner:
        raise LifecycleError(
            f"CDO {handle.name!r}: dispose was called, expected the group"
            f" {state.handles[handle.owner].name!r} to be disposed of"
        )
    together = list(state.together(call.handle))
    for key, _, cdo in together:
        if cdo.offered_by(key) is not None:
            raise LifecycleError(f"CDO {cdo.name!r}: dispose was called before withdraw")
    for key, each, cdo in reversed(together):
        drop_requirement(state, key)
        tell(state, "dispose", cdo, each)
        forget_handle(state, key)
    state.reply(call)


def _take_in(state: State, call: m.Seal) -> Handle:
    if call.handle in state.handles:
        raise LifecycleError(f"CDO {call.name!r}: the handle is sealed already")
    handle = Handle.of(call)
    if call.group:
        _gather(state, call, handle)
    cdo = state.cdos.get(call.name) or Cdo(call.name)
    cdo.check(handle)
    if handle.depends:
        check_acyclic(state, call.name, handle.depends)
    state.cdos[call.name] = cdo
    cdo.handles[call.handle] = state.handles[call.handle] = handle
    for member in handle.members:
        state.handles[member].owner = call.handle
    return handle


def _gather(state: State, call: m.Seal, group: Handle) -> None:
    """Let a group speak for its members.

    For their ranks, too: where each rank of a CDO is offered by an app of its own, so is that of
    the group. Where members are spread over more ranks or fewer, those with the most count.
    """
    spread: dict[int, set[int]] = {}
    wants: dict[str, None] = {}
    depends = dict.fromkeys(call.depends)
    for key in call.members:
        member = state.handles.get(key)
        if member is None or member.app != call.app:
            whose = "unknown" if member is None else f"of app {member.app!r}"
            raise InconsistentError(
                f"CDO {call.name!r}: its member {key!r} is {whose}, expected handles of app"
                f" {call.app!r} that are sealed"
            )
        if member.owner:
            raise LifecycleError(
                f"CDO {call.name!r}: its member {member.name!r} is in group"
                f" {state.handles[member.owner].name!r} already"
            )
        wants.update(dict.fromkeys(member.wants))
        depends[member.name] = None
        if member.group is not None:
            spread.setdefault(member.group.size, set()).update(member.group.ranks)
        elif member.rank is not None and member.distribution is not None:
            spread.setdefault(member.distribution.size, set()).add(member.rank)
    size = max(spread, default=1)
    group.members = call.members
    group.group = Spread(tuple(sorted(spread[size])), size) if size > 1 else Spread()
    group.depends = tuple(depends)
    group.wants = tuple(wants) or (call.name,)


def _tell(state: State, handle: Handle) -> None:
    cdo = state.cdos[handle.name]
    tell(state, "declare", cdo, handle)
    tell(state, "seal", cdo, handle)
