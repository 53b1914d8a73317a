"""What goes together, decided by the pool manager: groups, and CDOs that depend on others."""

from __future__ import annotations

import pytest

from layouts import Distribution
from maestro import messages as m
from maestro.errors import (
    AlreadyOfferedError,
    DataLostError,
    InconsistentError,
    LifecycleError,
    PoolFullError,
    PoolLostError,
    PoolTimeoutError,
    ProtocolError,
)
from tests.maestro.pools import F8, HALVES, WHOLE, Pool


@pytest.fixture
def pool():
    pool = Pool()
    for app in ("p", "q", "c", "d"):
        pool.join(app)
    yield pool
    pool.check()


def names(pool):
    return sorted(words["name"] for words in pool.ask(m.List, "c")["cdos"])


def offer_pair(pool, app="p"):
    """Offer group g of t and u."""
    pool.group(app, "g", "g", [("t", "t"), ("u", "u")])
    return pool.offer_group(app, "g")


# Groups


def test_members_come_with_their_group(pool):
    pool.group("c", "want", "g")
    request = pool.call(m.Demand, "c", "want")
    offer_pair(pool)
    found = pool.answer(request)
    assert (found["group"], found["needs"]) == (True, ["t", "u"])
    assert {name: each["distribution"] for name, each in found["along"].items()} == {
        "t": WHOLE.to_dict(),
        "u": WHOLE.to_dict(),
    }
    assert names(pool) == ["g", "t", "u"]


def test_a_group_is_offered_whole_or_not_at_all():
    pool = Pool(nodes=1, limit=100)  # room for one of two
    pool.join("p")
    pool.group("p", "g", "g", [("t", "t"), ("u", "u")])
    before = str(pool.registry.ledger), pool.registry.serial
    with pytest.raises(PoolFullError, match="'u': no room for 1 parts of 64 bytes"):
        pool.offer_group("p", "g")
    assert (str(pool.registry.ledger), pool.registry.serial) == before
    assert all(known.distribution is None for known in pool.registry.handles.values())
    pool.check()
    offers = tuple(pool.offers("p", "g"))
    request = pool.call(m.OfferGroup, "p", "g", offers=offers, wait=True)
    assert request not in pool.answers
    pool.check()
    pool.send(m.NodeJoined("node-1", 100))
    pool.answer(request)
    pool.check()


def test_a_group_that_finds_no_room_in_time_says_so():
    pool = Pool(nodes=1, limit=100)
    pool.join("p")
    pool.group("p", "g", "g", [("t", "t"), ("u", "u")])
    request = pool.call(m.OfferGroup, "p", "g", offers=tuple(pool.offers("p", "g")), wait=True)
    pool.send(m.Expired(request, "g", 3.0))
    with pytest.raises(PoolFullError, match="'u': no room"):
        pool.answer(request)


def test_a_member_that_is_in_the_pool_already_keeps_the_others_out(pool):
    pool.seal("q", "other", "u")
    pool.offer("q", "other")
    pool.group("p", "g", "g", [("t", "t"), ("u", "u")])
    with pytest.raises(AlreadyOfferedError, match="'u': it is offered already, by q"):
        pool.offer_group("p", "g")
    assert names(pool) == ["u"]


def test_an_offer_that_could_not_be_brought_is_taken_back_whole(pool):
    pool.group("p", "g", "g", [("t", "t"), ("u", "u")])
    pool.offer_group("p", "g", store=False)
    pool.ask(m.Abort, "p", "g")
    assert names(pool) == []
    assert not pool.held
    pool.offer_group("p", "g")
    assert names(pool) == ["g", "t", "u"]


def test_a_group_leaves_as_one(pool):
    """One member is wanted: all stay."""
    offer_pair(pool)
    pool.seal("c", "want", "u")
    pool.ask(m.Require, "c", "want")
    request = pool.call(m.Withdraw, "p", "g")
    assert request not in pool.answers
    assert len(pool.held) == 2
    pool.ask(m.Demand, "c", "want")
    pool.ask(m.Received, "c", "want")
    assert pool.answer(request) is None
    assert not pool.held
    pool.ask(m.Dispose, "p", "g")
    assert "p" not in {known.app for known in pool.registry.handles.values()}


