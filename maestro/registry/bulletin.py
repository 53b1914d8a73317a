"""What the registry tells subscribers, and what it holds for them.

Between the registry, whose calls these events are about, and `maestro.registry.subscriptions`,
which knows nothing of calls: which calls wait for which acknowledgements, and who may be told of
how much. Plain state, without a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from maestro import messages as m
from maestro.events import pack
from maestro.registry.subscriptions import Outcome, Subscriptions
from maestro.registry.versions import Version

__all__ = ["Bulletin"]


class Bulletin:
    """Events, subscribers, and what waits for them.

    Parameters
    ----------
    subscriptions : Subscriptions
        Empty.
    """

    def __init__(self, subscriptions: Subscriptions) -> None:
        self.subscriptions = subscriptions
        self.time = 0.0
        self._credit: dict[str, int] = {}  # events that a subscription may be told of
        self._due: dict[str, None] = {}  # subscriptions that have some, and may be told
        self._held: dict[int, m.Call] = {}  # serial -> a call that waits
        self._waits: dict[int, set[int]] = {}  # request -> serials it waits for
        self._pins: dict[int, Version] = {}  # serial -> a version kept for it

    def tell(
        self,
        kind: str,
        name: str | None,
        app: str,
        attributes: Mapping[str, Any],
        **payload: Any,
    ) -> int | None:
        """Tell of what has happened; the serial if somebody is to acknowledge it."""
        return self.subscriptions.publish(self.time, kind, name, app, attributes, payload)

    def hold(
        self,
        call: m.Call,
        kinds: Iterable[str],
        told: Iterable[tuple[str, Mapping[str, Any], Mapping[str, Any]]],
    ) -> bool:
        """Tell of what a call is about to do; whether it has to wait for it.

        Parameters
        ----------
        call : Call
            What somebody asks.
        kinds : iterable of str
            The kinds of its events.
        told : iterable of (str, mapping, mapping)
            The CDOs that it is about: names, attributes, and what else there is to say.
        """
        publish = self.subscriptions.publish
        serials = {
            serial
            for name, attributes, payload in told
            for kind in kinds
            if (serial := publish(self.time, kind, name, call.app, attributes, payload, "before"))
        }
        if serials:
            self._waits[call.request] = serials
            self._held.update(dict.fromkeys(serials, call))
        return bool(serials)

    def pin(self, serial: int, version: Version) -> None:
        """Keep a version in the pool until an event is acknowledged."""
        version.unacknowledged.add(serial)
        self._pins[serial] = version

    def released(self, serial: int) -> m.Call | None:
        """The call that need not wait any longer, if this was the last that it waited for."""
        call = self._held.pop(serial, None)
        if call is None:
            return None
        waits = self._waits[call.request]
        waits.discard(serial)
        if waits:
            return None
        del self._waits[call.request]
        return call

    def unpinned(self, serial: int) -> Version | None:
        """The version that was kept for an event's acknowledgement."""
        pinned = self._pins.pop(serial, None)
        if pinned is not None:
            pinned.unacknowledged.discard(serial)
        return pinned

    def give_up(self, request: int) -> m.Call | None:
        """Let a call be held no more, and return it if it was."""
        call = None
        for serial in self._waits.pop(request, ()):
            call = self._held.pop(serial)
        return call

    def held_of(self, app: str) -> list[m.Call]:
        """The calls of an app that are held."""
        return list({c.request: c for c in self._held.values() if c.app == app}.values())

    def outcomes(self) -> list[Outcome]:
        """What came of all this; see `Subscriptions.take`."""
        return self.subscriptions.take()

    def has_events(self, subscription: str) -> None:
        """A subscription that had no events has some: they are due if it may be told of them."""
        if self._credit.get(subscription):
            self._due[subscription] = None

    def grant(self, subscription: str, count: int) -> None:
        """A subscription may be told of so many events more."""
        credit = self._credit.get(subscription, 0) + count
        self._credit[subscription] = min(credit, m.MOST_AHEAD)
        if self.subscriptions.has_events(subscription):
            self.has_events(subscription)

    def due(self) -> list[str]:
        """The subscriptions that have events to be told of, each told once."""
        due = list(self._due)
        self._due.clear()
        return due

    def forget(self, subscription: str) -> None:
        """A subscription has ended."""
        self._credit.pop(subscription, None)
        self._due.pop(subscription, None)

    @property
    def deadline(self) -> float | None:
        """When a `Tick` has something to do next."""
        return self.time if self._due else self.subscriptions.deadline

    def told(self, subscription: str) -> bytes:
        """The events that a subscription is told of now, as far as it may be."""
        events = self.subscriptions.poll(subscription, min(self._credit[subscription], m.BATCH))
        self._credit[subscription] -= len(events)
        if self.subscriptions.has_events(subscription):
            self.has_events(subscription)
        return b"".join(map(pack, events))

    def batch(self, subscription: str, most: int) -> bytes:
        """A subscription's events, packed one after the other."""
        return b"".join(map(pack, self.subscriptions.poll(subscription, min(most, m.BATCH))))
