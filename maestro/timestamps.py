"""Points in time as RFC 3339 spells them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

__all__ = ["as_text", "instant"]

_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


def as_text(time: datetime) -> str:
    """A point in time in the spelling of RFC 3339.

    Raises
    ------
    TypeError
        If it has no time zone: then it is not one point in time.

    Examples
    --------
    >>> as_text(datetime(2026, 1, 1, tzinfo=UTC))
    '2026-01-01T00:00:00Z'
    """
    if time.tzinfo is None:
        raise TypeError(f"got {time!r}, expected a time with its zone, such as UTC")
    return time.isoformat().replace("+00:00", "Z")


def instant(text: str) -> datetime | None:
    """The point in time that a text names, in UTC to the microsecond; None if it names none.

    Examples
    --------
    >>> instant("2026-01-01T01:30:00+01:30")
    datetime.datetime(2026, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)
    >>> instant("2026-01-01") is None
    True
    """
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, *offset = found.groups()
    leap = second == "60"
    try:
        zone = UTC
        if sign is not None:
            hours, minutes = map(int, offset)
            if hours > 23 or minutes > 59:
                return None
            zone = timezone((-1 if sign == "-" else 1) * timedelta(hours=hours, minutes=minutes))
        micro = int((fraction or "0")[:6].ljust(6, "0"))
        clock = int(hour), int(minute), 59 if leap else int(second), micro
        time = datetime(int(year), int(month), int(day), *clock, zone)
        return (time + timedelta(seconds=leap)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
