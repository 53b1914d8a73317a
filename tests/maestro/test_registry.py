"""The pool manager's state machine, driven by the thousand without a cluster."""

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
)
from maestro.registry.members import AT_ONCE
from tests.maestro.pools import F8, HALVES, WHOLE, Pool


@pytest.fixture
def pool():
    pool = Pool()
    yield pool
    pool.check()


# Promises, one by one


def test_a_demand_may_come_before_the_offer(pool):
    pool.join("p"), pool.join("c")
    pool.seal("c", "want")
    request = pool.call(m.Demand, "c", "want")
    assert request not in pool.answers
    pool.seal("p", "have")
    pool.offer("p", "have")
    found = pool.answer(request)
    assert found["distribution"] == WHOLE.to_dict()
    assert found["nodes"] == ["node-0"]


def test_withdraw_waits_for_requirements(pool):
    pool.join("p"), pool.join("c")
    pool.seal("c", "want")
    pool.ask(m.Require, "c", "want")
    pool.seal("p", "have")
    pool.offer("p", "have")
    request = pool.call(m.Withdraw, "p", "have")
    assert request not in pool.answers
    pool.ask(m.Demand, "c", "want")
    assert request not in pool.answers, "the data is still being fetched"
    pool.ask(m.Received, "c", "want")
    assert pool.answer(request) is None
    assert not pool.held


def test_what_is_fetched_can_still_be_required(pool):
    pool.join("p"), pool.join("c")
    for want in ("want", "another"):
        pool.seal("c", want)
    pool.ask(m.Require, "c", "want")
    pool.seal("p", "have")
    pool.offer("p", "have")
    for want in ("want", "another"):  # the other one was not required
        pool.ask(m.Demand, "c", want)
        pool.ask(m.Received, "c", want, stay=True)
    request = pool.call(m.Withdraw, "p", "have")
    assert request not in pool.answers
    pool.ask(m.Demand, "c", "want")
    pool.ask(m.Received, "c", "want", stay=True)
    assert request not in pool.answers
    pool.ask(m.Retract, "c", "want")
    assert pool.answer(request) is None
    assert not pool.held


def test_a_demand_that_could_not_fetch_still_requires(pool):
    pool.join("p"), pool.join("c")
    pool.seal("c", "want")
    pool.ask(m.Require, "c", "want")
    pool.seal("p", "have")
    pool.offer("p", "have")
    pool.ask(m.Demand, "c", "want")
    pool.ask(m.Received, "c", "want", served=False)
    request = pool.call(m.Withdraw, "p", "have")
    assert request not in pool.answers
    pool.ask(m.Demand, "c", "want")
    pool.ask(m.Received, "c", "want")
    assert pool.answer(request) is None


def test_a_retracted_requirement_holds_nothing(pool):
    pool.join("p"), pool.join("c")
    pool.seal("p", "have")
    pool.offer("p", "have")
    pool.seal("c", "want")
    pool.ask(m.Require, "c", "want")
    request = pool.call(m.Withdraw, "p", "have")
    pool.ask(m.Retract, "c", "want")
    assert pool.answer(request) is None
    pool.ask(m.Dispose, "c", "want")
    pool.ask(m.Dispose, "p", "have")
    assert not pool.registry.cdos


def test_ranks_of_separate_apps_make_one_cdo(pool):
    for app in ("p0", "p1", "c"):
        pool.join(app)
    for rank in (0, 1):
        pool.seal(f"p{rank}", f"have{rank}", rank=rank, distribution=HALVES, dtype=F8)
    pool.seal("c", "want")
    request = pool.call(m.Demand, "c", "want")
    pool.offer("p1", "have1", HALVES)
    assert request not in pool.answers
    pool.offer("p0", "have0", HALVES)
    assert len(pool.answer(request)["nodes"]) == 2


