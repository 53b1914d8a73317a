"""The latest events of a pool, by serial."""

from __future__ import annotations

from collections import deque
from itertools import islice

from maestro.events import Event

__all__ = ["EventLog"]


class EventLog:
    """The events of a pool, numbered; so many of the latest are kept.

    Parameters
    ----------
    limit : int
        Events kept at most.

    Examples
    --------
    >>> log = EventLog(limit=2)
    >>> for time in range(4):
    ...     log.append(Event(log.next, "join", None, f"app-{time}", time))
    >>> [event.serial for event in log.since(1)], log.first
    ([3, 4], 3)
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit: got {limit}, expected 1 or more events")
        self._events: deque[Event] = deque(maxlen=limit)
        self.next = 1

    @property
    def first(self) -> int:
        """The serial of the oldest event that is kept; `next` if none is."""
        return self.next - len(self._events)

    def append(self, event: Event) -> None:
        """Add the next event; its serial must be `next`."""
        if event.serial != self.next:
            raise ValueError(f"event: got serial {event.serial}, expected {self.next}")
        self._events.append(event)
        self.next += 1

    def since(self, serial: int, count: int | None = None) -> list[Event]:
        """The events that are kept from a serial on, so many of them at most.

        Where `first` is larger, those between have been forgotten.
        """
        kept = len(self._events)
        start = min(max(0, serial - self.first), kept)
        stop = kept if count is None else min(start + max(0, count), kept)
        return list(islice(self._events, start, stop))
