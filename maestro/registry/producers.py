"""What producers ask: offer, withdraw, and how an offer ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from maestro import messages as m
from maestro.catalogue import Cdo, Handle, Spread, ranks_spoken_for, unite
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
from maestro.registry.consumers import push, try_again
from maestro.registry.endings import empty, take_out
from maestro.registry.needs import bind, let_go
from maestro.registry.state import State, Waiting
from maestro.registry.telling import tell
from maestro.versions import Batch, Slot, Stage, Version

__all__ = ["abort", "enter", "offer", "offer_group", "stored", "withdraw"]

#: How many are named of those who hold the most.
HOLDERS = 4

#: How many later offers may find room before one that waits for it; then they wait for it, too.
OVERTAKINGS = 16


def offer(state: State, call: m.Offer) -> None:
    """Reserve room for the parts of a handle, or let the offer wait for it."""
    try:
        _let_others_go_first(state, call)
        answer = _offer_one(state, call)
    except PoolFullError as error:
        _wait(state, call, error)
    else:
        _served(state, call, answer)
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
        _let_others_go_first(state, call)
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
        _wait(state, call, error)
    else:
        _served(state, call, answers)


def _wait(state: State, call: m.Offer | m.OfferGroup, error: PoolFullError) -> None:
    """Let an offer wait for room, or raise that there is none."""
    if not call.wait:
        raise error
    if call.request not in state.queue:
        state.queue[call.request] = Waiting(call, _sizes(state, call))


def _served(state: State, call: m.Offer | m.OfferGroup, answer: dict[str, Any]) -> None:
    if _sizes(state, call):
        for earlier in _earlier(state, call):
            earlier.overtaken += 1
    state.queue.pop(call.request, None)
    state.reply(call, answer)


def _sizes(state: State, call: m.Offer | m.OfferGroup) -> dict[int, int]:
    """Bytes of all parts of an offer, numbered."""
    sizes = [
        size
        for each in (call.offers if isinstance(call, m.OfferGroup) else (call,))
        for size in _part_sizes(_given(state.handles[each.handle], each), each).values()
    ]
    return dict(enumerate(sizes))


def _part_sizes(given: Handle, call: m.Offer) -> dict[int, int]:
    """Bytes of the parts that are to be at a node."""
    if given.distribution is None:
        return {}
    ranks = [r for r in ranks_spoken_for(given) if not is_location(call.near.get(r))]
    return {rank: given.part_size(rank) for rank in ranks}


def _given(handle: Handle, call: m.Offer) -> Handle:
    """A handle as an offer has it."""
    if call.dtype is None and call.distribution is None:
        return handle
    return replace(
        handle,
        dtype=call.dtype if handle.dtype is None else handle.dtype,
        distribution=call.distribution if handle.distribution is None else handle.distribution,
    )


def _earlier(state: State, call: m.Offer | m.OfferGroup) -> list[Waiting]:
    """The offers that have waited for longer than this one."""
    requests = list(state.queue)
    if call.request in state.queue:
        requests = requests[: requests.index(call.request)]
    return [state.queue[request] for request in requests]


def _let_others_go_first(state: State, call: m.Offer | m.OfferGroup) -> None:
    """Raise PoolFullError where one waits that was overtaken often enough, and there can be room.

    Otherwise small offers could take what becomes free for ever, and a large one wait for ever. But
    those that others wait for who hold room already, to be complete, need not let it go first.
    """
    late = [each for each in _earlier(state, call) if each.overtaken >= OVERTAKINGS]
    if not late or any(
        cdo.current is not None and cdo.current.stage is Stage.FORMING
        for _, _, cdo in state.together(call.handle)
    ):
        return
    for earlier in late:
        if state.ledger.could_hold(earlier.sizes):
            name = state.handles[earlier.call.handle].name
            raise PoolFullError(
                f"CDO {state.handles[call.handle].name!r}: room is kept for {name!r} of"
                f" {earlier.call.app}, with {sum(earlier.sizes.values())} bytes, which has waited"
                f" for longer; {state.ledger}{_holders(state)}"
            )


def stored(state: State, call: m.Stored) -> None:
    """The parts of an offer are there: the CDO enters the pool with its last rank."""
    state.find(call)
    offered = [
        (key, handle, cdo, state.offering(cdo, key))
        for key, handle, cdo in state.together(call.handle)
    ]
    for key, _, cdo, version in offered:
        _check_stored(cdo, version, version.ranks_of(key))
    state.reply(call)
    _all_there(state, offered)


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


def _check_stored(cdo: Cdo, version: Version, ranks: list[int]) -> None:
    """Raise DataLostError if a node has died before all was there."""
    lost = [rank for rank in ranks if version.slots[rank].left_by and version.slots[rank].size]
    if lost and version.stage is not Stage.OVER:
        nodes = ", ".join(sorted({version.slots[rank].left_by for rank in lost}))
        raise DataLostError(
            f"CDO {cdo.name!r}: ranks {lost} were lost with node {nodes} before they were there"
        )


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
    given = _given(handle, call)
    cdo.check(given, but=call.handle)
    ranks = ranks_spoken_for(given)
    version = _ended_round(state, cdo, given, ranks) or _open(state, cdo, given, ranks)
    places: list[dict[int, str]] = [{}]
    if version.stage is not Stage.OVER:  # else there is nobody to send to
        places = _reserve(state, cdo, _part_sizes(given, call), call)
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
            state.serial += 1
            cdo.current = version
        bind(state, cdo, version)
    return {"version": version.serial, "nodes": places[0], "copies": places[1:]}


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
        let_go(cdo, version)
    if version.stage is not Stage.OVER:
        bind(state, cdo, version)


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


def _reserve(state: State, cdo: Cdo, sizes: dict[int, int], call: m.Offer) -> list[dict[int, str]]:
    """The nodes for each copy, by rank."""
    if not sizes:
        return [{}]
    places: list[dict[int, str]] = []
    for copy in range(call.copies):
        found = (
            state.ledger.reserve_apart(sizes, places)
            if copy
            else state.ledger.reserve(sizes, call.near)
        )
        if found is None:
            for place in places:
                for rank, node in place.items():
                    state.ledger.nodes[node].used -= sizes[rank]
            room = str(state.ledger) or "no node has joined: start a Dask worker"
            each = "" if call.copies == 1 else f", {call.copies} copies of each on as many nodes"
            raise PoolFullError(
                f"CDO {cdo.name!r}: no room for {len(sizes)} parts of {sum(sizes.values())} bytes"
                f" in all, the largest of {max(sizes.values())}{each}; {room}{_holders(state)}"
            )
        places.append(found)
    return places


def _holders(state: State) -> str:
    """Who holds the most, in words."""
    held: dict[str, int] = {}
    for cdo in state.cdos.values():
        for version in cdo.versions():
            for slot in version.slots.values():
                if slot.nodes and slot.size:
                    what = f"{cdo.name!r} of {slot.app}"
                    held[what] = held.get(what, 0) + slot.size * len(slot.nodes)
    most = sorted(held.items(), key=lambda item: -item[1])[:HOLDERS]
    if not most:
        return ""
    return "; the most is held by " + ", ".join(f"{what}: {size} bytes" for what, size in most)


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
        if not missing:
            try_again(state, request)
    if version.push:
        push(state, version.requirements)
    if version.going:
        take_out(state, version)