def test_rounds_of_ranks_that_do_not_keep_step_never_mix(pool):
    """Rank 0 is done with round 1 and offers round 2 before rank 1 offers its round 1."""
    for app in ("p0", "p1", "c"):
        pool.join(app)
    for rank in (0, 1):
        pool.seal(f"p{rank}", f"have{rank}", rank=rank, distribution=HALVES, dtype=F8)
    first = pool.offer("p0", "have0", HALVES)["version"]
    pool.ask(m.Withdraw, "p0", "have0")  # nobody requires it
    second = pool.offer("p0", "have0", HALVES)["version"]
    pool.seal("c", "want")
    request = pool.call(m.Demand, "c", "want")
    late = pool.offer("p1", "have1", HALVES)
    assert late == {"version": first, "nodes": {}, "copies": []}
    assert request not in pool.answers
    pool.ask(m.Withdraw, "p1", "have1")
    assert pool.offer("p1", "have1", HALVES)["version"] == second
    assert pool.answer(request)["version"] == second


def test_an_app_that_joins_later_is_not_of_an_ended_round(pool):
    pool.join("p0")
    pool.seal("p0", "have0", rank=0, distribution=HALVES, dtype=F8)
    pool.offer("p0", "have0", HALVES)
    pool.ask(m.Withdraw, "p0", "have0")
    pool.join("p1")
    pool.seal("p1", "have1", rank=1, distribution=HALVES, dtype=F8)
    second = pool.offer("p1", "have1", HALVES)["version"]
    assert pool.offer("p0", "have0", HALVES)["version"] == second


def test_withdraw_of_a_rank_waits_while_the_rest_is_awaited(pool):
    for app in ("p0", "p1", "c"):
        pool.join(app)
    for rank in (0, 1):
        pool.seal(f"p{rank}", f"have{rank}", rank=rank, distribution=HALVES, dtype=F8)
    pool.seal("c", "want")
    pool.ask(m.Require, "c", "want")
    pool.offer("p0", "have0", HALVES)
    request = pool.call(m.Withdraw, "p0", "have0")
    assert request not in pool.answers
    pool.offer("p1", "have1", HALVES)
    pool.ask(m.Demand, "c", "want")
    pool.ask(m.Received, "c", "want")
    assert pool.answer(request) is None
    pool.ask(m.Withdraw, "p1", "have1")


def test_a_name_in_the_pool_cannot_be_offered_again(pool):
    pool.join("p"), pool.join("q")
    pool.seal("p", "one")
    pool.offer("p", "one")
    pool.seal("q", "two")
    with pytest.raises(AlreadyOfferedError, match="'t': it is offered already, by p"):
        pool.offer("q", "two")
    pool.ask(m.Withdraw, "p", "one")
    pool.offer("q", "two")


def test_a_rank_cannot_be_offered_twice(pool):
    pool.join("p"), pool.join("q")
    for app, handle in (("p", "one"), ("q", "two")):
        pool.seal(app, handle, rank=1, distribution=HALVES, dtype=F8)
    pool.offer("p", "one", HALVES)
    with pytest.raises(AlreadyOfferedError, match="'t': rank 1 is offered already, by p"):
        pool.offer("q", "two", HALVES)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"distribution": Distribution((9,))}, r"shape \(9,\) was given, expected \(8,\)"),
        ({"dtype": "'<f4'"}, "dtype float32 was given, expected float64"),
        ({"step": 2}, "attribute 'step' was given as 2|attribute 'step' 2 was given, expected 1"),
    ],
)
def test_handles_that_disagree_are_refused(pool, other, what):
    pool.join("p")
    pool.seal("p", "one", distribution=WHOLE, dtype=F8, step=1)
    with pytest.raises(InconsistentError, match=f"'t': {what}"):
        pool.seal("p", "two", **other)
    assert set(pool.registry.handles) == {"one"}


def test_ranks_offered_over_different_distributions_are_refused(pool):
    pool.join("p")
    pool.seal("p", "one", rank=0, distribution=HALVES, dtype=F8)
    thirds = Distribution((8,), (3,))
    pool.seal("p", "two", rank=1, distribution=thirds, dtype=F8)
    pool.offer("p", "one", HALVES)
    with pytest.raises(InconsistentError, match=r"over 3 ranks: .* expected .* over 2 ranks"):
        pool.offer("p", "two", thirds)


