"""The time that an app gave for a call ran out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maestro import messages as m
from maestro.errors import MaestroError, PoolTimeoutError
from maestro.registry.endings import forget_batch, give_up_demand, take_out
from maestro.registry.needs import bind
from maestro.registry.producers import enter, offer, offer_group
from maestro.registry.state import State
from maestro.registry.versions import Batch, Stage, Version

__all__ = ["expired"]

#: How many are named of what a demand waits for.
MISSING = 8


def expired(state: State, event: m.Expired) -> None:
    """Answer a request that waits, whatever it waits for."""
    request = event.request
    held: Any = state.bulletin.give_up(request)
    if held is not None:
        name = _name(state, held)
        text = f"CDO {name!r}: not begun after {event.seconds:g} s: a subscriber holds it"
        state.refuse(request, PoolTimeoutError(text))
    elif request in state.queue:
        _give_up_offer(state, request)
    elif request in state.demands:
        _give_up_demand(state, event)
    elif request in state.batches:
        _give_up_batch(state, state.batches[request], event)
    elif event.handle in state.handles:
        _give_up_withdraw(state, event)


def _name(state: State, held: Any) -> str:
    if isinstance(held, m.Seals):
        return held.seals[-1].name
    return held.name if isinstance(held, m.Seal) else state.handles[held.handle].name


def _give_up_offer(state: State, request: int) -> None:
    """Try once more, so that the error says what there is no room for."""
    call = state.queue[request].call
    try:
        if isinstance(call, m.Offer):
            offer(state, replace(call, wait=False))
        else:
            offer_group(state, replace(call, wait=False))
    except MaestroError as error:
        del state.queue[request]
        state.refuse(request, error)


def _give_up_demand(state: State, event: m.Expired) -> None:
    demand = state.demands[event.request]
    own = state.handles[demand.handle].name
    what = f"CDO {own!r}: not there after {demand.waited + event.seconds:g} s"
    if demand.missing == [own]:
        text = f"{what}: {state.cdos[own].progress()}"
    else:
        named = [f"{name!r}: {state.cdos[name].progress()}" for name in demand.missing[:MISSING]]
        more = len(demand.missing) - len(named)
        text = f"{what}: it needs {'; '.join(named)}{f'; and {more} more' if more else ''}"
    give_up_demand(state, event.request, PoolTimeoutError(text))


def _give_up_batch(state: State, batch: Batch, event: m.Expired) -> None:
    forget_batch(state, batch)
    name = state.handles[batch.handle].name
    text = _still_required(state, name, batch.versions, event.seconds)
    for key, version in batch.offered.items():
        _put_back(version, key)
    state.refuse(event.request, PoolTimeoutError(text))
    for version in batch.versions:
        _return_to_pool(state, version)


def _give_up_withdraw(state: State, event: m.Expired) -> None:
    cdo = state.cdos[state.handles[event.handle].name]
    for version in cdo.versions():
        if event.request in version.withdrawing:
            del version.withdrawing[event.request]
            text = _still_required(state, cdo.name, [version], event.seconds)
            _put_back(version, event.handle)
            state.refuse(event.request, PoolTimeoutError(text))
            _return_to_pool(state, version)
            return


def _still_required(state: State, name: str, versions: list[Version], seconds: float) -> str:
    by: set[str] = set()
    for version in versions:
        forming = version.stage is Stage.FORMING
        wanted = state.cdos[version.name].pending if forming else version.requirements
        by |= {state.handles[handle].app for handle in wanted}
        by |= {repr(each.name) for each in version.holders.values() if each not in versions}
        if version.unacknowledged:
            by.add("subscribers who have not acknowledged it")
    who = ", ".join(sorted(by))
    return f"CDO {name!r}: not withdrawn after {seconds:g} s: still required by {who}"


def _put_back(version: Version, handle: str) -> None:
    for rank in version.ranks_of(handle):
        version.slots[rank].withdrawn = False


def _return_to_pool(state: State, version: Version) -> None:
    """What nobody withdraws any more stays in the pool, unless another one has come meanwhile."""
    cdo = state.cdos.get(version.name)
    if version.going:
        take_out(state, version)  # it need not wait for others any more
    elif version.stage is Stage.LEAVING and cdo is not None and cdo.current is None:
        cdo.past.remove(version)
        cdo.current = version
        bind(state, cdo, version)  # those who came meanwhile, and need it
        enter(state, cdo, version)
