"""What happens in a pool, as values: events, their kinds, and how they are put on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import msgpack

__all__ = ["CDO_KINDS", "KINDS", "WHEN", "Event", "checked_kinds", "pack", "unpack"]

#: What apps do with CDOs: what can be signalled before it takes effect, and be acknowledged.
CDO_KINDS = (
    *("declare", "seal", "offer", "withdraw"),
    *("require", "retract", "demand", "dispose"),
)

#: All kinds of events that can be subscribed to.
KINDS = (
    *CDO_KINDS,
    *("transport-begin", "transport-end"),  # array bytes are under way to an app, or have come
    *("join", "leave"),  # an app; `died` in the payload tells whether it said so
    *("subscribe", "unsubscribe"),
    "release",  # what waited for acknowledgements goes on without some of them
)

#: When a subscriber is told: before an operation takes effect, or after.
WHEN = ("before", "after")


class _Said(NamedTuple):
    """What there is to say of an event."""

    serial: int
    kind: str
    name: str | None
    app: str | None
    time: float
    attributes: Mapping[str, Any] = MappingProxyType({})
    payload: Mapping[str, Any] = MappingProxyType({})
    when: str = "after"


class Event(_Said):
    """Something that happened in the pool, or with ``when="before"`` is about to.

    A tuple: to make one takes a fifth of the time that a frozen dataclass takes, and a subscriber
    makes many.

    Attributes
    ----------
    serial : int
        Its place in the order of all that happened, counted by the pool manager from 1.
    kind : str
        One of `KINDS`; or "missed", in place of events that a subscriber was too slow for: its
        payload has the ``first`` and ``last`` of their serials and their ``count``.
    name : str or None
        The CDO's name; None where there is none.
    app : str or None
        The app that did it.
    time : float
        When, in seconds since the epoch, by the pool manager's clock.
    attributes : mapping
        The CDO's attributes, those of ``.maestro.core.`` included: what selectors see.
    payload : mapping
        What else there is to say, by kind.
    when : str
        "before" or "after".
    """

    @cached_property
    def packed(self) -> bytes:
        """The event as bytes, made once, for it is sent to many."""
        *words, attributes, payload, when = self
        packed: bytes = msgpack.packb(
            (*words, _plain(attributes), _plain(payload), when), unicode_errors="surrogatepass"
        )
        return packed


def _plain(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return mapping if isinstance(mapping, dict) else dict(mapping)


def checked_kinds(kinds: str | Iterable[str] | None) -> tuple[str, ...]:
    """The kinds that somebody asks for, in the order of `KINDS`; all of them for None.

    The original's spellings are understood: ``"APP_JOIN"`` is ``"join"``.

    Raises
    ------
    ValueError
        If there is no such kind, or none is asked for.
    TypeError
        If one is no string.

    Examples
    --------
    >>> checked_kinds(["withdraw", "OFFER"])
    ('offer', 'withdraw')
    """
    if kinds is None:
        return KINDS
    asked = {_kind(kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)}
    if not asked or not asked <= set(KINDS):
        wrong = ", ".join(map(repr, sorted(asked - set(KINDS)))) or "none"
        raise ValueError(f"kinds: got {wrong}, expected some of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in asked)


def _kind(kind: str) -> str:
    if not isinstance(kind, str):
        raise TypeError(f"kinds: got {kind!r}, expected strings such as 'offer'")
    return kind.strip().lower().replace("_", "-").replace(" ", "-").removeprefix("app-")


def pack(event: Event) -> bytes:
    """The event as bytes; several go one after the other."""
    return event.packed


def unpack(batch: bytes) -> Iterator[Event]:
    """The events that were packed one after the other.

    Examples
    --------
    >>> batch = pack(Event(7, "offer", "t2m", "model", 0.5)) + pack(Event(8, "join", None, "a", 1))
    >>> [(event.serial, event.kind, event.name) for event in unpack(batch)]
    [(7, 'offer', 't2m'), (8, 'join', None)]
    """
    reader = msgpack.Unpacker(
        max_buffer_size=max(1, len(batch)), unicode_errors="surrogatepass", strict_map_key=False
    )
    reader.feed(batch)
    return map(Event._make, reader)
