"""What a node that is gone has left on its host, and who takes it over.

::

    node lost --> estate --Adopt--> a node that has room --Adopted--> its parts are there again
                   |  ^                   |
                   |  '-------------------'  it does not see it, or the lost one is not gone yet,
                   |                         or it is silent: the next one, also one that joins
                   |                         only now
                   '--in time nobody took it over, or did not find a part:
                      what has neither copy nor replica is lost

Who was silent may have taken it over all the same: his answer counts whenever it comes, and only
one node can have a directory.

Meanwhile demands wait. What small parts and other memory of its own the node held is lost at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from maestro import messages as m
from maestro.registry.consumers import resume
from maestro.registry.endings import fail
from maestro.registry.placement import host_of
from maestro.registry.state import Asked, Estate, State
from maestro.registry.versions import Stage, Version
from maestro.spelling import dtype_from_wire

__all__ = ["adopted", "deadline", "node_joined", "node_lost", "settle"]

#: Seconds until a node is asked again that found the lost one's process not gone yet.
RETRY = 0.1

#: A node has this share of the time in which somebody is looked for to say something.
TURN = 0.25


def node_joined(state: State, event: m.NodeJoined) -> None:
    """Take a node in."""
    state.ledger.join(event.address, event.limit, event.homes, event.map_from)


def node_lost(state: State, event: m.NodeLost) -> None:
    """A node is gone; some of what it held may have outlived it."""
    lost = state.ledger.leave(event.address)
    for estate in state.estates.values():
        # What it has found lies where it was.
        estate.asked = {k: each for k, each in estate.asked.items() if each.heir != event.address}
    state.lost += 1
    until = state.bulletin.time + state.patience
    estate = Estate(state.lost, event.address, lost.homes, until)
    affected = [
        version
        for cdo in state.cdos.values()
        for version in cdo.versions()
        if _bereave(estate, version, lost.map_from)
    ]
    if estate.homes:
        state.estates[estate.number] = estate
    _look(state, affected)


def _bereave(estate: Estate, version: Version, map_from: int) -> bool:
    """Note what of a version is lost with a node; whether any part is."""
    lost = False
    for rank, slot in version.slots.items():
        if estate.node not in slot.nodes:
            continue
        slot.nodes.remove(estate.node)
        if slot.nodes:
            continue
        slot.left_by, slot.estate, lost = estate.node, estate.number, True
        if slot.stored and slot.size:
            version.gone.add(rank)
            if slot.size >= map_from:
                estate.parts[version.serial, rank] = version
    return lost


def settle(state: State) -> None:
    """Ask who can take over what is left; give up what nobody took over in time."""
    now = state.bulletin.time
    for estate in list(state.estates.values()):
        over = estate.taken and not estate.asked
        if estate.parts and (over or now >= estate.until):
            affected = list(estate.parts.values())
            estate.parts.clear()
            _look(state, affected)
        if not (estate.taken or _is_waited_for(estate, now)):
            _ask(state, estate)
        if not estate.asked and (estate.taken or now >= estate.until):
            del state.estates[estate.number]


def _is_waited_for(estate: Estate, now: float) -> bool:
    """Whether somebody still has time to answer, or it is to be asked again later."""
    return now < estate.next or any(now < each.until for each in estate.asked.values())


def deadline(state: State) -> float | None:
    """When `settle` has something to do next."""
    if not state.estates:
        return None
    now = state.bulletin.time
    times = {
        time
        for estate in state.estates.values()
        for time in (estate.next, estate.until, *(each.until for each in estate.asked.values()))
    }
    return min((time for time in times if time > now), default=None)


def _ask(state: State, estate: Estate) -> None:
    """Ask the next node to take over an estate, its host's first, if there is one to be asked."""
    size = sum(version.slots[rank].size for (_, rank), version in estate.parts.items())
    nodes = state.ledger.nodes.items()
    host = host_of(estate.node)
    passed = estate.strangers.union(each.heir for each in estate.asked.values())
    until = state.bulletin.time + max(RETRY, TURN * state.patience)
    for address, _ in sorted(nodes, key=lambda n: (host_of(n[0]) != host, n[1].used - n[1].limit)):
        if address in passed or not state.ledger.reserve_at(address, size):
            continue
        state.asked += 1
        estate.asked[state.asked] = Asked(address, size, until)
        homes, parts = tuple(estate.homes), tuple(_in_words(estate))
        state.out.append(m.Adopt(state.asked, estate.node, address, homes, parts))
        return


def _in_words(estate: Estate) -> Iterable[m.LeftParts]:
    versions = {version.serial: version for version in estate.parts.values()}
    for serial, version in versions.items():
        if version.distribution is not None and version.dtype is not None:
            ranks = tuple(rank for number, rank in estate.parts if number == serial)
            itemsize = dtype_from_wire(version.dtype).itemsize
            yield m.LeftParts(serial, version.distribution, itemsize, ranks)


def adopted(state: State, event: m.Adopted) -> None:
    """A node has taken over what another left, or could not."""
    estate = next((e for e in state.estates.values() if event.number in e.asked), None)
    if estate is None:
        return  # the heir is gone meanwhile
    asked = estate.asked.pop(event.number)
    state.ledger.release(asked.heir, asked.reserved)
    if event.outcome == "adopted":
        _inherit(state, estate, asked.heir, event.parts)
    elif event.outcome == "busy" and state.bulletin.time < estate.until:
        estate.next = state.bulletin.time + RETRY
    else:
        estate.strangers.add(asked.heir)


def _inherit(state: State, estate: Estate, heir: str, parts: tuple[tuple[int, int], ...]) -> None:
    """These parts are there again; what was not found is lost, unless somebody else has it."""
    if parts or not estate.taken:
        state.ledger.nodes[heir].homes += estate.homes
    estate.taken = True
    affected = list(estate.parts.values())
    for serial, rank in parts:
        version = estate.parts.pop((serial, rank), None)
        if version is None:  # nobody wants it any more
            state.out.append(m.Free(heir, serial, (rank,)))
            continue
        slot = version.slots[rank]
        slot.nodes, slot.left_by = [heir], ""
        version.gone.discard(rank)
        state.ledger.nodes[heir].used += slot.size
    _look(state, affected)


def _look(state: State, affected: Iterable[Version]) -> None:
    """Let versions go on that are whole again, and end those that cannot be any more."""
    for version in {version.serial: version for version in affected}.values():
        if version.stage is Stage.OVER:
            continue
        missing = version.missing_parts
        lost = [rank for rank in missing if not _is_left(state, version, rank)]
        if lost:
            nodes = ", ".join(sorted({version.slots[rank].left_by for rank in lost}))
            text = f"CDO {version.name!r}: ranks {lost} were lost with node {nodes}"
            fail(state, state.cdos[version.name], version, text)
        elif not missing:
            resume(state, version)


def _is_left(state: State, version: Version, rank: int) -> bool:
    estate = state.estates.get(version.slots[rank].estate)
    return estate is not None and (version.serial, rank) in estate.parts
