"""Subscriptions through a pool: told in time, held until acknowledged, released when they must."""

from __future__ import annotations

import asyncio
import itertools
import threading

import dask
import numpy as np
import pytest
from distributed import LocalCluster

import maestro
from layouts import Distribution
from maestro.errors import LifecycleError, PoolTimeoutError, SelectorError
from tests.maestro.conftest import check
from tests.maestro.waiting import in_thread, until

NAME = ".maestro.core.cdo.name"


@pytest.fixture
def other(app):
    with maestro.connect(app.address, component="other") as other:
        yield other


def told(events):
    return [(event.kind, event.name) for event in events]


def collect(subscription, count):
    """So many events, waited for."""
    events = []
    while len(events) < count:
        batch = subscription.wait(timeout=300)
        assert batch, f"only {told(events)} came"
        events += batch
    return events


def test_the_life_of_a_cdo_is_told_in_order(app, other):
    listener = other.subscribe(f'({NAME} = "t2m")')
    source = Distribution((6, 4), (2, 1))
    have = app.declare("t2m", source, attributes={"step": 6})
    have.offer(source.split(np.zeros((6, 4))))
    want = app.declare("t2m")
    want.require()
    want.retract()
    want.demand()
    want.dispose()
    have.withdraw()
    have.dispose()
    events = collect(listener, 13)
    assert [event.kind for event in events] == [
        *("declare", "seal", "offer", "declare", "seal", "require", "retract"),
        *("demand", "transport-begin", "transport-end", "dispose", "withdraw", "dispose"),
    ]
    serials = [event.serial for event in events]
    assert serials == sorted(set(serials))
    assert {event.app for event in events} == {app.name}
    offer = events[2]
    assert offer.attributes["step"] == 6
    assert offer.attributes[".maestro.core.cdo.layout.dims-size"] == [6, 4]
    assert offer.attributes[".maestro.core.cdo.scope.local-size"] == 192
    assert listener.poll() == []
    assert [e.serial for e in app.log(serials[0], 3)] == list(range(serials[0], serials[0] + 3))


def test_an_offer_is_told_before_the_demand_that_waits_for_it(app, other):
    listener = other.subscribe(kinds=("offer", "demand", "transport-begin"))
    waits = in_thread(other.demand, "t2m")
    until(lambda: any(event.kind == "seal" for event in app.log()))
    app.offer("t2m", [1.0])
    waits()
    kinds = [event.kind for event in collect(listener, 3)]
    assert kinds == ["offer", "demand", "transport-begin"]


def test_apps_come_and_go(app):
    listener = app.subscribe(kinds=("join", "leave"), own=False)
    with maestro.connect(app.address, workflow="w", component="guest") as guest:
        pass
    join, leave = collect(listener, 2)
    assert (join.kind, join.app, join.name) == ("join", guest.name, None)
    assert join.payload == {"workflow": "w", "component": "guest"}
    assert leave.payload == {"workflow": "w", "component": "guest", "died": False}


def test_own_events_can_be_left_out(app, other):
    mine = app.subscribe(kinds="offer")
    others = app.subscribe(kinds="offer", own=False)
    app.offer("mine")
    other.offer("theirs")
    assert told(collect(mine, 2)) == [("offer", "mine"), ("offer", "theirs")]
    assert told(collect(others, 1)) == [("offer", "theirs")]


def test_a_batch_is_no_larger_than_asked_for(app):
    listener = app.subscribe("(has step)", kinds="offer")
    for step in range(5):
        app.offer(f"t{step}", attributes={"step": step})
    assert told(listener.poll(2)) == [("offer", "t0"), ("offer", "t1")]
    assert told(listener.wait(most=1)) == [("offer", "t2")]
    assert len(listener.poll()) == 2
    assert listener.wait(timeout=0.01) == []
    with pytest.raises(ValueError, match="most: got 0"):
        listener.poll(0)


def test_withdraw_is_held_until_the_archiver_has_heard(app, other):
    archiver = other.subscribe(kinds="withdraw", ack=True, when="before")
    have = app.offer("x", np.arange(4.0))
    done = in_thread(have.withdraw)
    (event,) = collect(archiver, 1)
    assert (event.kind, event.when) == ("withdraw", "before")
    assert np.array_equal(other.demand("x", timeout=300), np.arange(4.0)), "it is still there"
    archiver.ack(event)
    done()
    assert "x" not in app.pool


def test_an_offer_is_held_before_it_is_in_the_pool(app, other):
    guard = other.subscribe(kinds="offer", ack=True, when="before")
    done = in_thread(app.offer, "x", np.arange(4.0))
    events = collect(guard, 1)
    assert "x" not in other.pool
    guard.ack(events)
    done()
    assert "x" in other.pool


def test_an_offer_that_is_not_acknowledged_stays(app, other):
    listener = other.subscribe(kinds="offer", ack=True)
    have = app.offer("x", np.arange(4.0))
    with pytest.raises(PoolTimeoutError, match="have not acknowledged"):
        have.withdraw(timeout=0.05)
    done = in_thread(have.withdraw)
    batch = collect(listener, 1)
    assert np.array_equal(other.demand("x", timeout=300), np.arange(4.0))
    listener.ack(batch)
    done()


