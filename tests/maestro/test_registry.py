"""The pool manager's state machine, driven by the thousand without a cluster."""

from __future__ import annotations

import copy
import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

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
from maestro.lifecycle import TURNS
from maestro.registry import Registry
from maestro.versions import Stage

WHOLE = Distribution((8,))
HALVES = Distribution((8,), (2,))
F8 = "'<f8'"


class Pool:
    """A registry with apps that talk to it, and nodes that hold what they are told."""

    def __init__(self, nodes=2, limit=1000):
        self.registry = Registry()
        self.requests = itertools.count()
        self.answers = {}  # request -> Reply or Refuse
        self.held = set()  # (node, version, rank) whose bytes a node holds
        for number in range(nodes):
            self.send(m.NodeJoined(f"node-{number}", limit))

    def send(self, message):
        for instruction in self.registry.handle(message):
            if isinstance(instruction, m.Free):
                for rank in instruction.ranks:
                    self.held.discard((instruction.node, instruction.version, rank))
            else:
                assert instruction.request not in self.answers, "answered twice"
                self.answers[instruction.request] = instruction

    def call(self, kind, app, *args, **kwargs):
        """Make a call; return its request."""
        request = next(self.requests)
        self.send(kind(request, app, *args, **kwargs))
        return request

    def ask(self, kind, app, *args, **kwargs):
        """Make a call that is answered at once; return the value or raise the error."""
        return self.answer(self.call(kind, app, *args, **kwargs))

    def answer(self, request):
        answer = self.answers[request]
        if isinstance(answer, m.Refuse):
            raise answer.error
        return answer.value

    def join(self, app):
        self.ask(m.Join, app, client=app, workflow="w", component="c")

    def seal(self, app, handle, name="t", rank=None, distribution=None, dtype=None, **attributes):
        self.ask(
            m.Seal,
            app,
            handle,
            name=name,
            rank=rank,
            dtype=dtype,
            distribution=distribution,
            attributes=attributes,
        )

    def offer(self, app, handle, distribution=WHOLE, store=True):
        answer = self.ask(m.Offer, app, handle, dtype=F8, distribution=distribution)
        for rank, node in answer["nodes"].items():
            self.held.add((node, answer["version"], rank))
        if store:
            self.ask(m.Stored, app, handle)
        return answer

    def check(self):
        """What holds at any time."""
        registry = self.registry
        slots = {
            (slot.node, version.serial, rank): slot.size
            for cdo in registry.cdos.values()
            for version in cdo.versions()
            for rank, slot in version.slots.items()
            if slot.node is not None
        }
        assert set(slots) == self.held, "nodes hold what the registry knows, no more, no less"
        for address, node in registry.ledger.nodes.items():
            used = sum(size for (where, _, _), size in slots.items() if where == address)
            assert node.used == used <= node.limit
        for cdo in registry.cdos.values():
            stages = [version.stage for version in cdo.versions()]
            assert sum(s in (Stage.FORMING, Stage.POOLED) for s in stages) <= 1
            if cdo.current is not None and cdo.current.stage is Stage.POOLED:
                assert not cdo.waiting, "nobody waits for what is there"
                assert cdo.current.complete
            assert set(cdo.waiting.values()) <= cdo.pending <= set(cdo.handles)
            for version in cdo.versions():
                assert version.requirements <= set(cdo.handles)
                if version.stage is Stage.OVER:
                    assert not version.withdrawing
                    assert not version.requirements
        for handle, known in registry.handles.items():
            assert registry.cdos[known.name].handles[handle] is known
            assert known.app in registry.apps


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
    assert late == {"version": first, "nodes": {}}
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
    answer = pool.answer(waiting[0])
    assert waiting[1] not in pool.answers
    pool.held.add(("node-0", answer["version"], 0))
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


# All of them at once