def test_whoever_requires_a_group_keeps_its_members(pool):
    pool.group("c", "want", "g")
    pool.ask(m.Require, "c", "want")
    offer_pair(pool)
    request = pool.call(m.Withdraw, "p", "g")
    assert request not in pool.answers
    assert set(pool.ask(m.Demand, "c", "want")["along"]) == {"t", "u"}
    pool.ask(m.Received, "c", "want")
    assert pool.answer(request) is None


def test_a_withdrawal_that_expires_leaves_the_whole_group_in_the_pool(pool):
    offer_pair(pool)
    pool.seal("c", "want", "u")
    pool.ask(m.Require, "c", "want")
    request = pool.call(m.Withdraw, "p", "g")
    pool.seal("d", "late", "t")
    waiting = pool.call(m.Demand, "d", "late")  # it is leaving: this is for the next one
    assert waiting not in pool.answers
    pool.send(m.Expired(request, "g", 3.0))
    with pytest.raises(PoolTimeoutError, match="'g': not withdrawn after 3 s: still required by c"):
        pool.answer(request)
    assert names(pool) == ["g", "t", "u"]
    assert pool.answer(waiting)["version"] is not None, "and serves those who came meanwhile"
    again = pool.call(m.Withdraw, "p", "g")
    pool.ask(m.Retract, "c", "want")
    pool.ask(m.Received, "d", "late")
    assert pool.answer(again) is None


def test_a_member_does_not_leave_alone(pool):
    offer_pair(pool)
    with pytest.raises(
        LifecycleError, match="'t': withdraw was called while 'g', which is a group"
    ):
        pool.ask(m.Withdraw, "p", "t")
    with pytest.raises(LifecycleError, match="'t': dispose was called, expected the group 'g'"):
        pool.ask(m.Dispose, "p", "t")
    assert names(pool) == ["g", "t", "u"]


def test_a_group_of_ones_own_choice_needs_nobody_to_offer_it(pool):
    pool.group("c", "want", "mine", [("want-t", "t"), ("want-v", "v")])
    pool.ask(m.Require, "c", "want")
    request = pool.call(m.Demand, "c", "want")
    offer_pair(pool)
    pool.seal("q", "v", "v")
    assert request not in pool.answers
    pool.offer("q", "v")
    found = pool.answer(request)
    assert set(found["along"]) == {"t", "v"}
    withdrawals = pool.call(m.Withdraw, "p", "g"), pool.call(m.Withdraw, "q", "v")
    assert not any(request in pool.answers for request in withdrawals)
    pool.ask(m.Received, "c", "want")
    assert [pool.answer(request) for request in withdrawals] == [None, None]


def test_a_group_that_comes_late_brings_along_what_is_leaving_with_it(pool):
    pool.seal("p", "t0", "t", 0, HALVES, F8)
    pool.group("p", "g0", "g", [("t0", None), ("v", "v")])
    pool.seal("q", "t1", "t", 1, HALVES, F8)
    pool.group("q", "g1", "g", [("t1", None)])
    pool.group("c", "want", "mine", [("want-g", "g"), ("want-v", "v")])
    pool.ask(m.Require, "c", "want")
    pool.offer_group("p", "g0", {"t0": HALVES})
    withdrawals = [pool.call(m.Withdraw, "p", "g0")]
    pool.group("d", "also", "ours", [("also-g", "g"), ("also-v", "v")])
    request = pool.call(m.Demand, "d", "also")
    pool.offer_group("q", "g1", {"t1": HALVES})
    assert set(pool.answer(request)["along"]) == {"g", "t", "v"}
    withdrawals.append(pool.call(m.Withdraw, "q", "g1"))
    for app, handle in (("d", "also"), ("c", "want")):
        assert not any(each in pool.answers for each in withdrawals)
        pool.ask(m.Demand, app, handle)
        pool.ask(m.Received, app, handle)
    assert [pool.answer(each) for each in withdrawals] == [None, None]


def test_groups_of_groups(pool):
    pool.group("p", "inner", "inner", [("t", "t"), ("u", "u")])
    pool.seal("p", "v", "v")
    pool.group("p", "outer", "outer", [("inner", None), ("v", None)])
    pool.offer_group("p", "outer")
    assert names(pool) == ["inner", "outer", "t", "u", "v"]
    pool.group("c", "want", "outer")
    found = pool.ask(m.Demand, "c", "want")
    assert found["needs"] == ["inner", "v"]
    assert found["along"]["inner"]["needs"] == ["t", "u"]
    assert set(found["along"]) == {"inner", "t", "u", "v"}
    request = pool.call(m.Withdraw, "p", "outer")
    assert request not in pool.answers
    pool.ask(m.Received, "c", "want")
    assert pool.answer(request) is None
    assert names(pool) == []


def test_ranks_of_separate_apps_make_one_group(pool):
    for rank, app in enumerate("pq"):
        pool.seal(app, f"t{rank}", "t", rank, HALVES, F8)
        pool.group(app, f"g{rank}", "g", [(f"t{rank}", None)])
    pool.group("c", "want", "g")
    request = pool.call(m.Demand, "c", "want")
    pool.offer_group("p", "g0", {"t0": HALVES})
    assert names(pool) == []
    pool.offer_group("q", "g1", {"t1": HALVES})
    assert len(pool.answer(request)["along"]["t"]["nodes"]) == 2
    withdraw = pool.call(m.Withdraw, "p", "g0")
    pool.ask(m.Received, "c", "want")
    assert pool.answer(withdraw) is None
    pool.ask(m.Withdraw, "q", "g1")
    assert not pool.held
    for app, group in (("p", "g0"), ("q", "g1")):
        pool.ask(m.Dispose, app, group)


def test_a_group_spread_otherwise_is_refused(pool):
    for rank, app in enumerate("pq"):
        pool.seal(app, f"t{rank}", "t", rank, Distribution((8,), (2 + rank,)), F8)
        pool.group(app, f"g{rank}", "g", [(f"t{rank}", None)])
    pool.offer_group("p", "g0", {"t0": HALVES})
    with pytest.raises(InconsistentError, match=r"'t': offered as .* over 3 ranks.* expected"):
        pool.offer_group("q", "g1", {"t1": Distribution((8,), (3,))})


def test_members_of_others_are_refused(pool):
    pool.seal("q", "other", "t")
    for member, who in (("other", "of app 'q'"), ("nobody", "unknown")):
        with pytest.raises(InconsistentError, match=f"'g': its member '{member}' is {who}"):
            pool.group("p", "g", "g", [("u", "u"), (member, None)])
    assert set(pool.registry.handles) == {"other"}, "nothing of a group that is refused stays"
    pool.group("p", "g", "g", [("u", "u")])
    with pytest.raises(LifecycleError, match="'h': its member 'u' is in group 'g' already"):
        pool.group("p", "h", "h", [("u", None)])


def test_a_group_that_is_not_offered_as_it_was_sealed_is_refused(pool):
    pool.group("p", "g", "g", [("t", "t"), ("u", "u")])
    offers = tuple(pool.offers("p", "g"))
    for wrong in (offers[:-1], offers[::-1], (*offers, offers[0]), ()):
        with pytest.raises(ProtocolError, match=r"'g': . offers were given, expected those of"):
            pool.ask(m.OfferGroup, "p", "g", offers=wrong)
    with pytest.raises(ProtocolError, match="'t'"):
        pool.ask(m.OfferGroup, "p", "t", offers=offers[:1])


def test_an_app_that_dies_with_a_group_serves_those_who_required_it(pool):
    pool.group("c", "want", "g")
    pool.ask(m.Require, "c", "want")
    offer_pair(pool)
    request = pool.call(m.Withdraw, "p", "g")
    pool.send(m.AppLost("p"))
    with pytest.raises(PoolLostError):
        pool.answer(request)
    assert set(pool.ask(m.Demand, "c", "want")["along"]) == {"t", "u"}
    pool.ask(m.Received, "c", "want")
    assert not pool.held
    assert names(pool) == []


def test_an_app_that_dies_in_the_middle_of_a_group_ends_the_wait_for_it(pool):
    pool.group("c", "want", "g")
    request = pool.call(m.Demand, "c", "want")
    pool.group("p", "g", "g", [("t", "t"), ("u", "u")])
    pool.offer_group("p", "g", store=False)
    pool.send(m.AppLost("p"))
    with pytest.raises(DataLostError, match="'g': app 'p' died while"):
        pool.answer(request)
    assert not pool.held


def test_who_wants_a_group_hears_of_a_member_that_is_lost(pool):
    pool.group("c", "want", "g")
    pool.ask(m.Require, "c", "want")
    offer_pair(pool)
    node = next(node for node, version, _ in pool.held)
    pool.held = {key for key in pool.held if key[0] != node}
    pool.send(m.NodeLost(node))
    with pytest.raises(DataLostError, match=f"ranks .0. were lost with node {node}"):
        pool.ask(m.Demand, "c", "want")


# Dependencies


def test_a_demand_brings_along_what_is_needed_of_whomever(pool):
    pool.seal("p", "rain", "rain", depends=("grid",))
    pool.offer("p", "rain")
    pool.seal("c", "want", "rain")
    request = pool.call(m.Demand, "c", "want")
    assert request not in pool.answers
    pool.send(m.Expired(request, "want", 3.0))
    with pytest.raises(PoolTimeoutError, match=r"'rain': .* it needs 'grid': nobody offers it"):
        pool.answer(request)
    request = pool.call(m.Demand, "c", "want")
    pool.seal("q", "grid", "grid", depends=("earth",))
    pool.offer("q", "grid")
    pool.seal("q", "earth", "earth")
    assert request not in pool.answers
    pool.offer("q", "earth")
    assert set(pool.answer(request)["along"]) == {"grid", "earth"}


def test_what_is_needed_does_not_leave_before(pool):
    pool.seal("q", "grid", "grid")
    pool.offer("q", "grid")
    pool.seal("p", "rain", "rain", depends=("grid",))
    pool.offer("p", "rain")
    request = pool.call(m.Withdraw, "q", "grid")
    assert request not in pool.answers
    pool.seal("c", "want", "rain")
    assert set(pool.ask(m.Demand, "c", "want")["along"]) == {"grid"}, "it is still to be had"
    withdraw = pool.call(m.Withdraw, "p", "rain")
    assert request not in pool.answers
    pool.ask(m.Received, "c", "want")
    assert pool.answer(withdraw) is None
    assert pool.answer(request) is None


def test_nobody_waits_for_oneself(pool):
    for name, depends in (("grid", ()), ("rain", ("grid",))):
        pool.seal("p", name, name, depends=depends)
        pool.offer("p", name)
    with pytest.raises(LifecycleError, match=r"'grid': withdraw .* 'rain', which depends on it"):
        pool.ask(m.Withdraw, "p", "grid")
    pool.ask(m.Withdraw, "p", "rain")
    pool.ask(m.Withdraw, "p", "grid")


def test_an_app_that_leaves_takes_a_chain_with_it_in_any_order(pool):
    length = 3000  # deeper than Python's stack
    for k in range(length):
        pool.seal("p", f"h{k}", f"n{k}", depends=(f"n{k + 1}",) if k + 1 < length else ())
        pool.ask(m.Offer, "p", f"h{k}", dtype=None, distribution=None)
        pool.ask(m.Stored, "p", f"h{k}")
    pool.seal("c", "want", "n0")
    assert len(pool.ask(m.Demand, "c", "want")["along"]) == length - 1
    pool.leave("p")
    assert len(names(pool)) > 1
    pool.ask(m.Received, "c", "want")
    assert names(pool) == []
    assert set(pool.registry.cdos) == {"n0"}


@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_cycles_are_refused_and_named(pool, length):
    for k in range(length - 1):
        pool.seal("pq"[k % 2], f"h{k}", f"n{k}", depends=(f"n{k + 1}",))
    way = " > ".join(repr(f"n{k % length}") for k in range(length - 1, 2 * length))
    with pytest.raises(InconsistentError, match=f"'n{length - 1}': cyclic dependencies: {way};"):
        pool.seal("p", "last", f"n{length - 1}", depends=("x", "n0"))
    assert "last" not in pool.registry.handles


def test_groups_that_contain_each_other_by_name_are_refused(pool):
    pool.group("p", "g", "g", [("h", "h")])
    with pytest.raises(InconsistentError, match="'h': cyclic dependencies: 'h' > 'g' > 'h'"):
        pool.group("q", "h2", "h", [("g2", "g")])


def test_who_demands_may_say_what_it_needs_too(pool):
    pool.seal("p", "rain", "rain")
    pool.offer("p", "rain")
    pool.seal("c", "want", "rain", depends=("grid",))
    pool.ask(m.Require, "c", "want")
    request = pool.call(m.Demand, "c", "want")
    pool.seal("q", "grid", "grid")
    pool.offer("q", "grid")
    assert set(pool.answer(request)["along"]) == {"grid"}
    withdraw = pool.call(m.Withdraw, "q", "grid")
    assert withdraw not in pool.answers
    pool.ask(m.Received, "c", "want")
    assert pool.answer(withdraw) is None
    pool.seal("d", "other", "rain")
    assert "along" not in pool.ask(m.Demand, "d", "other"), "others need not"


def test_who_wants_it_alone_does_not_wait_for_what_goes_with_it(pool):
    pool.seal("p", "rain", "rain", depends=("grid",))
    pool.offer("p", "rain")
    pool.seal("c", "want", "rain")
    found = pool.ask(m.Demand, "c", "want", along=False)
    assert found["needs"] == ["grid"]
    assert "along" not in found
    pool.seal("q", "grid", "grid")
    pool.offer("q", "grid")
    pool.ask(m.Received, "c", "want")
    told = [event.name for event in pool.registry.bulletin.subscriptions.log.since(1)
            if event.kind in ("demand", "transport-begin", "transport-end")]  # fmt: skip
    assert told == ["rain"] * 3, "nothing is told of what was not wanted"


def test_what_is_pushed_is_told_to_those_who_require_it(pool):
    pool.seal("c", "early", "t")
    pool.ask(m.Require, "c", "early")
    pool.seal("d", "late", "t")
    pool.ask(m.Seal, "p", "have", "t", rank=None, dtype=F8, distribution=WHOLE, push=True)
    assert m.PUSHED not in pool.told
    pool.offer("p", "have")
    assert pool.told.pop(m.PUSHED) == [b"early\n"]
    pool.ask(m.Require, "d", "late")
    assert pool.told.pop(m.PUSHED) == [b"late\n"]


def test_subscribers_see_groups_and_their_members(pool):
    seen = pool.registry.bulletin.subscriptions
    groups = "(.maestro.core.cdo.isgroup = true)"
    words = {"kinds": ["offer", "demand"], "ack": False, "when": "after", "own": True}
    pool.ask(m.Subscribe, "d", subscription="s", selector=groups, since=None, **words)
    pool.ask(m.Subscribe, "d", subscription="all", selector=None, since=None, **words)
    offer_pair(pool)
    pool.group("c", "want", "g")
    pool.ask(m.Demand, "c", "want")
    told = [(event.kind, event.name, event.app) for event in seen.poll("s")]
    assert told == [("offer", "g", "p"), ("demand", "g", "c")]
    events = seen.poll("all")
    assert [(event.kind, event.name) for event in events] == [
        *(("offer", name) for name in "tug"),
        *(("demand", name) for name in "gtu"),
    ]
    assert events[2].attributes[".maestro.core.cdo.group-members"] == ["t", "u"]


def test_who_holds_the_offer_of_a_member_holds_that_of_the_group(pool):
    words = {"kinds": ["offer"], "ack": True, "when": "before", "own": True, "since": None}
    select = '(.maestro.core.cdo.name = "u")'
    pool.ask(m.Subscribe, "d", subscription="s", selector=select, **words)
    pool.group("p", "g", "g", [("t", "t"), ("u", "u")])
    offers = tuple(pool.offers("p", "g"))
    request = pool.call(m.OfferGroup, "p", "g", offers=offers)
    assert request not in pool.answers
    (event,) = pool.registry.bulletin.subscriptions.poll("s")
    pool.ask(m.Ack, "d", subscription="s", serials=[event.serial])
    pool.answer(request)
    pool.ask(m.Stored, "p", "g")
    assert names(pool) == ["g", "t", "u"]
