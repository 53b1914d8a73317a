"""What subscribers are told of calls: before they take effect, and after."""

from __future__ import annotations

from typing import Any

from maestro import messages as m
from maestro.catalogue import Cdo, Handle
from maestro.messages import dtype_from_wire
from maestro.registry.state import State
from maestro.schemas.core import core_attributes
from maestro.versions import Version

__all__ = ["hold", "tell", "tell_of_app"]

#: Calls that can be held, beside the seal, and the kinds of their events.
_HELD: dict[type[m.Call], str] = {
    m.Offer: "offer",
    m.Withdraw: "withdraw",
    m.Require: "require",
    m.Retract: "retract",
    m.Demand: "demand",
    m.Dispose: "dispose",
}


def hold(state: State, call: m.Call) -> bool:
    """Tell of a call before it takes effect; whether it has to wait for somebody."""
    if isinstance(call, m.Seal):
        given = Handle.of(call)
        kinds: tuple[str, ...] = ("declare", "seal")
    elif type(call) in _HELD and call.handle in state.handles:  # type: ignore[attr-defined]
        given = state.handles[call.handle]  # type: ignore[attr-defined]
        kinds = (_HELD[type(call)],)
    else:
        return False
    if not state.bulletin.subscriptions.wanted_before(kinds):
        return False
    version = _current(state, given.name)
    if isinstance(call, m.Withdraw):
        version = state.cdos[given.name].offered_by(call.handle) or version
    payload: dict[str, Any] = {} if version is None else {"version": version.serial}
    if given.rank is not None:
        payload["rank"] = given.rank
    attributes = _attributes(given, version)
    return state.bulletin.hold(call, kinds, given.name, attributes, **payload)


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
    core = core_attributes(handle.name, distribution, element, handle.rank)
    return {**handle.defaults, **shared, **handle.attributes, **core}