def test_a_held_call_may_run_out_of_time(app, other):
    want = app.declare("x")
    want.seal()
    guard = other.subscribe(kinds="demand", ack=True, when="before")
    with pytest.raises(PoolTimeoutError, match="a subscriber holds it"):
        want.demand(timeout=0.05)
    guard.ack(collect(guard, 1))
    want.dispose()


def test_a_subscriber_that_never_acknowledges_is_waited_for_only_so_long():
    with dask.config.set({"maestro.events.patience": "50 ms"}), maestro.connect() as app:
        with maestro.connect(app.address, component="asleep") as asleep:
            asleep.subscribe(kinds="offer", ack=True, when="before")
            listener = app.subscribe(kinds="release")
            app.offer("x", [1.0])
            (event,) = collect(listener, 1)
            assert event.name == "x"
            assert event.payload["unheard"] == [{"app": asleep.name, "reason": "time-out"}]
        check(app)


@pytest.mark.parametrize("how", ["end", "leave"])
def test_a_subscriber_that_goes_is_waited_for_no_more(app, how):
    guest = maestro.connect(app.address, component="guest")
    guard = guest.subscribe(kinds="offer", ack=True, when="before")
    done = in_thread(app.offer, "x", [1.0])
    collect(guard, 1)
    guard.end() if how == "end" else guest.leave()
    done()
    guest.leave()


def test_the_held_call_of_an_app_that_goes_is_answered(app, other):
    guard = other.subscribe(kinds="offer", ack=True, when="before")
    guest = maestro.connect(app.address, component="guest")
    done = in_thread(guest.offer, "x", [1.0])
    events = collect(guard, 1)
    guest.leave()
    with pytest.raises(maestro.MaestroError):
        done()
    guard.ack(events)
    assert "x" not in app.pool


def test_a_subscriber_goes_through_events_until_it_is_ended(app):
    listener = app.subscribe(kinds="offer")
    seen = []

    def listen():
        for event in listener:
            seen.append(event.name)

    thread = threading.Thread(target=listen)
    thread.start()
    app.offer("a")
    app.offer("b")
    until(lambda: len(seen) == 2)
    listener.end()
    listener.end()
    thread.join(300)
    assert not thread.is_alive()
    assert seen == ["a", "b"]
    with pytest.raises(LifecycleError, match="unknown, or was ended"):
        listener.ack([maestro.Event(1, "offer", "a", None, 0.0)])


def handle(events):
    for _ in events:
        raise RuntimeError("mine")


def test_a_handler_that_raises_leaves_the_subscription_as_it_was(app):
    with app.subscribe(kinds="offer") as listener:
        app.offer("a")
        with pytest.raises(RuntimeError, match="mine"):
            handle(listener)
        app.offer("b")
        assert told(collect(listener, 1)) == [("offer", "b")]


def test_events_of_the_past_are_replayed(app):
    app.offer("a")
    app.offer("b")
    listener = app.subscribe(kinds="offer", since=1)
    assert told(listener.poll()) == [("offer", "a"), ("offer", "b")]


def test_whoever_is_too_slow_is_told_so():
    with dask.config.set({"maestro.events.queue": 2}), maestro.connect() as app:
        listener = app.subscribe(kinds="offer")
        for number in range(5):
            app.offer(f"t{number}")
        missed, *rest = listener.poll()
        assert (missed.kind, missed.payload["count"]) == ("missed", 3)
        assert told(rest) == [("offer", "t3"), ("offer", "t4")]


@pytest.mark.parametrize("most", [1, 3, None])
def test_events_come_as_fast_as_they_are_taken(most):
    """All of them, in order, with few of them ahead of whoever takes them."""
    with dask.config.set({"maestro.events.ahead": 4}), maestro.connect() as app:
        listener = app.subscribe(kinds="offer")
        done = in_thread(lambda: [app.offer(f"t{number}") for number in range(40)])
        names = []
        while len(names) < 40:
            events = listener.wait(timeout=300, most=most)
            assert 0 < len(events) <= (4 if most is None else most)
            names += [event.name for event in events]
        done()
        assert names == [f"t{number}" for number in range(40)]
        assert listener.wait(timeout=0.01) == []


def test_what_is_ahead_of_a_subscriber_is_bounded():
    """Who waits once and then no more has a few events here, and is told what it missed of them."""
    with dask.config.set({"maestro.events.ahead": 3, "maestro.events.queue": 2}):
        with maestro.connect() as app:
            listener = app.subscribe(kinds="offer")
            assert listener.wait(timeout=0.01) == []
            for number in range(10):
                app.offer(f"t{number}")
            until(lambda: len(listener._events) == 3)
            events = listener.poll()
            assert [event.kind for event in events] == ["offer"] * 3 + ["missed"] + ["offer"] * 2
            assert events[3].payload["count"] == 5
            assert told(events[4:]) == [("offer", "t8"), ("offer", "t9")]