class Machine(RuleBasedStateMachine):
    """Apps that make legal calls in any order, die at any moment, and nodes that come and go."""

    def __init__(self):
        super().__init__()
        self.pool = Pool(nodes=2, limit=40)  # room for one CDO at a time
        self.numbers = itertools.count()
        self.states = {}  # handle -> state, as its app sees it
        self.apps = {}  # handle -> app
        self.layouts = {}
        self.open = {}  # request -> (handle, call)
        self.fetching = {}  # handle -> version
        self.back = {}  # handle -> state to which a refused call leads back
        self.offered = {}  # handle -> version
        self.to_store = []  # handles whose offer has just been granted
        self.abort_next = False

    def turn(self, data, call):
        """A handle whose turn it is."""
        able = sorted(h for h, state in self.states.items() if state in TURNS[call][0])
        return data.draw(st.sampled_from(able)) if able else None

    def make(self, kind, handle, call, **kwargs):
        request = self.pool.call(kind, self.apps[handle], handle, **kwargs)
        self.states[handle] = f"in {call}"
        self.open[request] = (handle, call)
        self.settle()
        return self.pool.answers.get(request)

    def settle(self):
        """Let apps see the answers that have come."""
        for request, (handle, call) in list(self.open.items()):
            answer = self.pool.answers.get(request)
            if answer is None:
                assert call in ("demand", "withdraw", "offer"), f"{call} was not answered"
                assert call != "offer" or request in self.pool.registry.queue
                continue
            del self.open[request]
            if handle not in self.states:
                continue
            refused = isinstance(answer, m.Refuse)
            self.states[handle] = self.back[handle] if refused else TURNS[call][1]
            if call == "demand" and not refused:
                version = answer.value["version"]
                for rank, node in enumerate(answer.value["nodes"]):
                    assert (node, version, rank) in self.pool.held
                self.fetching[handle] = version
            if call == "offer" and not refused:
                self.offered[handle] = answer.value["version"]
                for rank, node in answer.value["nodes"].items():
                    self.pool.held.add((node, answer.value["version"], rank))
                self.to_store.append(handle)
            if call == "withdraw" and not refused:
                assert self.offered[handle] not in self.fetching.values()
        while self.to_store:
            handle = self.to_store.pop()
            if self.abort_next:
                self.pool.ask(m.Abort, self.apps[handle], handle)
                self.states[handle] = self.back[handle]
            else:
                self.pool.ask(m.Stored, self.apps[handle], handle)
            self.settle()

    @rule(data=st.data())
    def join(self, data):
        if len(self.pool.registry.apps) < 4:
            self.pool.join(f"app-{next(self.numbers)}")

    @precondition(lambda self: self.pool.registry.apps)
    @rule(data=st.data(), name=st.sampled_from("tu"), rank=st.sampled_from([None, 0, 1]))
    def seal(self, data, name, rank):
        app = data.draw(st.sampled_from(sorted(self.pool.registry.apps)))
        handle = f"h{next(self.numbers)}"
        self.pool.seal(app, handle, name, rank, HALVES, F8)
        self.states[handle], self.apps[handle] = "sealed", app

    @rule(data=st.data(), abort=st.sampled_from([False, False, False, True]), wait=st.booleans())
    def offer(self, data, abort, wait):
        handle = self.turn(data, "offer")
        if handle is None:
            return
        self.back[handle] = self.states[handle]
        self.abort_next = abort
        snapshot = _snapshot(self.pool.registry)
        answer = self.make(m.Offer, handle, "offer", dtype=F8, distribution=HALVES, wait=wait)
        if isinstance(answer, m.Refuse):
            assert _snapshot(self.pool.registry) == snapshot, "a refused call changes nothing"

    @rule(data=st.data(), call=st.sampled_from(["withdraw", "require", "retract", "demand"]))
    def simple(self, data, call):
        handle = self.turn(data, call)
        if handle is not None and handle not in self.fetching:
            self.back[handle] = self.states[handle]
            self.make(getattr(m, call.capitalize()), handle, call)

    @precondition(lambda self: self.fetching)
    @rule(data=st.data(), served=st.booleans())
    def receive(self, data, served):
        handle = data.draw(st.sampled_from(sorted(self.fetching)))
        del self.fetching[handle]
        if not served:
            self.states[handle] = self.back[handle]
        self.pool.ask(m.Received, self.apps[handle], handle, served=served)
        self.settle()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def expire(self, data):
        request = data.draw(st.sampled_from(sorted(self.open)))
        self.pool.send(m.Expired(request, self.open[request][0], 1.0))
        assert isinstance(self.pool.answers[request], m.Refuse)
        self.settle()

    @rule(data=st.data())
    def dispose(self, data):
        handle = self.turn(data, "dispose")
        if handle is not None and handle not in self.fetching:
            self.pool.ask(m.Dispose, self.apps[handle], handle)
            del self.states[handle]
            self.settle()

    @precondition(lambda self: self.pool.registry.apps)
    @rule(data=st.data(), died=st.booleans())
    def go(self, data, died):
        app = data.draw(st.sampled_from(sorted(self.pool.registry.apps)))
        gone = [handle for handle, owner in self.apps.items() if owner == app]
        for handle in gone:
            self.states.pop(handle, None)
            self.fetching.pop(handle, None)
        if died:
            self.pool.send(m.AppLost(app))
        else:
            self.pool.ask(m.Leave, app)
        for request, (handle, _) in self.open.items():
            assert handle not in gone or request in self.pool.answers, "left unanswered"
        self.settle()

    @rule(number=st.integers(0, 1))
    def node_lost(self, number):
        node = f"node-{number}"
        self.pool.held = {key for key in self.pool.held if key[0] != node}
        lost = {
            version.serial
            for cdo in self.pool.registry.cdos.values()
            for version in cdo.versions()
            if any(slot.node == node for slot in version.slots.values())
        }
        self.fetching = {h: v for h, v in self.fetching.items() if v not in lost}
        self.pool.send(m.NodeLost(node))
        self.settle()
        self.pool.send(m.NodeJoined(node, 40))
        self.settle()

    @invariant()
    def promises(self):
        self.pool.check()
        for handle, state in self.states.items():
            if state == "required" and handle not in self.fetching:
                assert self.pool.registry.handles[handle].required
        for request, (handle, call) in self.open.items():
            cdo = self.pool.registry.cdos[self.pool.registry.handles[handle].name]
            if call == "offer":
                assert request in self.pool.registry.queue
            elif call == "demand":
                assert request in cdo.waiting
            else:
                wanted = [
                    v.requirements or cdo.pending
                    for v in cdo.versions()
                    if request in v.withdrawing
                ]
                assert len(wanted) == 1, "a withdraw waits for one version"
                assert wanted[0], "and only while somebody requires it"

    def teardown(self):
        """When everybody has gone, nothing is left."""
        for app in sorted(self.pool.registry.apps):
            self.pool.ask(m.Leave, app)
        registry = self.pool.registry
        left = registry.cdos, registry.handles, registry.apps, self.pool.held
        assert not any(left), left
        assert all(node.used == 0 for node in registry.ledger.nodes.values())


def _snapshot(registry):
    known = {k: v for k, v in vars(registry).items() if k not in ("out", "ledger", "bulletin")}
    events = registry.bulletin.subscriptions.log.next
    return copy.deepcopy(known), str(registry.ledger), events


TestMachine = Machine.TestCase
# 10^5 steps.
TestMachine.settings = settings(max_examples=1667, stateful_step_count=60, deadline=None)
