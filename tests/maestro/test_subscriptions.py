"""Who is told what, and what waits for whom, against a slow and obvious model of the same."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from maestro.errors import LifecycleError, SelectorError
from maestro.events import CDO_KINDS, KINDS
from maestro.registry.subscriptions import AT_ONCE, Ready, Released, Subscriptions
from maestro.selectors import Selector
from tests.maestro.test_selectors import naive

OFFERED = {"step": 6, "name": "t2m"}


@pytest.fixture
def pool():
    return Subscriptions(queue=3, log=10, patience=30.0)


def serials(events):
    return [event.serial for event in events]


# Promises, one by one


def test_events_come_in_order_with_all_that_is_known(pool):
    pool.subscribe(0.5, "s", "listener", kinds=CDO_KINDS)
    assert pool.publish(1.5, "offer", "t2m", "model", OFFERED, {"ranks": 4}) is None
    pool.publish(2.5, "withdraw", "t2m", "model", OFFERED)
    assert pool.take() == [Ready("s")]
    offer, withdraw = pool.poll("s")
    assert (offer.serial, offer.kind, offer.name, offer.app) == (2, "offer", "t2m", "model")
    assert (offer.time, offer.attributes, offer.payload) == (1.5, OFFERED, {"ranks": 4})
    assert (withdraw.serial, withdraw.kind, withdraw.when) == (3, "withdraw", "after")
    assert pool.poll("s") == []
    pool.publish(3.5, "dispose", "t2m", "model", OFFERED)
    assert pool.take() == [Ready("s")]


def test_before_and_acknowledged_holds_until_everyone_has_heard(pool):
    pool.subscribe(0, "a", "archiver-a", "(step = 6)", kinds="withdraw", ack=True, when="before")
    pool.subscribe(0, "b", "archiver-b", kinds="withdraw", ack=True, when="before")
    pool.subscribe(0, "c", "curious", kinds="withdraw", when="before")
    held = pool.publish(1, "withdraw", "t2m", "model", OFFERED, when="before")
    assert held is not None
    pool.take()
    for name in "abc":
        assert serials(pool.poll(name)) == [held]
        assert not pool.take()
    pool.ack(2, "a", [held])
    pool.ack(2, "c", [held])
    pool.ack(2, "a", [held])
    assert not pool.take()
    pool.ack(3, "b", [held])
    assert pool.take() == [Released(held)]
    assert pool.deadline is None


def test_nobody_holds_what_nobody_must_acknowledge(pool):
    assert pool.publish(0, "offer", "t2m", "model", when="before") is None
    assert pool.log.next == 1, "nobody wanted to know it before"
    pool.subscribe(0, "a", "archiver", "(step = 7)", ack=True, when="before")
    pool.subscribe(0, "b", "model", ack=True, when="before", own=False)
    pool.subscribe(0, "c", "curious", when="before")
    assert pool.publish(1, "offer", "t2m", "model", OFFERED, when="before") is None
    assert pool.publish(1, "join", None, "other", when="before") is None


def test_a_time_out_releases_and_says_so(pool):
    pool.subscribe(0, "listener", "listener", kinds="release")
    pool.subscribe(0, "a", "asleep", kinds="offer", ack=True, when="before")
    held = pool.publish(1, "offer", "t2m", "model", OFFERED, when="before")
    assert pool.deadline == 31
    pool.expire(30.9)
    assert Released(held) not in pool.take()
    pool.expire(31)
    assert pool.take() == [Released(held), Ready("listener")]
    (event,) = pool.poll("listener")
    assert (event.kind, event.name, event.app, event.attributes) == (
        *("release", "t2m", "model"),
        OFFERED,
    )
    assert event.payload == {
        **{"serial": held, "kind": "offer", "when": "before"},
        "unheard": [{"app": "asleep", "reason": "time-out"}],
    }
    pool.ack(32, "a", [held])  # too late, and no harm
    assert not pool.take()


@pytest.mark.parametrize("died", [True, False])
def test_an_app_that_is_gone_is_waited_for_no_more(pool, died):
    pool.subscribe(0, "listener", "listener", kinds=["release", "unsubscribe"])
    pool.subscribe(0, "a", "archiver", ack=True, when="before")
    held = pool.publish(1, "offer", "t2m", "model", OFFERED, when="before")
    pool.leave(2, "archiver", died)
    assert Released(held) in pool.take()
    unsubscribed, released = pool.poll("listener")
    assert unsubscribed.payload == {"subscription": "a"}
    assert released.payload["unheard"] == [
        {"app": "archiver", "reason": "died" if died else "left"}
    ]
    with pytest.raises(LifecycleError, match="unknown"):
        pool.poll("a")
    assert pool.publish(3, "offer", "t2m", "model", OFFERED, when="before") is None


def test_whoever_falls_behind_is_told_what_it_missed(pool):
    pool.subscribe(0, "s", "slow", kinds="offer")
    for number in range(5):
        pool.publish(number, "offer", f"t{number}", "model")
    assert pool.take() == [Ready("s")]
    missed, *others = pool.poll("s")
    assert (missed.kind, missed.serial) == ("missed", 3)
    assert missed.payload == {"first": 2, "last": 3, "count": 2}
    assert serials(others) == [4, 5, 6]
    assert serials(pool.log.since(2)) == [2, 3, 4, 5, 6], "it can look there"


def test_whoever_falls_behind_is_waited_for_no_more(pool):
    pool.subscribe(0, "listener", "listener", kinds="release")
    pool.subscribe(0, "s", "slow", kinds=["offer", "release"], ack=True)
    held = [pool.publish(1, "offer", f"t{number}", "model") for number in range(4)]
    assert [o for o in pool.take() if isinstance(o, Released)] == [Released(held[0])]
    (event,) = pool.poll("listener")
    assert event.payload["unheard"] == [{"app": "slow", "reason": "behind"}]
    assert [e.kind for e in pool.poll("s")] == ["missed", "offer", "offer", "offer"]
    # Fetched, but not acknowledged: that has a bound as well.
    pool.publish(1, "offer", "t9", "model")
    assert [o for o in pool.take() if isinstance(o, Released)] == [Released(held[1])]


def test_what_has_happened_is_told_from_a_serial_on(pool):
    for number in range(15):
        pool.publish(number, "offer", "t", "model", {"step": number % 2})
    pool.subscribe(20, "s", "late", "(step = 1)", kinds="offer", since=3)
    missed, *others = pool.poll("s")
    assert missed.payload == {"first": 3, "last": 6, "count": 4}
    assert serials(others) == [8, 10, 12, 14], "also where they are more than a queue may have"
    pool.ack(20, "s", [missed.serial, *serials(others)])
    pool.subscribe(20, "t", "late", kinds="offer", since=999)
    assert pool.poll("t") == []


@pytest.mark.parametrize("count", [-5, -1, 0, 1 << 70])
def test_no_count_of_kept_events_is_too_strange(pool, count):
    pool.subscribe(0, "s", "listener")
    kept = pool.log.since(1)
    assert pool.log.since(1, count) == kept[: max(0, count)]
    assert pool.log.since(1 << 70, count) == []


def test_batches_have_a_size(pool):
    pool.subscribe(0, "s", "listener", kinds="offer")
    for number in range(4):
        pool.publish(number, "offer", "t", "model")
    assert [e.kind for e in pool.poll("s", 2)] == ["missed", "offer"]
    assert pool.has_events("s")
    assert serials(pool.poll("s", 1)) == [4]
    assert serials(pool.poll("s", 99)) == [5]
    assert not pool.has_events("s")


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"selector": "(step = )"}, SelectorError, "column 9"),
        ({"kinds": "offers"}, ValueError, "kinds"),
        ({"when": "during"}, ValueError, "when: got 'during'"),
        ({"selector": 3}, TypeError, "selector"),
        ({"subscription": "s"}, LifecycleError, "there already"),
    ],
)
def test_a_wrong_subscription_changes_nothing(pool, wrong, error, says):
    pool.subscribe(0, "s", "listener")
    pool.take()
    with pytest.raises(error, match=says):
        pool.subscribe(1, **{"subscription": "t", "app": "listener", **wrong})
    assert pool.log.next == 2
    assert not pool.take()
    if "subscription" not in wrong:
        with pytest.raises(LifecycleError, match="'t' is unknown"):
            pool.unsubscribe(1, "t")


@pytest.mark.parametrize("wrong", [0, -1, 4, "1", None, 1.0])
def test_only_what_was_told_can_be_acknowledged(pool, wrong):
    pool.subscribe(0, "s", "listener", ack=True)
    first = pool.publish(1, "offer", "t", "model")
    pool.publish(1, "offer", "t", "model")
    pool.take()
    with pytest.raises(LifecycleError, match="ack: got event"):
        pool.ack(2, "s", [first, wrong])
    assert not pool.take(), "all or none"


def test_ten_thousand_subscriptions_of_which_one_is_meant():
    pool = Subscriptions()
    for number in range(10_000):
        pool.subscribe(0, f"s{number}", f"app-{number}", f"(step = {number})", kinds="offer")
    pool.take()
    pool.publish(1, "offer", "t", "model", {"step": 77})
    assert pool.take() == [Ready("s77")]
    pool.leave(2, "app-77", died=True)
    pool.publish(3, "offer", "t", "model", {"step": 77})
    assert not pool.take()


def test_ten_thousand_subscriptions_that_go_with_their_app():
    pool = Subscriptions()
    for number in range(10_000):
        pool.subscribe(0, f"s{number}", "listener", f"(step > {number})", kinds="offer", ack=True)
    held = pool.publish(1, "offer", "t", "model", {"step": 1e6})
    pool.take()
    pool.leave(2, "listener", died=True)
    assert not pool.of("listener")
    assert pool.publish(2, "offer", "u", "model", {"step": 1e6}) is None, "none of them is told"
    turns = 0
    while pool.deadline == 2:  # in turns, so that others have theirs
        assert not pool.take(), "others are still waited for"
        assert 0 < pool.count + len(pool._leaving) < 10_000
        pool.expire(2)
        turns += 1
    assert pool.take() == [Released(held)]
    assert turns == 10_000 // AT_ONCE
    assert pool.deadline is None
    assert not any(pool._indexes.values())
    assert not pool._holds


def test_a_clock_that_is_set_back_holds_nothing_longer(pool):
    pool.subscribe(100, "s", "a", ack=True, when="before")
    first = pool.publish(100, "offer", "t", "model", when="before")
    second = pool.publish(50, "offer", "t", "model", when="before")
    pool.expire(130)
    assert [o for o in pool.take() if isinstance(o, Released)] == [
        Released(first),
        Released(second),
    ]
    assert [e.time for e in pool.poll("s")] == [100, 100]


# Against the model


def test_a_durable_subscription_waits_for_whoever_takes_it_over(pool):
    durable = {"kinds": "withdraw", "ack": True, "when": "before", "durable": "archive"}
    pool.subscribe(0, "a", "archiver-1", **durable)
    first = pool.publish(1, "withdraw", "t2m", "model", OFFERED, when="before")
    second = pool.publish(2, "withdraw", "u10", "model", OFFERED, when="before")
    assert serials(pool.poll("a", 1)) == [first]
    with pytest.raises(LifecycleError, match="'archive' is there already, by app 'archiver-1'"):
        pool.subscribe(2, "b", "archiver-2", **durable)
    pool.leave(25, "archiver-1", died=True)
    pool.take()
    third = pool.publish(26, "withdraw", "v10", "model", OFFERED, when="before")
    pool.expire(50)  # more than 30 s after the first two, but not after the death
    assert not [each for each in pool.take() if isinstance(each, Released)]
    pool.subscribe(51, "b", "archiver-2", **durable)
    assert Ready("b") in pool.take()
    assert serials(pool.poll("b")) == [first, second, third]  # also what was fetched before
    pool.ack(60, "b", [first, third])
    assert pool.take() == [Released(first), Released(third)]
    pool.expire(80.9)
    assert pool.take() == []
    pool.expire(81)
    assert pool.take() == [Released(second)]


@pytest.mark.parametrize(("died", "durable"), [(False, "archive"), (True, None)])
def test_only_what_is_durable_and_dead_is_waited_for(pool, died, durable):
    pool.subscribe(0, "a", "archiver", kinds="offer", ack=True, durable=durable)
    held = pool.publish(1, "offer", "t2m", "model", OFFERED)
    pool.leave(2, "archiver", died)
    assert pool.take()[-1] == Released(held)
    assert pool.publish(3, "offer", "t2m", "model", OFFERED) is None
    assert pool.deadline is None


def test_a_dead_durable_subscription_is_forgotten_in_the_end(pool):
    pool.subscribe(0, "a", "archiver", kinds="offer", ack=True, durable="archive")
    pool.subscribe(0, "l", "listener", kinds=["release", "unsubscribe"])
    pool.leave(2, "archiver", died=True)
    held = pool.publish(3, "offer", "t2m", "model", OFFERED)
    assert pool.deadline == 32
    pool.take()
    pool.expire(32)
    assert pool.take() == [Released(held), Ready("l")]
    release = next(event for event in pool.poll("l") if event.kind == "release")
    assert release.payload["unheard"] == [{"app": "archiver", "reason": "died"}]
    pool.subscribe(33, "b", "archiver-2", kinds="offer", ack=True, durable="archive")
    assert pool.poll("b") == []
    assert pool.deadline is None


def test_patience_of_its_own_lasts_while_its_app_lives(pool):
    pool.subscribe(0, "a", "archiver", kinds="offer", ack=True, durable="archive", patience=3600)
    pool.subscribe(0, "b", "other", kinds="offer", ack=True)
    held = pool.publish(1, "offer", "t2m", "model", OFFERED)
    pool.expire(31)
    assert pool.deadline == 3601
    pool.leave(1000, "archiver", died=True)
    assert pool.deadline == 1030
    pool.take()
    pool.expire(1030)
    assert pool.take() == [Released(held)]


class Model:
    """The same promises, kept by looking at everything every time."""

    def __init__(self, queue, log, patience):
        self.queue_limit, self.log_limit, self.patience = queue, log, patience
        self.events = []  # everything ever: (serial, kind, app, attributes, when, time)
        self.subs = {}
        self.holds = {}  # serial -> [deadline, {subscription}, [(app, reason)]]
        self.ended = []  # what ended without every acknowledgement, and nobody was told yet
        self.released = []
        self.now = 0.0

    def publish(self, kind, app, attributes, when):
        serial = self.announce(kind, app, attributes, when)
        self.settle()
        return serial if serial in self.holds else None

    def announce(self, kind, app, attributes, when="after", payload=None, but=()):
        told = [
            s
            for s in self.subs.values()
            if s["when"] == when and kind in s["kinds"] and naive(s["clause"], attributes)
        ]
        if when == "before" and not told:
            return None
        serial = len(self.events) + 1
        event = (serial, kind, app, attributes, when, self.now, payload or {})
        self.events.append(event)
        told = [s for s in told if (s["own"] or s["app"] != app) and s["id"] not in but]
        told = [s for s in told if not s["gone"]]
        late = []
        for s in told:
            if len(s["queue"]) >= s["limit"]:
                dropped = s["queue"].pop(0)[0]
                s["missed"].append(dropped)
                late.append((s, dropped))
            s["queue"].append(event)
            s["last"] = serial
        holding = [s for s in told if s["ack"] and kind in CDO_KINDS]
        if holding:
            self.holds[serial] = [self.now + self.patience, {s["id"] for s in holding}, []]
        for s, dropped in late:
            self.let_go(s, dropped, "behind")
        for s in holding:
            mine = sorted(n for n, hold in self.holds.items() if s["id"] in hold[1])
            if len(mine) > s["limit"]:
                self.let_go(s, mine[0], "behind")
        return serial

    def let_go(self, sub, serial, reason):
        """One subscriber's part in a hold is over."""
        hold = self.holds.get(serial)
        if hold is None or sub["id"] not in hold[1]:
            return
        hold[1].discard(sub["id"])
        if reason:
            hold[2].append((sub["id"], sub["app"], reason))
        if not hold[1]:
            del self.holds[serial]
            self.released.append(serial)
            if hold[2]:
                self.ended.append((serial, hold[2]))

    def settle(self):
        while self.ended:
            self.ended.sort(key=lambda each: each[0])  # the oldest first
            serial, unheard = self.ended.pop(0)
            _, kind, app, attributes, when, *_ = self.events[serial - 1]
            self.announce(
                "release",
                app,
                attributes,
                payload={
                    **{"serial": serial, "kind": kind, "when": when},
                    "unheard": [{"app": a, "reason": r} for _, a, r in unheard],
                },
                but={s for s, _, r in unheard if r == "behind"},
            )

    def subscribe(self, name, app, text, kinds, ack, when, own, since):
        self.announce(
            "subscribe",
            app,
            {},
            payload={
                **{"subscription": name, "selector": text},
                "kinds": [k for k in KINDS if k in kinds],
            },
        )
        self.settle()
        sub = {
            **{"id": name, "app": app, "clause": Selector(text).clause, "kinds": kinds},
            **{"ack": ack, "when": when, "own": own, "queue": [], "missed": [], "last": 0},
            "gone": False,
        }
        if since is not None:
            kept = self.events[-self.log_limit :]
            gone = [e for e in self.events[: len(self.events) - len(kept)] if e[0] >= since]
            sub["missed"] = [e[0] for e in gone]
            sub["queue"] = [
                e
                for e in kept
                if e[0] >= since
                and (e[4] == when and e[1] in kinds and (own or e[2] != app))
                and naive(sub["clause"], e[3])
            ]
            sub["last"] = max([*sub["missed"], *(e[0] for e in sub["queue"])], default=0)
        sub["limit"] = max(self.queue_limit, len(sub["queue"]))
        self.subs[name] = sub

    def forget(self, name, reason):
        sub = self.subs.pop(name)
        for serial in sorted(self.holds):
            self.let_go(sub, serial, reason)
        self.announce("unsubscribe", sub["app"], {}, payload={"subscription": name})

    def poll(self, name, count):
        sub = self.subs[name]
        batch = []
        if sub["missed"]:
            missed, sub["missed"] = sub["missed"], []
            told = {"first": missed[0], "last": missed[-1], "count": len(missed)}
            batch.append((missed[-1], "missed", told))
        while sub["queue"] and (count is None or len(batch) < count):
            serial, kind, *_, payload = sub["queue"].pop(0)
            batch.append((serial, kind, payload))
        return batch

    def expire(self):
        for serial in sorted(self.holds):
            deadline, waiting, _ = self.holds[serial]
            if deadline <= self.now:
                for name in [s for s in self.subs if s in waiting]:
                    self.let_go(self.subs[name], serial, "time-out")
        self.settle()