def test_polls_and_waits_together_give_every_event_once(app):
    listener = app.subscribe(kinds="offer")
    done = in_thread(lambda: [app.offer(f"t{number}") for number in range(200)])
    names, polls = [], itertools.cycle([lambda: listener.poll(2), lambda: listener.wait(30, 3)])
    while len(names) < 200:
        names += [event.name for event in next(polls)()]
    done()
    assert names == [f"t{number}" for number in range(200)]
    assert listener.poll() == []


def test_more_events_than_one_message_has(app, monkeypatch):
    monkeypatch.setattr("maestro.messages.BATCH", 3)
    monkeypatch.setattr("maestro.apps.subscription.BATCH", 3)
    monkeypatch.setattr("maestro.apps.app.BATCH", 3)
    listener = app.subscribe(kinds="offer")
    for number in range(10):
        app.offer(f"t{number}")
    assert len(listener.poll(7)) == 7
    assert len(listener.poll()) == 3
    serials = [event.serial for event in app.log(most=20)]
    assert serials == list(range(1, 21))


def test_a_loop_that_breaks_off_leaves_the_rest(app):
    listener = app.subscribe(kinds="offer")
    for number in range(3):
        app.offer(f"t{number}")
    for event in listener:
        assert event.name == "t0"
        break
    assert told(collect(listener, 2)) == [("offer", "t1"), ("offer", "t2")]


def test_whoever_waits_is_told_that_the_pool_is_gone():
    with LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        app = maestro.connect(cluster.scheduler_address)
        listener = app.subscribe(kinds="offer")
        wait = in_thread(listener.wait)
        until(lambda: listener._told)
    with pytest.raises(maestro.PoolLostError):
        wait()
    with pytest.raises(maestro.PoolLostError):
        listener.wait(timeout=1)
    app.leave()


def test_an_app_is_gone_with_its_line(app, other):
    """Also where its Dask client is still there."""
    gone = app.subscribe(kinds="leave")
    other.offer("x", [1.0])
    other._link.loop.call_soon_threadsafe(other._link._asker.wire.close)
    (event,) = collect(gone, 1)
    assert event.app == other.name
    assert event.payload["died"]
    assert "x" not in app.pool
    with pytest.raises(maestro.PoolLostError):
        other.offer("y")


def test_ten_thousand_subscriptions(app):
    """Made, told, and gone with their app, which leaves the pool as it was."""

    async def main():
        async with maestro.connect(app.address) as guest:
            asked = [f"(step = {number % 100})" for number in range(10_000)]
            made = [guest.subscribe(each, kinds="offer", ack=True) for each in asked]
            listeners = await asyncio.gather(*made)
            have = await guest.offer("t", [1.0], attributes={"step": 7})
            meant = listeners[7::100]
            told = await asyncio.gather(*(each.poll() for each in meant))
            assert [len(events) for events in told] == [1] * 100
            assert await listeners[8].poll() == []
            for listener, events in zip(meant[1:], told[1:], strict=True):
                await listener.ack(events)
            with pytest.raises(PoolTimeoutError, match="have not acknowledged"):
                await have.withdraw(timeout=0.05)  # one of them has not
            await meant[0].ack(told[0])
            await have.withdraw()

    asyncio.run(main())
    app.offer("t", [2.0]).withdraw(timeout=300)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"selector": "(x = "}, SelectorError, r"column 6: .*\n  \(x = \n       \^"),
        ({"selector": 3}, TypeError, "selector"),
        ({"kinds": "offers"}, ValueError, "kinds: got 'offers'"),
        ({"kinds": []}, ValueError, "kinds: got none"),
        ({"when": "during"}, ValueError, "when: got 'during'"),
        ({"since": "yesterday"}, maestro.ProtocolError, "since: got 'yesterday'"),
    ],
)
def test_wrong_subscriptions_are_refused(app, wrong, error, says):
    with pytest.raises(error, match=says):
        app.subscribe(**wrong)


def test_only_the_own_subscriptions_can_be_touched(app, other):
    listener = app.subscribe(ack=True, kinds="withdraw", when="before")
    stranger = maestro.Subscription(other._link, listener._name)
    for touch in (stranger.poll, stranger.end):
        with pytest.raises(LifecycleError, match="unknown"):
            touch()
    have = other.offer("a")
    leaving = in_thread(have.withdraw)
    (event,) = listener.wait(timeout=300)
    with pytest.raises(LifecycleError, match="expected one of those that the subscription was"):
        stranger.ack(event)
    other._link.tell_soon("ack", subscription=listener._name, serials=[event.serial])
    assert "a" in other.pool, "nobody hears of that, and it changes nothing"
    listener.ack(event)
    leaving()


def test_asynchronous_apps_subscribe_as_well():
    async def main():
        async with maestro.connect() as app:
            async with await app.subscribe(kinds="offer", ack=True) as listener:
                assert await listener.wait(timeout=0.01) == []
                waiting = asyncio.create_task(listener.wait())
                have = await app.offer("a", [1.0])
                await listener.ack(await waiting)
                await have.withdraw()
                await app.offer("b")
                async for event in listener:
                    assert event.name == "b"
                    break
            assert (await app.log())[0].kind == "join"

    asyncio.run(main())
