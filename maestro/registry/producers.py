"""What producers ask: offer, withdraw, and how an offer ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from maestro import messages as m
from maestro.errors import (
    AlreadyOfferedError,
    DataLostError,
    InconsistentError,
    LifecycleError,
    MaestroError,
    PoolFullError,
    ProtocolError,
)
from maestro.locations import is_location
from maestro.registry.catalogue import Cdo, Handle, Spread, ranks_spoken_for, unite
from maestro.registry.consumers import push, try_again
from maestro.registry.endings import empty, fail, take_out
from maestro.registry.needs import bind, let_go
from maestro.registry.room import as_given, let_others_go_first, part_sizes, reserve, served, wait
from maestro.registry.state import State
from maestro.registry.telling import tell
from maestro.registry.versions import Batch, Slot, Stage, Version

__all__ = ["abort", "enter", "lodged", "offer", "offer_group", "stored", "withdraw"]


def offer(state: State, call: m.Offer) -> None:
    """Reserve room for the parts of a handle, or let the offer wait for it."""
    try:
        let_others_go_first(state, call)
        answer = _offer_one(state, call)
    except PoolFullError as error:
        wait(state, call, error)
    else:
        served(state, call, _with_lease(state, call, answer))
        handle, cdo = state.find(call)
        if handle.distribution is None:  # there is nothing to be brought
            _all_there(state, [(call.handle, handle, cdo, state.offering(cdo, call.handle))])


def offer_group(state: State, call: m.OfferGroup) -> None:
    """Reserve room for all members of a group, and for itself; or for none of them."""
    group, _ = state.find(call)
    members = [key for key, _, _ in state.together(call.handle)]
    if [each.handle for each in call.offers] != members or group.group is None:
        raise ProtocolError(
            f"CDO {group.name!r}: {len(call.offers)} offers were given, expected those of the"
            f" group's {len(members) - 1} members in turn, and its own"
        )
    before = state.serial, state.ledger.freed
    answers: dict[str, dict[str, Any]] = {}
    layouts = {
        key: (handle.dtype, handle.distribution) for key, handle, _ in state.together(call.handle)
    }
    try:
        let_others_go_first(state, call)
        for each in call.offers:
            answers[each.handle] = _offer_one(state, each)
            _check_together(state, each.handle)
    except MaestroError as error:
        for key in reversed(answers):
            _take_back(state, key)
            state.handles[key].dtype, state.handles[key].distribution = layouts[key]
        state.serial, state.ledger.freed = before  # as if nothing had been promised
        if not isinstance(error, PoolFullError):
            raise
        wait(state, call, error)
    else:
        served(state, call, answers)


def stored(state: State, call: m.Stored) -> None:
    """The parts of an offer are there: the CDO enters the pool with its last rank."""
    state.find(call)
    offered = [
        (key, handle, cdo, state.offering(cdo, key))
        for key, handle, cdo in state.together(call.handle)
    ]
    lost = {cdo.name: text for key, _, cdo, v in offered if (text := _lost(cdo, v, key))}
    if lost and call.awaited:
        raise DataLostError("; ".join(lost.values()))
    state.reply(call)
    _all_there(state, [each for each in offered if each[2].name not in lost])
    for _, _, cdo, version in offered:
        if cdo.name in lost:  # last, so that who wants what needs it hears of it, too
            fail(state, cdo, version, lost[cdo.name])


def _all_there(state: State, offered: list[tuple[str, Handle, Cdo, Version]]) -> None:
    for key, handle, _, version in offered:
        for rank in version.ranks_of(key):
            version.slots[rank].stored = True
        version.attributes = unite(version.attributes, handle.attributes)
        version.defaults = unite(version.defaults, handle.defaults)
    for _, handle, cdo, version in offered:  # before what comes of it is told
        serial = tell(state, "offer", cdo, handle, version)
        if serial is not None and version.stage is not Stage.OVER:
            state.bulletin.pin(serial, version)
    for _, _, cdo, version in offered:
        if version.stage is Stage.FORMING and version.complete:
            enter(state, cdo, version)


def _lost(cdo: Cdo, version: Version, key: str) -> str:
    """What of a handle's offer was lost with a node before all was there, in words."""
    if version.stage is Stage.OVER:
        return ""
    slots = version.slots
    lost = [rank for rank in version.ranks_of(key) if slots[rank].left_by and slots[rank].size]
    nodes = ", ".join(sorted({slots[rank].left_by for rank in lost}))
    if not lost:
        return ""
    return f"CDO {cdo.name!r}: ranks {lost} were lost with node {nodes} before they were there"


def abort(state: State, call: m.Abort) -> None:
    """The parts of an offer could not be brought: take it back."""
    state.find(call)
    members = list(state.together(call.handle))
    for key, _, cdo in members:
        state.offering(cdo, key)
    for key, _, _ in reversed(members):
        _take_back(state, key)
    state.reply(call)


def withdraw(state: State, call: m.Withdraw) -> None:
    """Let what a handle offered leave as soon as nobody requires it; a group's together."""
    handle, _ = state.find(call)
    offered = {key: state.offering(cdo, key) for key, _, cdo in state.together(call.handle)}
    together = {version.serial for version in offered.values()}
    for version in offered.values():
        _check_holders(call.app, version, together)
    version = offered[call.handle]
    if handle.group is None:
        version.withdrawing[call.request] = call.handle
    else:
        batch = state.batches[call.request] = Batch(call.request, call.handle, offered)
        for each in batch.versions:
            each.batches.append(batch)
    for key, each in offered.items():
        each.withdraw(key)
    take_out(state, version)


def _check_holders(app: str, version: Version, together: Collection[int]) -> None:
    """Raise LifecycleError if an app would wait for something that it offers itself."""
    for holder in version.holders.values():
        if holder.serial not in together and not holder.going and holder.apps == {app}:
            what = "is a group with it" if holder.group else "depends on it"
            raise LifecycleError(
                f"CDO {version.name!r}: withdraw was called while {holder.name!r}, which {what},"
                " is offered by the same app; expected that one to be withdrawn first"
            )


def _offer_one(state: State, call: m.Offer) -> dict[str, Any]:
    handle, cdo = state.find(call)
    if cdo.offered_by(call.handle) is not None:
        raise LifecycleError(f"CDO {cdo.name!r}: offer was called before withdraw")
    given = as_given(handle, call)
    cdo.check(given, but=call.handle)
    ranks = ranks_spoken_for(given)
    version = _ended_round(state, cdo, given, ranks) or _open(state, cdo, given, ranks)
    places: list[dict[int, str]] = [{}]
    if version.stage is not Stage.OVER:  # else there is nobody to send to
        lease = _lease_for(state, given, call, version)
        asked = call if lease is None else replace(call, near={0: lease[1]})
        places = reserve(state, cdo, part_sizes(given, call), asked)
        if lease is not None and places == [asked.near]:
            version.serial, _ = state.leases.pop(call.app)
        if given.distribution is not None:
            places[0].update((r, call.near[r]) for r in ranks if is_location(call.near.get(r)))
    handle.dtype, handle.distribution = given.dtype, given.distribution
    for rank in ranks:
        nodes = [copy[rank] for copy in places if rank in copy]
        located = is_location(call.near.get(rank))
        size = 0 if located else given.part_size(rank)  # bytes of a node
        slot = Slot(call.app, call.handle, nodes, size, needs=handle.depends, push=handle.push)
        version.slots[rank] = slot
    if version.stage is not Stage.OVER:
        if cdo.current is None:
            state.serial = max(state.serial, version.serial + 1)
            cdo.current = state.live[version.serial] = version
        bind(state, cdo, version)
    return {"version": version.serial, "nodes": places[0], "copies": places[1:]}


def _lease_for(
    state: State, given: Handle, call: m.Offer, version: Version
) -> tuple[int, str] | None:
    """The lease under which an offer's part is stored already, if it can be used."""
    lease = state.leases.get(call.app)
    alone = given.distribution is not None and given.distribution.size == call.copies == 1
    return lease if lease and lease == call.placed and alone and not version.slots else None


def _with_lease(state: State, call: m.Offer, answer: dict[str, Any]) -> dict[str, Any]:
    """What an offer is answered, and where the next of its kind may be stored before it is made."""
    if call.placed is None or call.app in state.leases:
        return answer
    node = state.ledger.emptiest()
    if node is None:
        return answer
    state.leases[call.app] = state.serial, node
    state.serial += 1
    return {**answer, "lease": state.leases[call.app]}


