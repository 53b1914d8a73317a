"""What subscribers are told of calls: before they take effect, and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from maestro import messages as m
from maestro.registry.catalogue import Cdo, Handle
from maestro.registry.state import State
from maestro.registry.versions import Version
from maestro.schemas.core import core_attributes
from maestro.spelling import dtype_from_wire

__all__ = ["hold", "tell", "tell_of_app"]

#: Calls that can be held, and the kinds of their events.
_HELD: dict[type[m.Call], tuple[str, ...]] = {
    m.Seal: ("declare", "seal"),
    m.Seals: ("declare", "seal"),
    m.Offer: ("offer",),
    m.OfferGroup: ("offer",),
    m.Withdraw: ("withdraw",),
    m.Require: ("require",),
    m.Retract: ("retract",),
    m.Demand: ("demand",),
    m.Dispose: ("dispose",),
}


def hold(state: State, call: m.Call) -> bool:
    """Tell of a call before it takes effect; whether it has to wait for somebody."""
    kinds = _HELD.get(type(call), ())
    if not state.bulletin.subscriptions.wanted_before(kinds):
        return False
    told = [_before(state, call, key, handle) for key, handle in _concerned(state, call)]
    return state.bulletin.hold(call, kinds, told)


def _concerned(state: State, call: Any) -> Iterator[tuple[str, Handle]]:
    """The handles that a call is about: a group's members, too."""
    if isinstance(call, m.Seal):
        yield call.handle, Handle.of(call)
    elif isinstance(call, m.Seals):
        yield from ((each.handle, Handle.of(each)) for each in call.seals)
    elif call.handle in state.handles:
        yield from ((key, handle) for key, handle, _ in state.together(call.handle))


def _before(
    state: State, call: m.Call, key: str, handle: Handle
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """What there is to say of a handle before a call: name, attributes and payload."""
    version = _current(state, handle.name)
    if isinstance(call, m.Withdraw):
        version = state.cdos[handle.name].offered_by(key) or version
    payload: dict[str, Any] = {} if version is None else {"version": version.serial}
    if handle.rank is not None:
        payload["rank"] = handle.rank
    return handle.name, _attributes(handle, version), payload


def tell(
    state: State,
    kind: str,
    cdo: Cdo,
    handle: Handle,
    version: Version | None = None,
    **payload: Any,
) -> int | None:
    """Tell of what an app did with a CDO; the serial if somebody is to acknowledge it."""
    version = version or _current(state, cdo.name)
    if version is not None:
        payload["version"] = version.serial
    if handle.rank is not None:
        payload["rank"] = handle.rank
    attributes = _attributes(handle, version)
    return state.bulletin.tell(kind, cdo.name, handle.app, attributes, **payload)


def tell_of_app(state: State, kind: str, joined: m.Join, **payload: Any) -> None:
    """Tell of an app that comes or goes."""
    words = {"workflow": joined.workflow, "component": joined.component}
    state.bulletin.tell(kind, None, joined.app, {}, **words, **payload)


def _current(state: State, name: str) -> Version | None:
    return state.cdos[name].current if name in state.cdos else None


def _attributes(handle: Handle, version: Version | None) -> dict[str, Any]:
    """What selectors see: maestro's own attributes, and those of the pool and the handle."""
    distribution, dtype = handle.distribution, handle.dtype
    shared: dict[str, Any] = {}
    if version is not None:
        distribution = distribution or version.distribution
        dtype = dtype or version.dtype
        shared = {**version.defaults, **version.attributes}
    element = None if dtype is None else dtype_from_wire(dtype)
    members = None
    if handle.group is not None or (version is not None and version.group):
        members = handle.depends or (() if version is None else version.needs)
    core = core_attributes(handle.name, distribution, element, handle.rank, members)
    return {**handle.defaults, **shared, **handle.attributes, **core}
