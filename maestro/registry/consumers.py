"""What consumers ask: require, retract, demand."""

from __future__ import annotations

from maestro import messages as m
from maestro.catalogue import Cdo, Handle
from maestro.errors import DataLostError
from maestro.registry.endings import drop_requirement
from maestro.registry.state import State
from maestro.registry.telling import tell
from maestro.versions import Stage, Version

__all__ = ["demand", "received", "require", "retract", "serve"]


def require(state: State, call: m.Require) -> None:
    """Keep what is in the pool, or comes next, for a handle."""
    handle, cdo = state.find(call)
    handle.required = True
    if cdo.current is not None and cdo.current.stage is Stage.POOLED:
        cdo.current.requirements.add(call.handle)
    else:
        cdo.pending.add(call.handle)
    state.reply(call, None if cdo.current is None else cdo.current.layout())
    tell(state, "require", cdo, handle)


def retract(state: State, call: m.Retract) -> None:
    """Take a requirement back."""
    handle, cdo = state.find(call)
    drop_requirement(state, cdo, call.handle)
    state.reply(call)
    tell(state, "retract", cdo, handle)


def demand(state: State, call: m.Demand) -> None:
    """Hand out what is kept for a handle, or is in the pool; else let the demand wait for it."""
    handle, cdo = state.find(call)
    if handle.lost:
        text, handle.lost = handle.lost, ""
        raise DataLostError(text)
    version = cdo.required_by(call.handle)
    if version is None and cdo.current is not None and cdo.current.stage is Stage.POOLED:
        version = cdo.current
        version.requirements.add(call.handle)
    if version is None:
        cdo.pending.add(call.handle)
        cdo.waiting[call.request] = call.handle
    else:
        serve(state, call.request, cdo, handle, version)


def serve(state: State, request: int, cdo: Cdo, handle: Handle, version: Version) -> None:
    """Answer a demand."""
    state.out.append(m.Reply(request, version.describe()))
    tell(state, "demand", cdo, handle, version)
    if version.distribution is not None:
        tell(state, "transport-begin", cdo, handle, version)


def received(state: State, call: m.Received) -> None:
    """A demand has its data, or could not get it."""
    handle, cdo = state.find(call)
    version = cdo.required_by(call.handle)
    if version is not None and version.distribution is not None:
        tell(state, "transport-end", cdo, handle, version, served=call.served)
    if call.served or not handle.required:
        drop_requirement(state, cdo, call.handle)
    else:
        handle.lost = ""  # the failure is known where it was met
    state.reply(call)