def test_what_does_not_fit_is_refused_before_anything_is_allocated():
    pool = Pool(nodes=1, limit=100)
    pool.join("p")
    pool.seal("p", "one")
    with pytest.raises(PoolFullError, match=r"'t': no room for 1 parts of 800 bytes.*100 of 100"):
        pool.offer("p", "one", Distribution((100,)))
    pool.check()
    pool.offer("p", "one")
    pool.check()


def test_an_offer_waits_for_room_and_is_served_in_turn():
    pool = Pool(nodes=1, limit=100)
    pool.join("p")
    for name in "tuv":
        pool.seal("p", name, name)
    pool.offer("p", "t")
    waiting = [
        pool.call(m.Offer, "p", name, dtype=F8, distribution=WHOLE, wait=True) for name in "uv"
    ]
    assert not any(request in pool.answers for request in waiting)
    pool.ask(m.Withdraw, "p", "t")
    pool.answer(waiting[0])
    assert waiting[1] not in pool.answers
    pool.check()
    pool.send(m.Expired(waiting[1], "v", 3.0))
    with pytest.raises(PoolFullError, match=r"'v': no room .*; the most is held by 'u' of p: 64"):
        pool.answer(waiting[1])
    pool.check()


def test_an_offer_of_which_only_some_fits_waits_in_peace():
    pool = Pool(nodes=1, limit=40)
    pool.join("p")
    for name in "tu":
        pool.seal("p", name, name)
    request = pool.call(m.Offer, "p", "t", dtype=F8, distribution=HALVES, wait=True)  # 2 x 32
    assert request not in pool.answers
    pool.send(m.NodeJoined("node-8", 10))
    assert request not in pool.answers
    pool.send(m.NodeJoined("node-9", 32))
    assert set(pool.answer(request)["nodes"].values()) == {"node-0", "node-9"}


def test_whoever_waits_for_room_and_leaves_waits_no_more():
    pool = Pool(nodes=0)
    pool.join("p")
    pool.join("q")
    for app in "pq":
        pool.seal(app, app, app)
    first, second = (
        pool.call(m.Offer, app, app, dtype=F8, distribution=WHOLE, wait=True) for app in "pq"
    )
    pool.send(m.AppLost("p"))
    with pytest.raises(PoolLostError):
        pool.answer(first)
    pool.send(m.NodeJoined("node-7", 100))
    assert pool.answer(second)["nodes"] == {0: "node-7"}


def test_a_pool_without_nodes_says_so():
    pool = Pool(nodes=0)
    pool.join("p")
    pool.seal("p", "one")
    with pytest.raises(PoolFullError, match="no node has joined"):
        pool.offer("p", "one")


def test_a_demand_that_expires_says_which_ranks_are_missing(pool):
    pool.join("p"), pool.join("c")
    pool.seal("p", "have", rank=1, distribution=HALVES, dtype=F8)
    pool.offer("p", "have", HALVES)
    pool.seal("c", "want")
    request = pool.call(m.Demand, "c", "want")
    pool.send(m.Expired(request, "want", 3.0))
    with pytest.raises(
        PoolTimeoutError, match=r"'t': not there after 3 s: ranks \[0\] of 2 are miss"
    ):
        pool.answer(request)
    assert not pool.registry.cdos["t"].pending


def test_a_withdraw_that_expires_leaves_the_cdo_in_the_pool(pool):
    pool.join("p"), pool.join("c")
    pool.seal("p", "have")
    pool.offer("p", "have")
    pool.seal("c", "want")
    pool.ask(m.Require, "c", "want")
    request = pool.call(m.Withdraw, "p", "have")
    pool.send(m.Expired(request, "have", 3.0))
    with pytest.raises(PoolTimeoutError, match="still required by c"):
        pool.answer(request)
    assert [words["name"] for words in pool.ask(m.List, "p")["cdos"]] == ["t"]


