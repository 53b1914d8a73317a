"""The pool manager's mind: a plain state machine, calls in, instructions out.

No I/O, no clock, no tasks: `Registry.handle` takes one message of `maestro.messages` and returns
what is to be done about it. Every request is answered exactly once, at once or by a later message;
a call that is refused changes nothing. The plugin in `maestro.manager` carries the instructions
out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from maestro import messages as m
from maestro.bulletin import Bulletin
from maestro.catalogue import Cdo, Handle, ranks_spoken_for, unite
from maestro.errors import (
    AlreadyOfferedError,
    DataLostError,
    InconsistentError,
    LifecycleError,
    MaestroError,
    PoolFullError,
    PoolLostError,
    PoolTimeoutError,
    ProtocolError,
)
from maestro.events import pack
from maestro.messages import dtype_from_wire
from maestro.placement import Ledger
from maestro.schemas.core import core_attributes
from maestro.subscriptions import Ready, Subscriptions
from maestro.versions import Slot, Stage, Version

__all__ = ["Registry"]

#: How many are named of those who hold the most.
HOLDERS = 4

#: Calls that can be held, beside the seal, and the kinds of their events.
_HELD: dict[type[m.Call], str] = {
    m.Offer: "offer",
    m.Withdraw: "withdraw",
    m.Require: "require",
    m.Retract: "retract",
    m.Demand: "demand",
    m.Dispose: "dispose",
}


class Registry:
    """All apps, nodes, handles and versions of a pool.

    Examples
    --------
    >>> registry = Registry()
    >>> registry.handle(m.Join(0, "app-1", client="c", workflow="w", component="model"))
    [Reply(request=0, value=None)]
    """

    def __init__(self, subscriptions: Subscriptions | None = None) -> None:
        self.bulletin = Bulletin(subscriptions or Subscriptions())
        self.apps: dict[str, m.Join] = {}
        self.handles: dict[str, Handle] = {}
        self.cdos: dict[str, Cdo] = {}
        self.ledger = Ledger()
        self._joins: dict[str, int] = {}  # each app's place in the order of joins
        self._joined = 0
        self._serial = 0
        self._out: list[m.Instruction] = []
        self.queue: dict[int, m.Offer] = {}  # offers that wait for room, by request

    def handle(self, message: Any, time: float = 0.0) -> list[m.Instruction]:
        """Take one message in; return what is to be done, in this order.

        Parameters
        ----------
        message : Any
            Of `maestro.messages`.
        time : float
            Now, in seconds since the epoch.
        """
        self._out = []
        self.bulletin.time = time
        self._take_in(message, held=False)
        self._settle()
        return self._out

    def _take_in(self, message: Any, held: bool) -> None:
        """Do what a message asks, unless somebody has to hear of it before."""
        try:
            if isinstance(message, m.Call) and not isinstance(message, m.Join):
                self._check_caller(message)
                if not held and self._hold(message):
                    return
            getattr(self, f"_on_{type(message).__name__.lower()}")(message)
        except MaestroError as error:
            self._out.append(m.Refuse(message.request, error))

    def _settle(self) -> None:
        """Answer polls, and go on with what was held, until nothing comes of it any more."""
        self._settle_outcomes()
        while self.queue and self.ledger.freed:
            self.ledger.freed = False
            for request, call in list(self.queue.items()):  # first come, first served, if it fits
                del self.queue[request]
                self._take_in(call, held=True)
            self._settle_outcomes()

    def _settle_outcomes(self) -> None:
        while outcomes := self.bulletin.outcomes():
            for outcome in outcomes:
                if isinstance(outcome, Ready):
                    self._answer_poll(outcome.subscription)
                elif (call := self.bulletin.released(outcome.serial)) is not None:
                    self._take_in(call, held=True)
                elif (pinned := self.bulletin.unpinned(outcome.serial)) is not None:
                    name, version = pinned
                    if version.going and version.stage is not Stage.OVER:
                        self._take_out(self.cdos[name], version)

    # Apps and nodes come and go

    def _on_join(self, call: m.Join) -> None:
        if call.app in self.apps:
            raise LifecycleError(f"app {call.app!r} has joined already")
        self._joined += 1
        self._joins[call.app] = self._joined
        self.apps[call.app] = call
        self._reply(call)
        self._tell_of_app("join", call)

    def _on_leave(self, call: m.Leave) -> None:
        self._forget_app(call.app, died=False)
        self._reply(call)

    def _on_applost(self, event: m.AppLost) -> None:
        for app in [app for app, joined in self.apps.items() if joined.client == event.client]:
            self._forget_app(app, died=True)

    def _on_nodejoined(self, event: m.NodeJoined) -> None:
        self.ledger.join(event.address, event.limit)

    def _on_nodelost(self, event: m.NodeLost) -> None:
        self.ledger.leave(event.address)
        for cdo in list(self.cdos.values()):
            for version in cdo.versions():
                lost = [r for r, slot in version.slots.items() if slot.node == event.address]
                if lost:
                    for rank in lost:
                        version.slots[rank].node = None
                    self._fail(
                        cdo,
                        version,
                        f"CDO {version.name!r}: ranks {lost} were lost with node {event.address}",
                    )

    # Handles

    def _on_seal(self, call: m.Seal) -> None:
        if call.handle in self.handles:
            raise LifecycleError(f"CDO {call.name!r}: the handle is sealed already")
        cdo = self.cdos.get(call.name) or Cdo(call.name)
        handle = Handle(
            call.app, call.name, call.rank, call.dtype, call.distribution, dict(call.attributes)
        )
        cdo.check(handle)
        self.cdos[call.name] = cdo
        cdo.handles[call.handle] = self.handles[call.handle] = handle
        self._reply(call)
        self._tell("declare", cdo, handle)
        self._tell("seal", cdo, handle)

    def _on_dispose(self, call: m.Dispose) -> None:
        handle, cdo = self._find(call)
        if cdo.offered_by(call.handle) is not None:
            raise LifecycleError(f"CDO {cdo.name!r}: dispose was called before withdraw")
        self._drop_requirement(cdo, call.handle)
        self._tell("dispose", cdo, handle)
        self._forget_handle(cdo, call.handle)
        self._reply(call)

    # Producers

    def _on_offer(self, call: m.Offer) -> None:
        handle, cdo = self._find(call)
        if cdo.offered_by(call.handle) is not None:
            raise LifecycleError(f"CDO {cdo.name!r}: offer was called before withdraw")
        given = Handle(
            handle.app,
            handle.name,
            handle.rank,
            call.dtype if handle.dtype is None else handle.dtype,
            call.distribution if handle.distribution is None else handle.distribution,
            handle.attributes,
        )
        cdo.check(given, but=call.handle)
        ranks = ranks_spoken_for(given)
        version = self._ended_round(cdo, given, ranks) or self._open(cdo, given, ranks)
        if version.stage is Stage.OVER:
            places: dict[int, str] = {}  # this round came to nothing: there is nobody to send to
        else:
            try:
                places = self._reserve(cdo, given, ranks, call.near)
            except PoolFullError:
                if not call.wait:
                    raise
                self.queue[call.request] = call
                return
        handle.dtype, handle.distribution = given.dtype, given.distribution
        for rank in ranks:
            size = given.part_size(rank)
            version.slots[rank] = Slot(call.app, call.handle, places.get(rank), size)
        if cdo.current is None and version.stage is not Stage.OVER:
            self._serial += 1
            cdo.current = version
        self._reply(call, {"version": version.serial, "nodes": places})

    def _ended_round(self, cdo: Cdo, given: Handle, ranks: list[int]) -> Version | None:
        """The version that ended before these ranks came to it, if they belong to one.

        Ranks in separate apps do not keep step: when rank 0 has withdrawn before rank 1 offered,
        rank 1's offer is of that ended round, and must not meet rank 0's next one.
        """
        for version in cdo.past:
            if (
                version.stage is Stage.OVER
                and version.distribution == given.distribution
                and given.app not in version.apps
                and self._joins[given.app] <= version.over_at
                and not any(rank in version.slots for rank in ranks)
            ):
                return version
        return None

    def _open(self, cdo: Cdo, given: Handle, ranks: list[int]) -> Version:
        """The version that an offer of these ranks belongs to; a new one is not entered yet."""
        version = cdo.current
        if version is None:
            return Version(self._serial, cdo.name, given.distribution, given.dtype)
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
        self, cdo: Cdo, given: Handle, ranks: list[int], near: dict[int, str]
    ) -> dict[int, str]:
        if given.distribution is None:
            return {}
        sizes = {rank: given.part_size(rank) for rank in ranks}
        places = self.ledger.reserve(sizes, near)
        if places is None:
            room = str(self.ledger) or "no node has joined: start a Dask worker"
            raise PoolFullError(
                f"CDO {cdo.name!r}: no room for {len(ranks)} parts of {sum(sizes.values())} bytes"
                f" in all, the largest of {max(sizes.values())}; {room}{self._holders()}"
            )
        return places

    def _holders(self) -> str:
        """Who holds the most, in words."""
        held: dict[str, int] = {}
        for cdo in self.cdos.values():
            for version in cdo.versions():
                for slot in version.slots.values():
                    if slot.node is not None and slot.size:
                        what = f"{cdo.name!r} of {slot.app}"
                        held[what] = held.get(what, 0) + slot.size
        most = sorted(held.items(), key=lambda item: -item[1])[:HOLDERS]
        if not most:
            return ""
        return "; the most is held by " + ", ".join(f"{what}: {size} bytes" for what, size in most)

    def _on_stored(self, call: m.Stored) -> None:
        handle, cdo = self._find(call)
        version = self._offering(cdo, call)
        for rank in version.ranks_of(call.handle):
            version.slots[rank].stored = True
        version.attributes = unite(version.attributes, handle.attributes)
        self._reply(call)
        if version.stage is Stage.FORMING and version.complete:
            self._enter(cdo, version)
        serial = self._tell("offer", cdo, handle, version)
        if serial is not None and version.stage is not Stage.OVER:
            self.bulletin.pin(serial, cdo.name, version)

    def _on_abort(self, call: m.Abort) -> None:
        _, cdo = self._find(call)
        version = self._offering(cdo, call)
        ranks = version.ranks_of(call.handle)
        self._empty(version, ranks, settled=True)
        for rank in ranks:
            del version.slots[rank]
        if not version.slots and version is cdo.current:
            cdo.current = None  # as if it had never been offered
        self._reply(call)

    def _enter(self, cdo: Cdo, version: Version) -> None:
        """The version is complete: everyone who waited gets it."""
        version.stage = Stage.POOLED
        version.requirements |= cdo.pending
        cdo.pending.clear()
        served = list(cdo.waiting.items())
        cdo.waiting.clear()
        for request, key in served:
            self._serve(request, cdo, self.handles[key], version)
        if version.going:
            self._take_out(cdo, version)

    def _on_withdraw(self, call: m.Withdraw) -> None:
        _, cdo = self._find(call)
        version = self._offering(cdo, call)
        version.withdraw(call.handle)
        version.withdrawing[call.request] = call.handle
        self._take_out(cdo, version)

    def _take_out(self, cdo: Cdo, version: Version) -> None:
        """A rank is withdrawn: end the version as soon as nobody is to be served any more."""
        if version.unacknowledged:
            return  # whoever was told of it may still come for it
        if version.stage is Stage.POOLED:
            version.stage = Stage.LEAVING
            cdo.past.append(version)
            cdo.current = None
        wanted = cdo.pending if version.stage is Stage.FORMING else version.requirements
        if not wanted:
            self._end(cdo, version)

    # Consumers

    def _on_require(self, call: m.Require) -> None:
        handle, cdo = self._find(call)
        handle.required = True
        if cdo.current is not None and cdo.current.stage is Stage.POOLED:
            cdo.current.requirements.add(call.handle)
        else:
            cdo.pending.add(call.handle)
        self._reply(call, None if cdo.current is None else cdo.current.layout())
        self._tell("require", cdo, handle)

    def _on_retract(self, call: m.Retract) -> None:
        handle, cdo = self._find(call)
        self._drop_requirement(cdo, call.handle)
        self._reply(call)
        self._tell("retract", cdo, handle)

    def _on_demand(self, call: m.Demand) -> None:
        handle, cdo = self._find(call)
        if handle.lost:
            text, handle.lost = handle.lost, ""
            raise DataLostError(text)
        version = cdo.required_by(call.handle)
        if version is None and cdo.current is not None and cdo.current.stage is Stage.POOLED:
            version = cdo.current
            version.requirements.add(call.handle)
        if version is None:
            cdo.pending.add(call.handle)
            cdo.waiting[call.request] = call.handle
        else:
            self._serve(call.request, cdo, handle, version)

    def _serve(self, request: int, cdo: Cdo, handle: Handle, version: Version) -> None:
        self._out.append(m.Reply(request, version.describe()))
        self._tell("demand", cdo, handle, version)
        if version.distribution is not None:
            self._tell("transport-begin", cdo, handle, version)

    def _on_received(self, call: m.Received) -> None:
        handle, cdo = self._find(call)
        version = cdo.required_by(call.handle)
        if version is not None and version.distribution is not None:
            self._tell("transport-end", cdo, handle, version, served=call.served)
        if call.served or not handle.required:
            self._drop_requirement(cdo, call.handle)
        else:
            handle.lost = ""  # the failure is known where it was met
        self._reply(call)

    def _on_expired(self, event: m.Expired) -> None:
        if event.request in self.queue:
            call = self.queue.pop(event.request)
            self._take_in(replace(call, wait=False), held=True)  # says what there is no room for
            return
        for subscription, (request, _) in self.bulletin.polls.items():
            if request == event.request:
                _, most = self.bulletin.polls.pop(subscription)
                self._out.append(m.Reply(request, self.bulletin.batch(subscription, most)))
                return
        held: Any = self.bulletin.give_up(event.request)
        if held is not None:
            name = held.name if isinstance(held, m.Seal) else self.handles[held.handle].name
            text = f"CDO {name!r}: not begun after {event.seconds:g} s: a subscriber holds it"
            self._out.append(m.Refuse(event.request, PoolTimeoutError(text)))
            return
        cdo = self.cdos[self.handles[event.handle].name]
        if event.request in cdo.waiting:
            del cdo.waiting[event.request]
            text = f"CDO {cdo.name!r}: not there after {event.seconds:g} s: {cdo.progress()}"
            if not self.handles[event.handle].required:
                self._drop_requirement(cdo, event.handle)
            self._out.append(m.Refuse(event.request, PoolTimeoutError(text)))
        for version in cdo.versions():
            if event.request in version.withdrawing:
                self._give_up_withdraw(cdo, version, event)

    def _give_up_withdraw(self, cdo: Cdo, version: Version, event: m.Expired) -> None:
        handle = version.withdrawing.pop(event.request)
        for rank in version.ranks_of(handle):
            version.slots[rank].withdrawn = False
        wanted = version.requirements or cdo.pending
        apps = sorted({self.handles[h].app for h in wanted})
        if version.unacknowledged:
            apps.append("subscribers who have not acknowledged it")
        text = (
            f"CDO {cdo.name!r}: not withdrawn after {event.seconds:g} s:"
            f" still required by {', '.join(apps)}"
        )
        self._out.append(m.Refuse(event.request, PoolTimeoutError(text)))
        if version.stage is Stage.LEAVING and not version.going and cdo.current is None:
            version.stage = Stage.POOLED
            cdo.past.remove(version)
            cdo.current = version

    # What is in the pool

    def _on_list(self, call: m.List) -> None:
        pooled = [
            cdo.current
            for cdo in self.cdos.values()
            if cdo.current is not None and cdo.current.stage is Stage.POOLED
        ]
        value = {
            "cdos": [{"name": v.name, "apps": sorted(v.apps), **v.describe()} for v in pooled],
            "apps": [
                {"app": app, "workflow": joined.workflow, "component": joined.component}
                for app, joined in self.apps.items()
            ],
            "nodes": self._nodes(),
        }
        self._reply(call, value)

    def _on_nodes(self, call: m.Nodes) -> None:
        self._reply(call, self._nodes())

    def _nodes(self) -> dict[str, dict[str, int]]:
        return {
            address: {"limit": node.limit, "used": node.used}
            for address, node in self.ledger.nodes.items()
        }

    # Subscribers

    def _on_subscribe(self, call: m.Subscribe) -> None:
        try:
            self.bulletin.subscriptions.subscribe(
                self.bulletin.time,
                call.subscription,
                call.app,
                call.selector,
                kinds=call.kinds,
                ack=call.ack,
                when=call.when,
                own=call.own,
                since=call.since,
            )
        except (ValueError, TypeError) as error:
            if isinstance(error, MaestroError):
                raise
            raise ProtocolError(str(error)) from None
        self._reply(call)

    def _on_unsubscribe(self, call: m.Unsubscribe) -> None:
        self._check_subscriber(call)
        self._end_poll(call.subscription)
        self.bulletin.forget(call.subscription)
        self.bulletin.subscriptions.unsubscribe(self.bulletin.time, call.subscription)
        self._reply(call)

    def _on_poll(self, call: m.Poll) -> None:
        self._check_subscriber(call)
        self._end_poll(call.subscription)
        self.bulletin.polls[call.subscription] = (call.request, call.most)
        if self.bulletin.subscriptions.has_events(call.subscription):
            self._answer_poll(call.subscription)

    def _on_ack(self, call: m.Ack) -> None:
        self._check_subscriber(call)
        self.bulletin.subscriptions.ack(self.bulletin.time, call.subscription, call.serials)
        self._reply(call)

    def _on_log(self, call: m.Log) -> None:
        log = self.bulletin.subscriptions.log
        events = b"".join(map(pack, log.since(call.since, call.most)))
        self._reply(call, {"first": log.first, "events": events})

    def _on_tick(self, event: m.Tick) -> None:
        self.bulletin.subscriptions.expire(self.bulletin.time)
        for subscription in self.bulletin.due():
            self._answer_poll(subscription)

    def _answer_poll(self, subscription: str) -> None:
        if subscription in self.bulletin.polls and not self.bulletin.put_off(subscription):
            request, most = self.bulletin.polls.pop(subscription)
            self._out.append(m.Reply(request, self.bulletin.batch(subscription, most)))

    def _end_poll(self, subscription: str) -> None:
        """Answer a poll that nothing more will come of."""
        if subscription in self.bulletin.polls:
            request, _ = self.bulletin.polls.pop(subscription)
            self._out.append(m.Reply(request, b""))

    def _check_subscriber(self, call: Any) -> None:
        if call.subscription not in self.bulletin.subscriptions.of(call.app):
            raise LifecycleError(f"subscription {call.subscription!r} is unknown, or was ended")

    def _hold(self, call: m.Call) -> bool:
        """Tell of a call before it takes effect; whether it has to wait for somebody."""
        if isinstance(call, m.Seal):
            given = Handle(
                *(call.app, call.name, call.rank, call.dtype, call.distribution, call.attributes)
            )
            kinds: tuple[str, ...] = ("declare", "seal")
        elif type(call) in _HELD and call.handle in self.handles:  # type: ignore[attr-defined]
            given = self.handles[call.handle]  # type: ignore[attr-defined]
            kinds = (_HELD[type(call)],)
        else:
            return False
        if not self.bulletin.subscriptions.wanted_before(kinds):
            return False
        attributes = self._attributes(given, self._current(given.name))
        return self.bulletin.hold(call, kinds, given.name, attributes)

    def _tell(
        self, kind: str, cdo: Cdo, handle: Handle, version: Version | None = None, **payload: Any
    ) -> int | None:
        """Tell of what an app did with a CDO; the serial if somebody is to acknowledge it."""
        version = version or self._current(cdo.name)
        if version is not None:
            payload["version"] = version.serial
        if handle.rank is not None:
            payload["rank"] = handle.rank
        attributes = self._attributes(handle, version)
        return self.bulletin.tell(kind, cdo.name, handle.app, attributes, **payload)

    def _tell_of_app(self, kind: str, joined: m.Join, **payload: Any) -> None:
        words = {"workflow": joined.workflow, "component": joined.component}
        self.bulletin.tell(kind, None, joined.app, {}, **words, **payload)

    def _current(self, name: str) -> Version | None:
        return self.cdos[name].current if name in self.cdos else None

    def _attributes(self, handle: Handle, version: Version | None) -> dict[str, Any]:
        """What selectors see: maestro's own attributes, and those of the pool and the handle."""
        distribution, dtype = handle.distribution, handle.dtype
        shared: dict[str, Any] = {}
        if version is not None:
            distribution = distribution or version.distribution
            dtype = dtype or version.dtype
            shared = version.attributes
        element = None if dtype is None else dtype_from_wire(dtype)
        core = core_attributes(handle.name, distribution, element, handle.rank)
        return {**shared, **handle.attributes, **core}

    # Shared steps

    def _reply(self, call: m.Call, value: Any = None) -> None:
        self._out.append(m.Reply(call.request, value))

    def _check_caller(self, call: m.Call) -> None:
        if call.app not in self.apps:
            raise PoolLostError(f"app {call.app!r} is not connected to this pool")

    def _find(self, call: Any) -> tuple[Handle, Cdo]:
        handle = self.handles.get(call.handle)
        if handle is None or handle.app != call.app:
            raise LifecycleError(f"handle {call.handle!r} is unknown: it was not sealed")
        return handle, self.cdos[handle.name]

    def _offering(self, cdo: Cdo, call: Any) -> Version:
        version = cdo.offered_by(call.handle)
        if version is None:
            raise LifecycleError(f"CDO {cdo.name!r}: it is not offered by this handle")
        return version

    def _drop_requirement(self, cdo: Cdo, handle: str) -> None:
        """The handle wants nothing any more: served, retracted, or gone."""
        self._cancel(cdo.waiting, handle, f"CDO {cdo.name!r}: the demand was given up")
        self.handles[handle].required = False
        self.handles[handle].lost = ""
        cdo.pending.discard(handle)
        for version in cdo.versions():
            version.requirements.discard(handle)
            if version.going and version.stage is not Stage.OVER:
                self._take_out(cdo, version)

    def _fail(self, cdo: Cdo, version: Version, text: str) -> None:
        """What was lost can't be had any more: tell everyone who wants it, and end the version."""
        if version.stage is Stage.FORMING:
            for request, handle in list(cdo.waiting.items()):
                del cdo.waiting[request]
                if not self.handles[handle].required:
                    cdo.pending.discard(handle)
                self._out.append(m.Refuse(request, DataLostError(text)))
        for handle in version.requirements:
            if self.handles[handle].required:
                self.handles[handle].lost = text
                cdo.pending.add(handle)
        self._end(cdo, version)

    def _end(self, cdo: Cdo, version: Version) -> None:
        """The version is over: its bytes go, and its producers are told."""
        self._empty(version, version.slots)
        for request, key in version.withdrawing.items():
            self._out.append(m.Reply(request))
            if key in self.handles:
                self._tell("withdraw", cdo, self.handles[key], version)
        version.withdrawing.clear()
        for serial in list(version.unacknowledged):
            self.bulletin.unpinned(serial)
        version.requirements.clear()
        if version.stage is not Stage.OVER:
            version.stage = Stage.OVER
            version.over_at = self._joined
        if cdo.current is version:
            cdo.current = None
            cdo.past.append(version)
        self._tidy(cdo)

    def _empty(self, version: Version, ranks: Iterable[int], settled: bool = False) -> None:
        """Let the nodes drop these parts; those that are not stored may still be written to."""
        by_node: dict[tuple[str, bool], list[int]] = {}
        for rank in ranks:
            slot = version.slots[rank]
            if slot.node is not None:
                self.ledger.release(slot.node, slot.size)
                by_node.setdefault((slot.node, settled or slot.stored), []).append(rank)
                slot.node = None
        for (node, through), dropped in by_node.items():
            self._out.append(m.Free(node, version.serial, tuple(dropped), through))

    def _forget_app(self, app: str, died: bool) -> None:
        for request in [r for r, waiting in self.queue.items() if waiting.app == app]:
            del self.queue[request]
            self._out.append(m.Refuse(request, PoolLostError(f"app {app!r} left")))
        for call in self.bulletin.held_of(app):
            self.bulletin.give_up(call.request)
            self._out.append(m.Refuse(call.request, PoolLostError(f"app {app!r} left")))
        for subscription in self.bulletin.subscriptions.of(app):
            self._end_poll(subscription)
            self.bulletin.forget(subscription)
        self.bulletin.subscriptions.leave(self.bulletin.time, app, died)
        for handle in [h for h, known in self.handles.items() if known.app == app]:
            cdo = self.cdos[self.handles[handle].name]
            for version in cdo.versions():
                self._cancel(version.withdrawing, handle, f"CDO {cdo.name!r}: the app left")
                self._leave_behind(cdo, version, handle, died)
            self._drop_requirement(cdo, handle)
            self._forget_handle(cdo, handle)
        self._tell_of_app("leave", self.apps[app], died=died)
        del self.apps[app], self._joins[app]
        for cdo in [cdo for cdo in self.cdos.values() if cdo.past]:
            self._tidy(cdo)  # nobody may be left who could belong to an ended round

    def _cancel(self, waits: dict[int, str], handle: str, text: str) -> None:
        """Answer what a handle waits for but nobody will take any more."""
        for request in [request for request, waiter in waits.items() if waiter == handle]:
            del waits[request]
            self._out.append(m.Refuse(request, PoolLostError(text)))

    def _leave_behind(self, cdo: Cdo, version: Version, handle: str, died: bool) -> None:
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
            self._fail(
                cdo,
                version,
                f"CDO {cdo.name!r}: app {app!r} {how} while it offered ranks {ranks}"
                f" of {version.size}; {cdo.progress()}",
            )
        elif version.stage is not Stage.OVER:
            self._take_out(cdo, version)

    def _forget_handle(self, cdo: Cdo, handle: str) -> None:
        del cdo.handles[handle], self.handles[handle]
        self._tidy(cdo)

    def _tidy(self, cdo: Cdo) -> None:
        """Drop what nobody can ask for any more."""
        cdo.past = [version for version in cdo.past if not version.forgettable(self._joins)]
        if not (cdo.handles or cdo.current or cdo.past):
            self.cdos.pop(cdo.name, None)
