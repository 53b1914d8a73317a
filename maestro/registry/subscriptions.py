"""Who is told what: subscriptions, their queues, and what waits for their acknowledgement.

A plain state machine without a clock: the time, in seconds, comes with every call that needs it.
What comes of a call for others (somebody has events to fetch, something need not wait any longer)
is collected, and taken with `Subscriptions.take`.

::

    publish ──> selected by whom? ──> queue of each ──poll──> the subscriber
                     │ some with ack                               │
                     └──> a hold, until ──────────ack──────────────┤
                                        ──────────time-out─────────┤
                                        ──gone, or too far behind──┘──> Released

Queues are bounded: a subscriber that falls behind finds, in place of the oldest events, one of
kind "missed" that counts them. A hold that ends without every acknowledgement is told to everyone
who is interested, by an event of kind "release".

A durable subscription outlives a subscriber that dies, for as long as acknowledgements are waited
for: whoever subscribes under its name meanwhile takes it over, with all that was not acknowledged.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, TypeAlias

from maestro.errors import LifecycleError
from maestro.events import CDO_KINDS, WHEN, Event, checked_kinds
from maestro.registry.eventlog import EventLog
from maestro.selectors import Selector
from maestro.selectors.index import SelectorIndex

__all__ = ["Outcome", "Ready", "Released", "Subscriptions"]

#: Subscriptions of an app that is gone which are forgotten before others get their turn.
AT_ONCE = 256

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Ready:
    """A subscription that had no events has some."""

    subscription: str


@dataclass(frozen=True, slots=True)
class Released:
    """What waited for the acknowledgement of an event need not wait any longer."""

    serial: int


Outcome: TypeAlias = Ready | Released


@dataclass(eq=False, slots=True)
class _Subscription:
    """What one subscriber asked for, and what it has not fetched or acknowledged yet."""

    id: str
    app: str
    selector: Selector
    kinds: tuple[str, ...]
    ack: bool
    when: str
    own: bool
    limit: int
    patience: float
    durable: str | None
    died: bool = False
    gone: bool = False  # told nothing any more, and forgotten soon
    queue: deque[Event] = field(default_factory=deque)
    unacknowledged: dict[int, None] = field(default_factory=dict)
    missed: list[int] = field(default_factory=list)  # first, last, count
    missed_at: float = 0.0
    last: int = 0  # the latest serial that was meant for it


@dataclass(eq=False, slots=True)
class _Hold:
    """Something that waits for acknowledgements of an event."""

    event: Event
    waiting: dict[_Subscription, float]  # for whom, and until when
    unheard: list[tuple[_Subscription, str]] = field(default_factory=list)


class Subscriptions:
    """All subscriptions of a pool, its event log, and everything that waits for a subscriber.

    Parameters
    ----------
    queue : int
        Events that a subscription may have unfetched, and unacknowledged.
    log : int
        Events that are kept for replay.
    patience : float
        Seconds after which what waits for an acknowledgement goes on without it.

    Examples
    --------
    >>> subscriptions = Subscriptions()
    >>> subscriptions.subscribe(0.0, "s", "listener", "(step = 6)", kinds="offer")
    >>> subscriptions.publish(1.0, "offer", "t2m", "model", {"step": 6})
    >>> subscriptions.take()
    [Ready(subscription='s')]
    >>> [(event.serial, event.name) for event in subscriptions.poll("s")]
    [(2, 't2m')]
    """

    def __init__(self, queue: int = 8192, log: int = 65536, patience: float = 30.0) -> None:
        if queue < 1:
            raise ValueError(f"queue: got {queue}, expected 1 or more events")
        self.log = EventLog(log)
        self.patience = patience
        self._limit = queue
        self._subscriptions: dict[str, _Subscription] = {}
        self._by_app: dict[str, dict[str, None]] = {}
        # By when subscribers are told, and by kind.
        self._indexes: dict[str, dict[str, SelectorIndex[_Subscription]]] = {w: {} for w in WHEN}
        self._holds: dict[int, _Hold] = {}
        # Deadlines of subscriptions' parts in holds, and of dead subscriptions (serial 0), earliest
        # first; those that do not hold any more are passed over.
        self._deadlines: list[tuple[float, int, int, _Subscription]] = []
        self._counted = itertools.count()
        self._leaving: deque[tuple[_Subscription, str]] = deque()  # and why
        # By serial: ended without every acknowledgement, and nobody was told yet.
        self._ended: list[tuple[int, _Hold]] = []
        self._out: list[Outcome] = []
        self._now = 0.0

    # Subscribers

    def subscribe(
        self,
        time: float,
        subscription: str,
        app: str,
        selector: str | None = None,
        *,
        kinds: str | Iterable[str] | None = None,
        ack: bool = False,
        when: str = "after",
        own: bool = True,
        since: int | None = None,
        durable: str | None = None,
        patience: float | None = None,
    ) -> None:
        """Let an app be told of what a selector selects.

        Parameters
        ----------
        time : float
            Now.
        subscription : str
            What the other calls know it by.
        app : str
            Whose it is.
        selector : str, optional
            Which CDOs; all events, also those without a CDO, by default.
        kinds : str or iterable of str, optional
            Some of `maestro.events.KINDS`; all by default.
        ack : bool
            Whether operations on CDOs wait for the subscriber's acknowledgement.
        when : str
            "before" they take effect, or "after".
        own : bool
            Whether it is told of what its own app does.
        since : int, optional
            A serial from which on it is told also of what has happened already, as far as that is
            kept; "missed" counts all that is not, whether it would have been selected or not.
        durable : str, optional
            A name under which the subscription outlives its app, if that dies. One that did is
            taken over: what was not acknowledged is told again.
        patience : float, optional
            Seconds for which its acknowledgements are waited for while its app lives, instead of
            those of all.

        Raises
        ------
        SelectorError, ValueError, TypeError
            If an argument is not as described; nothing has changed.
        LifecycleError
            If the name is taken, or the durable one is somebody's who lives.
        """
        if subscription in self._subscriptions:
            raise LifecycleError(f"subscription {subscription!r} is there already")
        if when not in WHEN:
            raise ValueError(f"when: got {when!r}, expected 'before' or 'after'")
        if patience is not None and not patience >= 0:
            raise ValueError(f"patience: got {patience!r}, expected seconds, 0 or more")
        new = _Subscription(
            *(subscription, app, Selector(selector), checked_kinds(kinds)),
            *(ack, when, own, self._limit),
            *(self.patience if patience is None else patience, durable),
        )
        before = self._durable(new)
        self._pass(time)
        told = {"subscription": subscription, "selector": selector, "kinds": list(new.kinds)}
        self._announce("subscribe", None, app, _NOTHING, told)
        self._settle()
        self._subscriptions[subscription] = new
        self._by_app.setdefault(app, {})[subscription] = None
        if since is not None:
            self._replay(new, since)
        if before is not None:
            self._take_over(new, before)
        for kind in new.kinds:
            self._indexes[when].setdefault(kind, SelectorIndex()).add(new, new.selector)

    def unsubscribe(self, time: float, subscription: str) -> None:
        """Tell a subscriber no more, and wait for it no more."""
        gone = self._find(subscription)
        self._pass(time)
        self._forget(gone, "unsubscribed")
        self._settle()

    def leave(self, time: float, app: str, died: bool) -> None:
        """An app is gone, and its subscriptions with it; of many, the last by and by."""
        self._pass(time)
        for each in self._by_app.pop(app, ()):
            gone = self._subscriptions[each]
            if died and gone.durable is not None:
                self._keep(gone)
            else:
                gone.gone = True
                self._leaving.append((gone, "died" if died else "left"))
        self._forget_some()
        self._settle()

    def poll(self, subscription: str, count: int | None = None) -> list[Event]:
        """Fetch the events that a subscription has, so many at most, oldest first."""
        known = self._find(subscription)
        queue = known.queue
        batch: list[Event] = []
        if known.missed:
            first, last, missed = known.missed
            told = {"first": first, "last": last, "count": missed}
            batch.append(Event(last, "missed", None, None, known.missed_at, _NOTHING, told))
            known.missed = []
        room = len(queue) if count is None else min(len(queue), max(0, count - len(batch)))
        if room == len(queue):
            batch += queue
            queue.clear()
        else:
            batch += [queue.popleft() for _ in range(room)]
        return batch

    def has_events(self, subscription: str) -> bool:
        """Whether a poll would return some."""
        known = self._find(subscription)
        return bool(known.queue or known.missed)

    def ack(self, time: float, subscription: str, serials: Iterable[int]) -> None:
        """Acknowledge events; what was waited for no more, or never, is let pass.

        Raises
        ------
        LifecycleError
            If one has not been told to this subscriber; then none is acknowledged.
        """
        known = self._find(subscription)
        serials = list(serials)
        for serial in serials:
            if not isinstance(serial, int) or not 0 < serial <= known.last:
                raise LifecycleError(
                    f"ack: got event {serial!r}, expected one of those that the subscription was"
                    f" told, up to {known.last}"
                )
        self._pass(time)
        for serial in serials:
            self._heard(known, serial)
        self._settle()

    # Publishers

    def publish(
        self,
        time: float,
        kind: str,
        name: str | None,
        app: str | None,
        attributes: Mapping[str, Any] = _NOTHING,
        payload: Mapping[str, Any] = _NOTHING,
        when: str = "after",
    ) -> int | None:
        """Tell everyone who asked.

        Returns
        -------
        int or None
            The event's serial if somebody is to acknowledge it: a `Released` of this serial is
            going to come. None if nothing has to wait.
        """
        self._pass(time)
        serial = self._announce(kind, name, app, attributes, payload, when)
        if self._ended:
            self._settle()
        return serial if serial in self._holds else None

    @property
    def count(self) -> int:
        """How many subscriptions there are."""
        return len(self._subscriptions) - len(self._leaving)

    def of(self, app: str) -> Collection[str]:
        """The subscriptions of an app."""
        return self._by_app.get(app, ())

    def app_of(self, subscription: str) -> str:
        """Whose a subscription is."""
        return self._find(subscription).app

    def wanted_before(self, kinds: Iterable[str]) -> bool:
        """Whether anybody asked to be told of such events before they happen."""
        wanted = self._indexes["before"]
        return bool(wanted) and any(kind in wanted for kind in kinds)

    @property
    def deadline(self) -> float | None:
        """When `expire` has something to do next."""
        return self._now if self._leaving else self._earliest

    @property
    def _earliest(self) -> float | None:
        """The earliest deadline."""
        while self._deadlines and not self._is_due(*self._deadlines[0]):
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def expire(self, time: float) -> None:
        """Release what has waited too long, and forget more of those that are gone."""
        self._pass(time)
        self._forget_some()
        while (deadline := self._earliest) is not None and deadline <= self._now:
            _, _, serial, subscription = heappop(self._deadlines)
            if serial:
                self._unheard(self._holds[serial], subscription, "time-out")
            else:
                self._forget(subscription, "died")
        self._settle()

    def take(self) -> list[Outcome]:
        """What came of the calls since this was last asked."""
        out, self._out = self._out, []
        return out

    # Shared steps

    def _find(self, subscription: str) -> _Subscription:
        known = self._subscriptions.get(subscription)
        if known is None:
            raise LifecycleError(f"subscription {subscription!r} is unknown, or was ended")
        return known

    def _pass(self, time: float) -> None:
        """Time goes on; a clock that was set back stands still."""
        if time > self._now:
            self._now = time

    def _announce(
        self,
        kind: str,
        name: str | None,
        app: str | None,
        attributes: Mapping[str, Any],
        payload: Mapping[str, Any],
        when: str = "after",
        but: Iterable[_Subscription] = (),
    ) -> int:
        """Number an event and put it into the queues; 0 for one that nobody wants to know before.

        Those who asked for it before are the only ones whom an event of that sort is for.
        """
        index = self._indexes[when].get(kind)
        told = () if index is None else index.matching(attributes)
        if when == "before" and not told:
            return 0
        serial = self.log.next
        event = Event(serial, kind, name, app, self._now, attributes, payload, when)
        self.log.append(event)
        waiting: list[_Subscription] = []
        for subscription in told:
            if subscription.gone or subscription in but:
                continue
            if subscription.own or subscription.app != app:
                self._push(subscription, event)
                if subscription.ack and kind in CDO_KINDS:
                    waiting.append(subscription)
        if waiting:
            self._holds[serial] = _Hold(event, dict.fromkeys(waiting, 0.0))
            for subscription in waiting:
                self._wait_for(subscription, serial)
                self._await(subscription, serial)
        return serial

    def _push(self, subscription: _Subscription, event: Event) -> None:
        queue = subscription.queue
        if not queue and not subscription.missed:
            self._out.append(Ready(subscription.id))
        elif len(queue) >= subscription.limit:
            self._drop(subscription, queue.popleft())
        queue.append(event)
        subscription.last = event.serial

    def _drop(self, subscription: _Subscription, event: Event) -> None:
        """The subscriber is too slow for its oldest event: count it, and wait for it no more."""
        first, _, count = subscription.missed or (event.serial, 0, 0)
        subscription.missed = [first, event.serial, count + 1]
        subscription.missed_at = event.time
        if event.serial in subscription.unacknowledged:
            self._unheard(self._holds[event.serial], subscription, "behind")

    def _await(self, subscription: _Subscription, serial: int) -> None:
        subscription.unacknowledged[serial] = None
        if len(subscription.unacknowledged) > subscription.limit:
            oldest = next(iter(subscription.unacknowledged))
            self._unheard(self._holds[oldest], subscription, "behind")

    def _wait_for(self, subscription: _Subscription, serial: int) -> None:
        """Set, or set anew, until when an acknowledgement is waited for."""
        patience = self.patience if subscription.died else subscription.patience
        deadline = self._holds[serial].waiting[subscription] = self._now + patience
        heappush(self._deadlines, (deadline, next(self._counted), serial, subscription))

    def _is_due(self, deadline: float, _: int, serial: int, subscription: _Subscription) -> bool:
        """Whether a deadline still is one."""
        if not serial:
            return subscription.died
        hold = self._holds.get(serial)
        return hold is not None and hold.waiting.get(subscription) == deadline

    def _heard(self, subscription: _Subscription, serial: int) -> None:
        """A subscriber's part in holding an event is over."""
        if serial not in subscription.unacknowledged:
            return
        del subscription.unacknowledged[serial]
        hold = self._holds[serial]
        del hold.waiting[subscription]
        if not hold.waiting:
            del self._holds[serial]
            self._out.append(Released(serial))
            if hold.unheard:
                heappush(self._ended, (serial, hold))

    def _unheard(self, hold: _Hold, subscription: _Subscription, reason: str) -> None:
        hold.unheard.append((subscription, reason))
        self._heard(subscription, hold.event.serial)

    def _settle(self) -> None:
        """Tell of the holds that ended without every acknowledgement, the oldest first.

        So the order does not depend on how selectors are looked up, where one event makes several
        subscribers fall behind. In a loop: being told may be what makes the next one do so.
        """
        while self._ended:
            _, hold = heappop(self._ended)
            event = hold.event
            reasons = [{"app": s.app, "reason": reason} for s, reason in hold.unheard]
            told = {"serial": event.serial, "kind": event.kind, "when": event.when}
            behind = [s for s, reason in hold.unheard if reason == "behind"]  # it finds "missed"
            payload = {**told, "unheard": reasons}
            self._announce("release", event.name, event.app, event.attributes, payload, but=behind)

    def _durable(self, new: _Subscription) -> _Subscription | None:
        """The subscription that a new one takes over."""
        if new.durable is None:
            return None
        for known in self._subscriptions.values():
            if known.durable == new.durable and not known.gone:
                if known.died:
                    return known
                raise LifecycleError(
                    f"durable subscription {new.durable!r} is there already, by app {known.app!r}"
                )
        return None

    def _keep(self, gone: _Subscription) -> None:
        """Keep a durable subscription for whoever takes it over, if that is soon."""
        self._disown(gone)
        gone.died = True
        heappush(self._deadlines, (self._now + self.patience, next(self._counted), 0, gone))
        for serial in gone.unacknowledged:
            self._wait_for(gone, serial)

    def _take_over(self, new: _Subscription, before: _Subscription) -> None:
        """Give a subscription what a dead one has not acknowledged, or not fetched."""
        left = {event.serial: event for event in (*before.queue, *new.queue)}
        for serial in before.unacknowledged:
            hold = self._holds[serial]
            left[serial] = hold.event
            del hold.waiting[before]
            hold.waiting[new] = 0.0
            new.unacknowledged[serial] = None
            self._wait_for(new, serial)
        before.unacknowledged.clear()
        new.queue = deque(left[serial] for serial in sorted(left))
        new.missed, new.missed_at = before.missed or new.missed, before.missed_at
        new.last = max(before.last, new.last)
        new.limit = max(new.limit, len(new.queue))
        self._forget(before, "died")
        if new.queue or new.missed:
            self._out.append(Ready(new.id))

    def _disown(self, gone: _Subscription) -> None:
        if gone.id in self._by_app.get(gone.app, ()):
            del self._by_app[gone.app][gone.id]
            if not self._by_app[gone.app]:
                del self._by_app[gone.app]

    def _forget_some(self) -> None:
        """Forget some of those that are gone: each takes some 20 us."""
        for _ in range(min(AT_ONCE, len(self._leaving))):
            self._forget(*self._leaving.popleft())

    def _forget(self, gone: _Subscription, reason: str) -> None:
        del self._subscriptions[gone.id]
        self._disown(gone)
        gone.died = False
        for kind in gone.kinds:
            index = self._indexes[gone.when][kind]
            index.remove(gone, gone.selector)
            if not index:
                del self._indexes[gone.when][kind]
        for serial in list(gone.unacknowledged):
            self._unheard(self._holds[serial], gone, reason)
        self._announce("unsubscribe", None, gone.app, _NOTHING, {"subscription": gone.id})

    def _replay(self, new: _Subscription, since: int) -> None:
        """Queue what has happened already; it holds nothing any more."""
        if since < self.log.first:
            last = self.log.first - 1
            first = max(1, since)
            if first <= last:
                new.missed = [first, last, last - first + 1]
                new.missed_at = self._now
                new.last = last
        for event in self.log.since(since):
            if (
                event.when == new.when
                and event.kind in new.kinds
                and (new.own or event.app != new.app)
                and new.selector.matches(event.attributes)
            ):
                new.queue.append(event)
                new.last = event.serial
        new.limit = max(new.limit, len(new.queue))
        if new.queue or new.missed:
            self._out.append(Ready(new.id))
