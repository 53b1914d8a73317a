"""What producers ask: offer, withdraw, and how an offer ended."""

from __future__ import annotations

from dataclasses import replace

from maestro import messages as m
from maestro.catalogue import Cdo, Handle, ranks_spoken_for, unite
from maestro.errors import AlreadyOfferedError, InconsistentError, LifecycleError, PoolFullError
from maestro.registry.consumers import serve
from maestro.registry.endings import empty, take_out
from maestro.registry.state import State
from maestro.registry.telling import tell
from maestro.versions import Slot, Stage, Version

__all__ = ["abort", "offer", "stored", "withdraw"]

#: How many are named of those who hold the most.
HOLDERS = 4


def offer(state: State, call: m.Offer) -> None:
    """Reserve room for the parts of a handle, or let the offer wait for it."""
    handle, cdo = state.find(call)
    if cdo.offered_by(call.handle) is not None:
        raise LifecycleError(f"CDO {cdo.name!r}: offer was called before withdraw")
    given = replace(
        handle,
        dtype=call.dtype if handle.dtype is None else handle.dtype,
        distribution=call.distribution if handle.distribution is None else handle.distribution,
    )
    cdo.check(given, but=call.handle)
    ranks = ranks_spoken_for(given)
    version = _ended_round(state, cdo, given, ranks) or _open(state, cdo, given, ranks)
    if version.stage is Stage.OVER:
        places: dict[int, str] = {}  # this round came to nothing: there is nobody to send to
    else:
        try:
            places = _reserve(state, cdo, given, ranks, call.near)
        except PoolFullError:
            if not call.wait:
                raise
            state.queue[call.request] = call
            return
    handle.dtype, handle.distribution = given.dtype, given.distribution
    for rank in ranks:
        size = given.part_size(rank)
        version.slots[rank] = Slot(call.app, call.handle, places.get(rank), size)
    if cdo.current is None and version.stage is not Stage.OVER:
        state.serial += 1
        cdo.current = version
    state.reply(call, {"version": version.serial, "nodes": places})


def stored(state: State, call: m.Stored) -> None:
    """The parts of an offer are there: the CDO enters the pool with its last rank."""
    handle, cdo = state.find(call)
    version = state.offering(cdo, call)
    for rank in version.ranks_of(call.handle):
        version.slots[rank].stored = True
    version.attributes = unite(version.attributes, handle.attributes)
    version.defaults = unite(version.defaults, handle.defaults)
    state.reply(call)
    if version.stage is Stage.FORMING and version.complete:
        _enter(state, cdo, version)
    serial = tell(state, "offer", cdo, handle, version)
    if serial is not None and version.stage is not Stage.OVER:
        state.bulletin.pin(serial, cdo.name, version)


def abort(state: State, call: m.Abort) -> None:
    """The parts of an offer could not be brought: take it back."""
    _, cdo = state.find(call)
    version = state.offering(cdo, call)
    ranks = version.ranks_of(call.handle)
    empty(state, version, ranks, settled=True)
    for rank in ranks:
        del version.slots[rank]
    if not version.slots and version is cdo.current:
        cdo.current = None  # as if it had never been offered
    state.reply(call)


def withdraw(state: State, call: m.Withdraw) -> None:
    """Let what a handle offered leave as soon as nobody requires it."""
    _, cdo = state.find(call)
    version = state.offering(cdo, call)
    version.withdraw(call.handle)
    version.withdrawing[call.request] = call.handle
    take_out(state, cdo, version)


def _ended_round(state: State, cdo: Cdo, given: Handle, ranks: list[int]) -> Version | None:
    """The version that ended before these ranks came to it, if they belong to one.

    Ranks in separate apps do not keep step: when rank 0 has withdrawn before rank 1 offered,
    rank 1's offer is of that ended round, and must not meet rank 0's next one.
    """
    for version in cdo.past:
        if (
            version.stage is Stage.OVER
            and version.distribution == given.distribution
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
        return Version(state.serial, cdo.name, given.distribution, given.dtype)
    taken = [rank for rank in ranks if rank in version.slots]
    if version.stage is Stage.POOLED or taken:
        apps = ", ".join(sorted(version.apps))
        what = f"rank {given.rank}" if taken and given.rank is not None else "it"
        raise AlreadyOfferedError(
            f"CDO {cdo.name!r}: {what} is offered already, by {apps};"
            " expected it to be withdrawn first"
        )
    if version.distribution != given.distribution:
        raise InconsistentError(
            f"CDO {cdo.name!r}: offered as {given.distribution}, expected"
            f" {version.distribution} as by {', '.join(sorted(version.apps))}"
        )
    return version


def _reserve(
    state: State, cdo: Cdo, given: Handle, ranks: list[int], near: dict[int, str]
) -> dict[int, str]:
    if given.distribution is None:
        return {}
    sizes = {rank: given.part_size(rank) for rank in ranks}
    places = state.ledger.reserve(sizes, near)
    if places is None:
        room = str(state.ledger) or "no node has joined: start a Dask worker"
        raise PoolFullError(
            f"CDO {cdo.name!r}: no room for {len(ranks)} parts of {sum(sizes.values())} bytes"
            f" in all, the largest of {max(sizes.values())}; {room}{_holders(state)}"
        )
    return places


def _holders(state: State) -> str:
    """Who holds the most, in words."""
    held: dict[str, int] = {}
    for cdo in state.cdos.values():
        for version in cdo.versions():
            for slot in version.slots.values():
                if slot.node is not None and slot.size:
                    what = f"{cdo.name!r} of {slot.app}"
                    held[what] = held.get(what, 0) + slot.size
    most = sorted(held.items(), key=lambda item: -item[1])[:HOLDERS]
    if not most:
        return ""
    return "; the most is held by " + ", ".join(f"{what}: {size} bytes" for what, size in most)


def _enter(state: State, cdo: Cdo, version: Version) -> None:
    """The version is complete: everyone who waited gets it."""
    version.stage = Stage.POOLED
    version.requirements |= cdo.pending
    cdo.pending.clear()
    served = list(cdo.waiting.items())
    cdo.waiting.clear()
    for request, key in served:
        serve(state, request, cdo, state.handles[key], version)
    if version.going:
        take_out(state, cdo, version)
