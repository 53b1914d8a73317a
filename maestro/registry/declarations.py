"""Handles: how they come and go."""

from __future__ import annotations

from maestro import messages as m
from maestro.catalogue import Cdo, Handle
from maestro.errors import LifecycleError
from maestro.registry.endings import drop_requirement, forget_handle
from maestro.registry.state import State
from maestro.registry.telling import tell

__all__ = ["dispose", "seal"]


def seal(state: State, call: m.Seal) -> None:
    """Take a handle in, if it agrees with the others of its name."""
    if call.handle in state.handles:
        raise LifecycleError(f"CDO {call.name!r}: the handle is sealed already")
    cdo = state.cdos.get(call.name) or Cdo(call.name)
    handle = Handle.of(call)
    cdo.check(handle)
    state.cdos[call.name] = cdo
    cdo.handles[call.handle] = state.handles[call.handle] = handle
    state.reply(call)
    tell(state, "declare", cdo, handle)
    tell(state, "seal", cdo, handle)


def dispose(state: State, call: m.Dispose) -> None:
    """Forget a handle that offers nothing."""
    handle, cdo = state.find(call)
    if cdo.offered_by(call.handle) is not None:
        raise LifecycleError(f"CDO {cdo.name!r}: dispose was called before withdraw")
    drop_requirement(state, cdo, call.handle)
    tell(state, "dispose", cdo, handle)
    forget_handle(state, cdo, call.handle)
    state.reply(call)
