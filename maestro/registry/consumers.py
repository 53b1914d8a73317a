"""What consumers ask: require, retract, demand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from maestro import messages as m
from maestro.errors import DataLostError
from maestro.registry.catalogue import Cdo, Handle
from maestro.registry.endings import drop_requirement
from maestro.registry.needs import find
from maestro.registry.state import Demand, State
from maestro.registry.telling import tell
from maestro.registry.versions import Version

__all__ = [
    "demand",
    "locate",
    "push",
    "received",
    "require",
    "resume",
    "retract",
    "settle_seeks",
    "try_again",
]


def require(state: State, call: m.Require) -> None:
    """Keep what is in the pool, or comes next, for a handle."""
    handle, cdo = state.find(call)
    handle.required = True
    found, _ = find(state, call.handle)
    _claim(state, call.handle, found)
    layouts: dict[str, Any] = {} if cdo.current is None else cdo.current.layout()
    if along := {name: each.layout() for name, each in found.items() if name != cdo.name}:
        layouts["along"] = along
    state.reply(call, layouts or None)
    if any(found[name].push for name in handle.wants if name in found):
        push(state, [call.handle])
    for party in _parties(state, call.handle, found):
        tell(state, "require", *party)


def push(state: State, keys: Iterable[str]) -> None:
    """Let those who require something that is pushed move it now."""
    for key in sorted(keys):
        handle = state.handles[key]
        if handle.required and not handle.demands:
            state.out.append(m.Tell(handle.app, m.PUSHED, f"{key}\n".encode(errors="replace")))


def retract(state: State, call: m.Retract) -> None:
    """Take a requirement back."""
    state.find(call)
    drop_requirement(state, call.handle)
    state.reply(call)
    for party in _parties(state, call.handle, {}):
        tell(state, "retract", *party)


def demand(state: State, call: m.Demand) -> None:
    """Hand out what is kept for a handle, or is in the pool; else let the demand wait for it."""
    handle, _ = state.find(call)
    if handle.lost:
        text, handle.lost = handle.lost, ""
        raise DataLostError(text)
    handle.along = call.along
    _serve(state, call.request, call.handle, call.waited)


def try_again(state: State, request: int) -> None:
    """Some of what a demand was waiting for has come."""
    waited = state.demands.pop(request)
    state.handles[waited.handle].demands.discard(request)
    for name in waited.missing:
        state.cdos[name].waiting.discard(request)
    _serve(state, request, waited.handle, waited.waited)


def _serve(state: State, request: int, key: str, waited: float) -> None:
    """Answer a demand, or let it wait for what is missing."""
    handle = state.handles[key]
    found, missing = find(state, key, along=handle.along)
    _claim(state, key, found)
    missing += [name for name, version in found.items() if version.missing_parts]
    if missing:
        state.demands[request] = Demand(key, missing, waited)
        handle.demands.add(request)
        for name in missing:
            state.cdos.setdefault(name, Cdo(name)).waiting.add(request)
        return
    state.out.append(m.Reply(request, _described(handle, found)))
    for cdo, known, version in _parties(state, key, found):
        tell(state, "demand", cdo, known, version)
        if version is not None and version.distribution is not None:
            tell(state, "transport-begin", cdo, known, version)


def _described(handle: Handle, found: Mapping[str, Version]) -> dict[str, Any]:
    own = found.get(handle.name)
    answer = dict(_NOTHING) if own is None else own.describe()
    if along := {name: each.describe() for name, each in found.items() if each is not own}:
        answer["along"] = along
    return answer


def locate(state: State, call: m.Locate) -> None:
    """Say anew to a demand under way where the parts are, as soon as all are to be had."""
    state.find(call)
    state.seeks[call.request] = call.handle


def settle_seeks(state: State) -> None:
    """Answer those of whose parts none is missing any more, and those that will not get them."""
    for request, key in list(state.seeks.items()):
        handle = state.handles[key]
        found, missing = find(state, key, kept=True, along=handle.along)
        if handle.lost or missing:
            lost = handle.lost or f"CDO {handle.name!r}: nothing is kept for this handle"
            state.refuse(request, DataLostError(lost))
        elif any(version.missing_parts for version in found.values()):
            continue
        else:
            state.out.append(m.Reply(request, _described(handle, found)))
        del state.seeks[request]


def resume(state: State, version: Version) -> None:
    """All parts of a version are to be had again: look anew at the demands that wait for it."""
    for request in sorted(state.cdos[version.name].waiting):
        try_again(state, request)


#: What there is of a group that nobody offers: its members alone.
_NOTHING: Mapping[str, Any] = {
    "version": None,
    "dtype": None,
    "distribution": None,
    "nodes": [],
    "copies": {},
    "instead": {},
    "attributes": {},
    "group": True,
    "needs": [],
}


def received(state: State, call: m.Received) -> None:
    """A demand has its data, or could not get it."""
    handle, _ = state.find(call)
    joined = state.apps[call.app]
    state.traffic.add(joined.workflow, joined.component, call.moved)
    found, _ = find(state, call.handle, kept=True, along=handle.along)
    for cdo, known, version in _parties(state, call.handle, found):
        if version is not None and version.distribution is not None:
            tell(state, "transport-end", cdo, known, version, served=call.served)
    if (call.served and not call.stay) or not handle.required:
        drop_requirement(state, call.handle)
    else:
        handle.lost = ""  # the failure is known where it was met
    state.reply(call)


def _claim(state: State, key: str, found: Mapping[str, Version]) -> None:
    """Keep what is there for a handle, and what is not as soon as it comes."""
    for name in state.handles[key].wants:
        if name in found:
            found[name].requirements.add(key)
        else:
            state.cdos.setdefault(name, Cdo(name)).pending.add(key)


def _parties(
    state: State, key: str, found: Mapping[str, Version]
) -> Iterator[tuple[Cdo, Handle, Version | None]]:
    """All that a call of one handle is about: itself, a group's members, what goes along."""
    told = set()
    for _, handle, cdo in state.together(key):
        told.add(cdo.name)
        yield cdo, handle, found.get(cdo.name)
    app = state.handles[key].app
    for name, version in found.items():
        if name not in told:
            yield state.cdos[name], Handle(app, name, None, None, None, {}), version