SUBSCRIBED = ["offer", "withdraw", "release", "subscribe", "unsubscribe"]
TEXTS = [None, "(step = 6)", "(step < 6)", "(not (has step))", "(or (step = 6) (step = 3))"]
APPS = ["p", "c", "d", "e"]


class Machine(RuleBasedStateMachine):
    """Random calls to both; all that can be seen from outside must agree."""

    def __init__(self):
        super().__init__()
        limits = {"queue": 2, "log": 8, "patience": 10.0}
        self.real, self.model = Subscriptions(**limits), Model(**limits)
        self.names = itertools.count()
        self.ready = set()

    @initialize()
    def some_who_acknowledge_and_one_who_looks_on(self):
        everything = {"kinds": set(SUBSCRIBED), "own": True, "since": None}
        for app, ack, when in [
            *(("c", True, "before"), ("d", True, "before")),
            *(("c", True, "after"), ("e", False, "after")),
        ]:
            name = f"s{next(self.names)}"
            self.real.subscribe(0.0, name, app, ack=ack, when=when, **everything)
            self.model.subscribe(name, app, None, ack=ack, when=when, **everything)

    @rule(
        app=st.sampled_from(APPS),
        text=st.sampled_from(TEXTS),
        kinds=st.sets(
            st.sampled_from(SUBSCRIBED),
            min_size=1,
        ),
        ack=st.booleans(),
        when=st.sampled_from(["before", "after"]),
        own=st.booleans(),
        since=st.none() | st.integers(-1, 30),
    )
    def subscribe(self, app, text, kinds, ack, when, own, since):
        name = f"s{next(self.names)}"
        options = {"kinds": kinds, "ack": ack, "when": when, "own": own, "since": since}
        self.real.subscribe(self.model.now, name, app, text, **options)
        self.model.subscribe(name, app, text, **options)

    @rule(
        kind=st.sampled_from(["offer", "withdraw", "join"]),
        app=st.sampled_from(APPS),
        step=st.sampled_from([None, 3, 6]),
        when=st.sampled_from(["before", "after"]),
        times=st.sampled_from([1, 1, 3]),
    )
    def publish(self, kind, app, step, when, times):
        attributes = {} if step is None else {"step": step}
        for _ in range(times):
            held = self.real.publish(self.model.now, kind, "t", app, attributes, when=when)
            assert held == self.model.publish(kind, app, attributes, when)

    @precondition(lambda self: self.model.subs)
    @rule(data=st.data(), count=st.none() | st.integers(1, 4))
    def poll(self, data, count):
        name = data.draw(st.sampled_from(list(self.model.subs)))
        found = [(e.serial, e.kind, dict(e.payload)) for e in self.real.poll(name, count)]
        assert found == self.model.poll(name, count)
        if not self.real.has_events(name):
            self.ready.discard(name)

    @precondition(lambda self: self.model.subs)
    @rule(data=st.data())
    def ack(self, data):
        name = data.draw(st.sampled_from(list(self.model.subs)))
        sub = self.model.subs[name]
        serials = data.draw(st.lists(st.integers(1, max(1, sub["last"])), max_size=3))
        if sub["last"]:
            self.real.ack(self.model.now, name, serials)
            for serial in serials:
                self.model.let_go(sub, serial, None)
            self.model.settle()

    @precondition(lambda self: self.model.subs)
    @rule(data=st.data())
    def unsubscribe(self, data):
        name = data.draw(st.sampled_from(list(self.model.subs)))
        self.real.unsubscribe(self.model.now, name)
        self.model.forget(name, "unsubscribed")
        self.model.settle()
        self.ready.discard(name)

    @precondition(lambda self: len(self.model.subs) > 4)
    @rule(app=st.sampled_from(APPS), died=st.booleans())
    def leave(self, app, died):
        self.real.leave(self.model.now, app, died)
        gone = [name for name, sub in self.model.subs.items() if sub["app"] == app]
        reason = "died" if died else "left"
        for name in gone:  # an app that is gone is told nothing, also not of itself
            self.model.subs[name]["gone"] = True
        for name in gone:
            self.model.forget(name, reason)
        self.model.settle()
        self.ready -= set(gone)

    @rule(seconds=st.sampled_from([0.0, 5.0, 10.0]))
    def time_passes(self, seconds):
        self.model.now += seconds
        self.real.expire(self.model.now)
        self.model.expire()

    @invariant()
    def what_is_seen_agrees(self):
        released, self.model.released = self.model.released, []
        outcomes = self.real.take()
        assert sorted(o.serial for o in outcomes if isinstance(o, Released)) == sorted(released)
        self.ready |= {o.subscription for o in outcomes if isinstance(o, Ready)}
        for name, sub in self.model.subs.items():
            has_events = bool(sub["queue"] or sub["missed"])
            assert self.real.has_events(name) is has_events
            assert (name in self.ready) is has_events
        deadlines = [hold[0] for hold in self.model.holds.values()]
        assert self.real.deadline == min(deadlines, default=None)
        assert self.real.log.next == len(self.model.events) + 1
        kept = [(e.serial, e.kind, e.app) for e in self.real.log.since(0)]
        assert kept == [event[:3] for event in self.model.events[-self.model.log_limit :]]

    def teardown(self):
        """With everybody gone nothing is left, and nothing waits."""
        for app in APPS:
            self.leave(app, died=True)
        self.what_is_seen_agrees()
        assert not self.model.holds
        assert not any(self.real._indexes.values())
        assert not self.real._subscriptions


Machine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase
