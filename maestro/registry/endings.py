"""How versions, requirements and handles end: what is let go of, and who is told."""

from __future__ import annotations

from collections.abc import Iterable

from maestro import messages as m
from maestro.errors import DataLostError, MaestroError, PoolLostError
from maestro.registry.catalogue import Cdo
from maestro.registry.needs import let_go, unbind
from maestro.registry.state import State
from maestro.registry.telling import tell
from maestro.registry.versions import Batch, Stage, Version

__all__ = [
    "cancel_withdrawals",
    "drop_requirement",
    "empty",
    "end",
    "fail",
    "forget_batch",
    "forget_handle",
    "give_up_demand",
    "take_out",
    "tidy",
]


def take_out(state: State, version: Version) -> None:
    """A rank is withdrawn: end the version as soon as nobody is to be served any more.

    And those that are withdrawn together with it, as soon as nobody needs any of them.
    """
    if version.stage is Stage.OVER:  # it came late to a round that is over: nobody waits for it
        end(state, [version])
        return
    company = version.company
    serials = {each.serial for each in company}
    for each in company:
        if each.unacknowledged or not each.holders.keys() <= serials:
            return  # whoever was told of it, or wants what needs it, may still come for it
    for each in company:
        if each.stage is Stage.POOLED:
            cdo = state.cdos[each.name]
            each.stage = Stage.LEAVING
            cdo.past.append(each)
            cdo.current = None
    if not any(_wanted(state, each) for each in company):
        end(state, company)


def _wanted(state: State, version: Version) -> bool:
    if version.stage is Stage.FORMING:
        return bool(state.cdos[version.name].pending)
    return bool(version.requirements)


def end(state: State, versions: Iterable[Version]) -> None:
    """The versions are over: their bytes go, and their producers are told."""
    batches: dict[int, Batch] = {}
    for version in versions:
        unbind(state, version)
        batches.update((batch.request, batch) for batch in version.batches)
        _end_one(state, state.cdos[version.name], version)
    for batch in batches.values():
        left = [version for version in batch.versions if version.stage is not Stage.OVER]
        if left:  # it was lost: the others need not wait for it any more
            state.freed += left
        else:
            _end_batch(state, batch)


def _end_one(state: State, cdo: Cdo, version: Version) -> None:
    let_go(cdo, version)
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
        del state.live[version.serial]
        version.over_at = state.joined
    if cdo.current is version:
        cdo.current = None
        cdo.past.append(version)
    tidy(state, cdo)


def _end_batch(state: State, batch: Batch) -> None:
    """All of a group is over: answer its withdrawal."""
    forget_batch(state, batch)
    state.out.append(m.Reply(batch.request))
    for key, version in batch.offered.items():
        if key in state.handles:
            cdo = state.cdos[version.name]
            tell(state, "withdraw", cdo, state.handles[key], version)
            tidy(state, cdo)


def fail(state: State, cdo: Cdo, version: Version, text: str) -> None:
    """What was lost can't be had any more: tell everyone who wants it, and end the version."""
    wanting = dict.fromkeys(sorted(version.requirements))
    todo = [version]
    while todo:  # and everyone who wants what needs it
        for holder in todo.pop().holders.values():
            wanting.update(dict.fromkeys(sorted(holder.requirements)))
            todo.append(holder)
    told = {request for handle in wanting for request in state.handles[handle].demands}
    if version.stage is Stage.FORMING:
        told |= cdo.waiting
    cdo.pending |= {handle for handle in version.requirements if state.handles[handle].required}
    end(state, [version])
    if cdo.current is not None and cdo.pooled:  # the next one is there already
        cdo.current.requirements |= cdo.pending
        cdo.pending.clear()
    for handle in wanting:
        known = state.handles[handle]
        if not known.demands:  # else it hears of it now; if it is fetching, as soon as it asks
            known.lost = text
    for request in sorted(told):
        give_up_demand(state, request, DataLostError(text))


def give_up_demand(state: State, request: int, error: MaestroError) -> None:
    """Refuse a demand that waits; what was required before still is."""
    key = _forget_demand(state, request)
    state.refuse(request, error)
    handle = state.handles[key]
    if not (handle.required or handle.demands):
        drop_requirement(state, key)


def _forget_demand(state: State, request: int) -> str:
    demand = state.demands.pop(request)
    state.handles[demand.handle].demands.discard(request)
    for name in demand.missing:
        cdo = state.cdos[name]
        cdo.waiting.discard(request)
        tidy(state, cdo)
    return demand.handle


def empty(state: State, version: Version, ranks: Iterable[int], settled: bool = False) -> None:
    """Let the nodes drop these parts; those that are not stored may still be written to."""
    by_node: dict[tuple[str, bool], list[int]] = {}
    for rank in ranks:
        slot = version.slots[rank]
        for node in slot.nodes:
            state.ledger.release(node, slot.size)
            by_node.setdefault((node, settled or slot.stored), []).append(rank)
        slot.nodes = []
        if rank in version.gone and slot.estate in state.estates:
            state.estates[slot.estate].parts.pop((version.serial, rank), None)
    for (node, through), dropped in by_node.items():
        state.out.append(m.Free(node, version.serial, tuple(dropped), through))


def drop_requirement(state: State, key: str) -> None:
    """The handle wants nothing any more: served, retracted, or gone."""
    handle = state.handles[key]
    for request in sorted(handle.demands):
        _forget_demand(state, request)
        text = f"CDO {handle.name!r}: the demand was given up"
        state.refuse(request, PoolLostError(text))
    for request in [request for request, seeker in state.seeks.items() if seeker == key]:
        del state.seeks[request]
        state.refuse(request, PoolLostError(f"CDO {handle.name!r}: the demand was given up"))
    handle.required = False
    handle.lost = ""
    for name in handle.wants:
        cdo = state.cdos.get(name)
        if cdo is None:
            continue
        cdo.pending.discard(key)
        for version in cdo.versions():
            version.requirements.discard(key)
            if version.going and version.stage is not Stage.OVER:
                take_out(state, version)
        tidy(state, cdo)


def cancel_withdrawals(state: State, key: str) -> None:
    """Answer the withdrawals of a handle whose app is gone; they go on all the same."""
    handle = state.handles[key]
    error = PoolLostError(f"CDO {handle.name!r}: the app left")
    for version in state.cdos[handle.name].versions():
        for request in [r for r, waiter in version.withdrawing.items() if waiter == key]:
            del version.withdrawing[request]
            state.refuse(request, error)
    for batch in [batch for batch in state.batches.values() if batch.handle == key]:
        forget_batch(state, batch)
        state.refuse(batch.request, error)


def forget_batch(state: State, batch: Batch) -> None:
    """Its versions need not leave together any more."""
    del state.batches[batch.request]
    for version in batch.versions:
        version.batches.remove(batch)


def forget_handle(state: State, key: str) -> None:
    """Drop a handle that nobody will use any more."""
    handle = state.handles.pop(key)
    for member in handle.members:
        if member in state.handles:
            state.handles[member].owner = ""
    cdo = state.cdos[handle.name]
    del cdo.handles[key]
    tidy(state, cdo)


def tidy(state: State, cdo: Cdo) -> None:
    """Drop what nobody can ask for any more."""
    cdo.past = [version for version in cdo.past if not version.forgettable(state.joins)]
    if cdo.empty:
        state.cdos.pop(cdo.name, None)