def _check_together(state: State, key: str) -> None:
    """Raise InconsistentError if a group's members are not of the same round as the group."""
    handle = state.handles[key]
    group = state.offering(state.cdos[handle.name], key)
    for member in handle.members:
        name = state.handles[member].name
        version = state.offering(state.cdos[name], member)
        if group.stage is Stage.OVER:
            same = version.stage is Stage.OVER
        else:
            same = group.needed.get(name) is version
        if not same:
            raise InconsistentError(
                f"CDO {handle.name!r}: its member {name!r} has been offered apart from it, by"
                f" another rank or before; expected all ranks of all members to be offered with"
                " the group"
            )


def _take_back(state: State, key: str) -> None:
    """As if a handle had never offered."""
    cdo = state.cdos[state.handles[key].name]
    version = cdo.offered_by(key)
    if version is None:
        return
    ranks = version.ranks_of(key)
    empty(state, version, ranks, settled=True)
    for rank in ranks:
        del version.slots[rank]
    if not version.slots and version is cdo.current:
        cdo.current = None
        del state.live[version.serial]
        let_go(cdo, version)
    if version.stage is not Stage.OVER:
        bind(state, cdo, version)


def lodged(state: State, event: m.Lodged) -> None:
    """A part lives in a store from now on, the last of its copies; unless nobody wants it more."""
    version = state.live.get(event.version)
    slot = None if version is None else version.slots.get(event.rank)
    if slot is None or event.node not in slot.nodes:
        state.out.append(m.Free(event.location, event.version, (event.rank,)))
        return
    slot.nodes.remove(event.node)
    slot.nodes.append(event.location)
    state.ledger.lodge(event.location, event.node, slot.size)


def _ended_round(state: State, cdo: Cdo, given: Handle, ranks: list[int]) -> Version | None:
    """The version that ended before these ranks came to it, if they belong to one.

    Ranks in separate apps do not keep step: when rank 0 has withdrawn before rank 1 offered,
    rank 1's offer is of that ended round, and must not meet rank 0's next one.
    """
    for version in cdo.past:
        if (
            version.stage is Stage.OVER
            and version.distribution == given.distribution
            and version.spread == (1 if given.group is None else given.group.size)
            and given.app not in version.apps
            and state.joins[given.app] <= version.over_at
            and not any(rank in version.slots for rank in ranks)
        ):
            return version
    return None


def _open(state: State, cdo: Cdo, given: Handle, ranks: list[int]) -> Version:
    """The version that an offer of these ranks belongs to; a new one is not entered yet."""
    version = cdo.current
    if version is None:
        spread = Spread() if given.group is None else given.group
        layout = given.distribution, given.dtype
        return Version(state.serial, cdo.name, *layout, given.group is not None, spread.size)
    taken = [rank for rank in ranks if rank in version.slots]
    if version.stage is Stage.POOLED or taken:
        apps = ", ".join(sorted(version.apps))
        what = f"rank {given.rank}" if taken and given.rank is not None else "it"
        raise AlreadyOfferedError(
            f"CDO {cdo.name!r}: {what} is offered already, by {apps};"
            " expected it to be withdrawn first"
        )
    spread = Spread() if given.group is None else given.group
    if (version.group, version.spread) != (given.group is not None, spread.size):
        what = f"as a group over {spread.size} ranks" if given.group else "as no group"
        raise InconsistentError(
            f"CDO {cdo.name!r}: offered {what}, expected"
            f" {f'a group over {version.spread}' if version.group else 'none'} as by"
            f" {', '.join(sorted(version.apps))}"
        )
    if version.distribution != given.distribution:
        raise InconsistentError(
            f"CDO {cdo.name!r}: offered as {given.distribution}, expected"
            f" {version.distribution} as by {', '.join(sorted(version.apps))}"
        )
    return version


def enter(state: State, cdo: Cdo, version: Version) -> None:
    """The version is complete: everyone who waited gets it."""
    version.stage = Stage.POOLED
    version.requirements |= cdo.pending
    cdo.pending.clear()
    waiting = sorted(cdo.waiting)
    cdo.waiting.clear()
    for request in waiting:
        missing = state.demands[request].missing
        missing.remove(cdo.name)
        if not missing or version.needs:  # which it may have kept while they were leaving
            try_again(state, request)
    if version.push:
        push(state, version.requirements)
    if version.going:
        take_out(state, version)
