"""The time that an app gave for a call ran out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maestro import messages as m
from maestro.catalogue import Cdo
from maestro.errors import MaestroError, PoolTimeoutError
from maestro.registry.endings import drop_requirement
from maestro.registry.producers import offer
from maestro.registry.state import State
from maestro.versions import Stage, Version

__all__ = ["expired"]


def expired(state: State, event: m.Expired) -> None:
    """Answer a request that waits, whatever it waits for."""
    if event.request in state.queue:
        call = state.queue.pop(event.request)
        try:
            offer(state, replace(call, wait=False))  # says what there is no room for
        except MaestroError as error:
            state.refuse(event.request, error)
        return
    for subscription, (request, _) in state.bulletin.polls.items():
        if request == event.request:
            _, most = state.bulletin.polls.pop(subscription)
            state.out.append(m.Reply(request, state.bulletin.batch(subscription, most)))
            return
    held: Any = state.bulletin.give_up(event.request)
    if held is not None:
        name = held.name if isinstance(held, m.Seal) else state.handles[held.handle].name
        text = f"CDO {name!r}: not begun after {event.seconds:g} s: a subscriber holds it"
        state.refuse(event.request, PoolTimeoutError(text))
        return
    cdo = state.cdos[state.handles[event.handle].name]
    if event.request in cdo.waiting:
        _give_up_demand(state, cdo, event)
    for version in cdo.versions():
        if event.request in version.withdrawing:
            _give_up_withdraw(state, cdo, version, event)


def _give_up_demand(state: State, cdo: Cdo, event: m.Expired) -> None:
    del cdo.waiting[event.request]
    text = f"CDO {cdo.name!r}: not there after {event.seconds:g} s: {cdo.progress()}"
    if not state.handles[event.handle].required:
        drop_requirement(state, cdo, event.handle)
    state.refuse(event.request, PoolTimeoutError(text))


def _give_up_withdraw(state: State, cdo: Cdo, version: Version, event: m.Expired) -> None:
    handle = version.withdrawing.pop(event.request)
    for rank in version.ranks_of(handle):
        version.slots[rank].withdrawn = False
    wanted = version.requirements or cdo.pending
    apps = sorted({state.handles[h].app for h in wanted})
    if version.unacknowledged:
        apps.append("subscribers who have not acknowledged it")
    text = (
        f"CDO {cdo.name!r}: not withdrawn after {event.seconds:g} s:"
        f" still required by {', '.join(apps)}"
    )
    state.refuse(event.request, PoolTimeoutError(text))
    if version.stage is Stage.LEAVING and not version.going and cdo.current is None:
        version.stage = Stage.POOLED
        cdo.past.remove(version)
        cdo.current = version
