"""Events as values, and the log that keeps the latest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maestro.events import CDO_KINDS, KINDS, Event, checked_kinds, pack, unpack
from maestro.registry.eventlog import EventLog

WORDS = st.text(max_size=5)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | WORDS | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
EVENTS = st.builds(
    Event,
    st.integers(1, 2**63),
    st.sampled_from([*KINDS, "missed"]),
    st.none() | WORDS,
    st.none() | WORDS,
    st.floats(0, 1e10),
    st.dictionaries(WORDS, PLAIN, max_size=3),
    st.dictionaries(WORDS, PLAIN, max_size=3),
    st.sampled_from(["before", "after"]),
)


@given(st.lists(EVENTS, max_size=5))
def test_what_is_packed_comes_back(events):
    assert list(unpack(b"".join(map(pack, events)))) == events


@pytest.mark.parametrize(
    ("given_kinds", "expected"),
    [
        (None, KINDS),
        ("offer", ("offer",)),
        (("withdraw", "offer"), ("offer", "withdraw")),
        ({"APP_JOIN", "app leave"}, ("join", "leave")),
        (iter(CDO_KINDS), CDO_KINDS),
        ("Transport_Begin", ("transport-begin",)),
    ],
)
def test_kinds_are_given_by_name(given_kinds, expected):
    assert checked_kinds(given_kinds) == expected


@pytest.mark.parametrize(
    ("wrong", "says"),
    [("offers", "'offers'"), ([], "none"), ("", "''"), (["offer", "missed"], "'missed'")],
)
def test_other_kinds_are_refused(wrong, says):
    with pytest.raises(ValueError, match=f"kinds: got .*{says}.*, expected some of declare"):
        checked_kinds(wrong)


@pytest.mark.parametrize("wrong", [[3], 3, [None], b"offer"])
def test_kinds_are_strings(wrong):
    with pytest.raises(TypeError):
        checked_kinds(wrong)


@given(
    st.integers(1, 6),
    st.integers(0, 20),
    st.integers(-3, 25),
    st.none() | st.integers(0, 8),
)
def test_the_log_keeps_the_latest(limit, count, since, most):
    log = EventLog(limit)
    events = [Event(serial, "join", None, "a", 0.0) for serial in range(1, count + 1)]
    for event in events:
        log.append(event)
    assert log.next == count + 1
    assert log.first == max(1, count + 1 - limit)
    kept = [event for event in events[-limit:] if event.serial >= since]
    assert log.since(since, most) == (kept if most is None else kept[:most])


def test_the_log_refuses_gaps_and_no_room():
    log = EventLog(3)
    with pytest.raises(ValueError, match="got serial 2, expected 1"):
        log.append(Event(2, "join", None, "a", 0.0))
    with pytest.raises(ValueError, match="limit: got 0"):
        EventLog(0)
