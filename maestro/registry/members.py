"""Who is in the pool: apps come and go, and die."""

from __future__ import annotations

from collections import deque

from maestro import messages as m
from maestro.errors import LifecycleError, PoolLostError
from maestro.registry.catalogue import Cdo
from maestro.registry.endings import (
    cancel_withdrawals,
    drop_requirement,
    fail,
    forget_handle,
    take_out,
    tidy,
)
from maestro.registry.state import Departure, State
from maestro.registry.telling import tell_of_app
from maestro.registry.versions import Stage, Version

__all__ = ["app_lost", "depart", "join", "leave", "line_lost"]

#: Handles of apps that are gone which are forgotten before others get their turn: each takes some
#: 50 us, and an app may have had 100 000.
AT_ONCE = 256


def join(state: State, call: m.Join) -> None:
    """Take an app in."""
    if call.app in state.apps:
        raise LifecycleError(f"app {call.app!r} has joined already")
    state.joined += 1
    state.joins[call.app] = state.joined
    state.apps[call.app] = call
    state.reply(call)
    tell_of_app(state, "join", call)


def leave(state: State, call: m.Leave) -> None:
    """Let an app go."""
    _forget_app(state, call.app, False, call)


def app_lost(state: State, event: m.AppLost) -> None:
    """All apps of a client are gone without a word."""
    for app in [app for app, joined in state.apps.items() if joined.client == event.client]:
        _forget_app(state, app, True)


def line_lost(state: State, event: m.LineLost) -> None:
    """An app is gone without a word."""
    if event.app in state.apps:
        _forget_app(state, event.app, True)


def _forget_app(state: State, app: str, died: bool, last: m.Leave | None = None) -> None:
    if app in state.departures:
        return
    for request in [r for r, waiting in state.queue.items() if waiting.call.app == app]:
        del state.queue[request]
        state.refuse(request, PoolLostError(f"app {app!r} left"))
    for call in state.bulletin.held_of(app):
        state.bulletin.give_up(call.request)
        state.refuse(call.request, PoolLostError(f"app {app!r} left"))
    for subscription in state.bulletin.subscriptions.of(app):
        state.bulletin.forget(subscription)
    state.bulletin.subscriptions.leave(state.bulletin.time, app, died)
    lease = state.leases.pop(app, None)
    if lease is not None and died:  # something may have been stored, or be on its way
        serial, node = lease
        state.out.append(m.Free(node, serial, (0,), settled=False))
    # Groups, which are sealed after their members, before these.
    keys = [key for key, known in reversed(state.handles.items()) if known.app == app]
    state.departures[app] = Departure(app, died, last, deque(keys))
    depart(state)


def depart(state: State) -> None:
    """Forget some more of what apps that are gone had, until others had their turn."""
    left = AT_ONCE
    for departure in list(state.departures.values()):
        while departure.handles and left:
            _let_go_of(state, departure.handles.popleft(), departure.died)
            left -= 1
        if not departure.handles:
            _gone(state, departure)


def _let_go_of(state: State, key: str, died: bool) -> None:
    cdo = state.cdos[state.handles[key].name]
    cancel_withdrawals(state, key)
    for version in cdo.versions():
        _leave_behind(state, cdo, version, key, died)
    drop_requirement(state, key)
    forget_handle(state, key)


def _gone(state: State, departure: Departure) -> None:
    """Nothing is left of an app."""
    app = departure.app
    del state.departures[app]
    tell_of_app(state, "leave", state.apps[app], died=departure.died)
    del state.apps[app], state.joins[app]
    for cdo in [cdo for cdo in state.cdos.values() if cdo.past]:
        tidy(state, cdo)  # nobody may be left who could belong to an ended round
    if departure.call is not None:
        state.reply(departure.call)


def _leave_behind(state: State, cdo: Cdo, version: Version, handle: str, died: bool) -> None:
    """What an app that is gone had offered: serve those who required it, if that can be."""
    ranks = version.ranks_of(handle)
    if not ranks:
        return
    slots = [version.slots[rank] for rank in ranks]
    finished = all(slot.stored and (slot.withdrawn or not died) for slot in slots)
    version.withdraw(handle)
    if version.stage is Stage.FORMING and not finished:
        app = slots[0].app
        how = "died" if died else "left"
        text = (
            f"CDO {cdo.name!r}: app {app!r} {how} while it offered ranks {ranks}"
            f" of {version.size}; {cdo.progress()}"
        )
        fail(state, cdo, version, text)
    elif version.stage is not Stage.OVER:
        take_out(state, version)