def test_a_dead_producer_ends_the_wait_for_its_unfinished_cdo(pool):
    for app in ("p0", "c"):
        pool.join(app)
    pool.seal("p0", "have0", rank=0, distribution=HALVES, dtype=F8)
    pool.offer("p0", "have0", HALVES)
    pool.seal("c", "want")
    request = pool.call(m.Demand, "c", "want")
    pool.send(m.AppLost("p0"))
    with pytest.raises(
        DataLostError, match=r"'t': app 'p0' died while it offered ranks \[0\] of 2"
    ):
        pool.answer(request)
    assert not pool.held


def test_what_a_dead_producer_had_finished_is_served_to_those_who_required_it(pool):
    for app in ("p", "c"):
        pool.join(app)
    pool.seal("c", "want")
    pool.ask(m.Require, "c", "want")
    pool.seal("p", "have")
    pool.offer("p", "have")
    pool.send(m.AppLost("p"))
    assert pool.ask(m.Demand, "c", "want")["nodes"] == ["node-0"]
    pool.ask(m.Received, "c", "want")
    assert not pool.held
    assert pool.ask(m.List, "c")["cdos"] == []


def test_a_dead_consumer_holds_nothing(pool):
    for app in ("p", "c"):
        pool.join(app)
    pool.seal("p", "have")
    pool.offer("p", "have")
    pool.seal("c", "want")
    pool.ask(m.Demand, "c", "want")
    request = pool.call(m.Withdraw, "p", "have")
    pool.send(m.AppLost("c"))
    assert pool.answer(request) is None


def test_a_lost_node_is_named_to_everyone_who_wanted_what_it_held(pool):
    for app in ("p", "c", "d"):
        pool.join(app)
    for app in ("c", "d"):
        pool.seal(app, f"want-{app}")
        pool.ask(m.Require, app, f"want-{app}")
    pool.seal("p", "have")
    pool.offer("p", "have")
    withdraw = pool.call(m.Withdraw, "p", "have")
    pool.held.clear()
    pool.send(m.NodeLost("node-0"))
    assert pool.answer(withdraw) is None
    for app in ("c", "d"):
        with pytest.raises(DataLostError, match=r"'t': ranks \[0\] were lost with node node-0"):
            pool.ask(m.Demand, app, f"want-{app}")
    again = pool.call(m.Demand, "c", "want-c")
    pool.offer("p", "have")
    assert pool.answer(again)["nodes"] == ["node-1"]


def test_calls_of_strangers_are_refused(pool):
    with pytest.raises(PoolLostError, match="'nobody' is not connected"):
        pool.ask(m.List, "nobody")
    pool.join("p"), pool.join("q")
    pool.seal("p", "one")
    with pytest.raises(LifecycleError, match="handle 'one' is unknown"):
        pool.ask(m.Require, "q", "one")


@pytest.mark.parametrize("died", [False, True])
def test_an_app_that_had_much_leaves_in_turns(died):
    """So that the manager answers others meanwhile: a handle takes it some 50 us."""
    pool = Pool(limit=1 << 20)
    pool.join("p"), pool.join("c")
    many = 2 * AT_ONCE + 1
    for number in range(many):
        pool.seal("p", f"h{number}", f"n{number}")
        pool.offer("p", f"h{number}")
    pool.seal("c", "want", "n0")
    pool.ask(m.Require, "c", "want")
    leaving = next(pool.requests)
    pool.send(m.LineLost("p") if died else m.Leave(leaving, "p"))
    for turn in (1, 2):
        assert len(pool.registry.handles) == 1 + many - turn * AT_ONCE
        assert leaving not in pool.answers
        pool.check()
        with pytest.raises(PoolLostError, match="'p' is not connected"):
            pool.ask(m.List, "p")
        pool.send(m.LineLost("p"))  # nothing more comes of that
        assert pool.registry.deadline is not None
        pool.send(m.Tick())
    assert (leaving in pool.answers) is not died
    assert list(pool.registry.apps) == ["c"]
    assert pool.registry.deadline is None
    assert pool.ask(m.Demand, "c", "want")["nodes"] == ["node-0"], "it was kept"
    pool.ask(m.Received, "c", "want")
    assert not pool.held
