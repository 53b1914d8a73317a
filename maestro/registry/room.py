"""Room for what is offered: reserved, or waited for, first come, first served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maestro import messages as m
from maestro.errors import PoolFullError
from maestro.locations import is_location
from maestro.registry.catalogue import Cdo, Handle, ranks_spoken_for
from maestro.registry.state import State, Waiting
from maestro.registry.versions import Stage

__all__ = ["as_given", "let_others_go_first", "part_sizes", "reserve", "served", "wait"]

#: How many are named of those who hold the most.
HOLDERS = 4

#: How many later offers may find room before one that waits for it; then they wait for it, too.
OVERTAKINGS = 16


def let_others_go_first(state: State, call: m.Offer | m.OfferGroup) -> None:
    """Raise PoolFullError where one waits that was overtaken often enough, and there can be room.

    Otherwise small offers could take what becomes free for ever, and a large one wait for ever. But
    those that others wait for who hold room already, to be complete, need not let it go first.
    """
    if not state.queue:
        return
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


def wait(state: State, call: m.Offer | m.OfferGroup, error: PoolFullError) -> None:
    """Let an offer wait for room, or raise that there is none."""
    if not call.wait:
        raise error
    if call.request not in state.queue:
        state.queue[call.request] = Waiting(call, _sizes(state, call))


def served(state: State, call: m.Offer | m.OfferGroup, answer: dict[str, Any]) -> None:
    """Answer an offer that has found room."""
    if state.queue:
        if _sizes(state, call):
            for earlier in _earlier(state, call):
                earlier.overtaken += 1
        state.queue.pop(call.request, None)
    state.reply(call, answer)


def _earlier(state: State, call: m.Offer | m.OfferGroup) -> list[Waiting]:
    """The offers that have waited for longer than this one."""
    requests = list(state.queue)
    if call.request in state.queue:
        requests = requests[: requests.index(call.request)]
    return [state.queue[request] for request in requests]


def reserve(state: State, cdo: Cdo, sizes: dict[int, int], call: m.Offer) -> list[dict[int, str]]:
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
                state.ledger.undo(place, sizes)
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


def _sizes(state: State, call: m.Offer | m.OfferGroup) -> dict[int, int]:
    """Bytes of all parts of an offer, numbered."""
    sizes = [
        size
        for each in (call.offers if isinstance(call, m.OfferGroup) else (call,))
        for size in part_sizes(as_given(state.handles[each.handle], each), each).values()
    ]
    return dict(enumerate(sizes))


def part_sizes(given: Handle, call: m.Offer) -> dict[int, int]:
    """Bytes of the parts that are to be at a node."""
    if given.distribution is None:
        return {}
    ranks = [r for r in ranks_spoken_for(given) if not is_location(call.near.get(r))]
    return {rank: given.part_size(rank) for rank in ranks}


def as_given(handle: Handle, call: m.Offer) -> Handle:
    """A handle as an offer has it."""
    if call.dtype is None and call.distribution is None:
        return handle
    return replace(
        handle,
        dtype=call.dtype if handle.dtype is None else handle.dtype,
        distribution=call.distribution if handle.distribution is None else handle.distribution,
    )
