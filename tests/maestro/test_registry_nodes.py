"""The pool manager's state machine where nodes die: copies, replicas, and what others take over."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import Phase, settings

from layouts import Block, Distribution, Replicated
from maestro import messages as m
from maestro.errors import DataLostError, PoolFullError, PoolTimeoutError
from maestro.registry.room import OVERTAKINGS
from maestro.registry.versions import Stage
from tests.maestro.pools import F8, HALVES, WHOLE, Pool
from tests.maestro.test_registry_machine import LIMIT, Machine

BOTH = Distribution((4, 4), (2, 2), (Replicated(), Block()))  # ranks 0 and 2, 1 and 3 are the same


ADDRESSES = "a:1", "a:2", "b:1"


def home(address, number=0):
    return ((f"{address}/{number}", "token"),)


@pytest.fixture
def pool():
    """Two nodes of host "a", one of "b"; and apps "p" and "c"."""
    pool = Pool(nodes=0, patience=10.0)
    for address in ("a:1", "a:2", "b:1"):
        pool.send(m.NodeJoined(address, 1000, home(address), 8))
    pool.join("p"), pool.join("c")
    pool.seal("p", "have")
    pool.seal("c", "want")
    yield pool
    pool.check()


def lose(pool, address):
    """A node dies; what it has left."""
    left = {(v, r) for node, v, r in pool.held if node == address}
    pool.held = {key for key in pool.held if key[0] != address}
    pool.send(m.NodeLost(address))
    return left


def adopt(pool, outcome="adopted", lost=()):
    """The node that was asked last answers."""
    asked = pool.adopting.pop()
    parts = {(each.version, rank) for each in asked.parts for rank in each.ranks} - set(lost)
    if outcome != "adopted":
        parts = set()
    pool.held |= {(asked.heir, *part) for part in parts}
    pool.send(m.Adopted(asked.number, outcome, tuple(sorted(parts))))
    return asked


def wait(pool, seconds):
    pool.now += seconds
    pool.send(m.Tick())


def test_another_node_of_the_host_takes_over_and_demands_go_there(pool):
    pool.offer("p", "have")
    lose(pool, "a:1")
    request = pool.call(m.Demand, "c", "want")
    assert request not in pool.answers
    asked = adopt(pool)
    assert (asked.heir, asked.lost, asked.homes) == ("a:2", "a:1", home("a:1"))
    assert asked.parts == (m.LeftParts(0, WHOLE, 8, (0,)),)
    assert pool.answer(request)["nodes"] == ["a:2"]
    pool.ask(m.Received, "c", "want")
    assert pool.registry.deadline is None


def test_a_demand_under_way_is_told_where_to_go_on(pool):
    pool.offer("p", "have", HALVES)
    pool.ask(m.Demand, "c", "want")
    lose(pool, "a:1")
    request = pool.call(m.Locate, "c", "want")
    assert request not in pool.answers
    adopt(pool)
    assert "a:1" not in pool.answer(request)["nodes"]
    assert pool.ask(m.Locate, "c", "want") == pool.answer(request)


def test_who_sees_nothing_is_not_asked_again_and_who_joins_is(pool):
    pool.offer("p", "have")
    lose(pool, "a:1")
    for address in ("a:2", "b:1"):
        assert adopt(pool, "elsewhere").heir == address
    wait(pool, 1)
    assert not pool.adopting
    pool.send(m.NodeJoined("a:3", 1000, home("a:3"), 8))
    assert adopt(pool).heir == "a:3"
    assert pool.ask(m.Demand, "c", "want")["nodes"] == ["a:3"]


def test_a_node_whose_process_is_not_gone_yet_is_waited_for(pool):
    pool.offer("p", "have")
    lose(pool, "a:1")
    adopt(pool, "busy")
    assert not pool.adopting
    assert 0 < pool.registry.deadline - pool.now < 1
    wait(pool, 0.5)
    adopt(pool)
    assert pool.ask(m.Demand, "c", "want")["nodes"] == ["a:2"]


def test_an_heir_that_is_silent_is_passed_over(pool):
    """And what it says later changes nothing."""
    pool.offer("p", "have")
    lose(pool, "a:1")
    (silent,) = pool.adopting
    wait(pool, 2)
    assert pool.adopting == [silent]
    wait(pool, 1)
    assert adopt(pool, "elsewhere").heir == "b:1"
    pool.send(m.NodeJoined("a:3", 1000, home("a:3"), 8))
    assert adopt(pool).heir == "a:3"
    assert pool.ask(m.Demand, "c", "want")["nodes"] == ["a:3"]
    pool.check()
    assert adopt(pool, "busy") == silent
    assert pool.ask(m.Locate, "c", "want")["nodes"] == ["a:3"]
    assert pool.registry.deadline is None


@pytest.mark.parametrize("dies", [False, True])
def test_an_heir_that_was_passed_over_may_have_it_all_the_same(pool, dies):
    """Nobody else gets it then, and it is the heir's when it says so."""
    pool.offer("p", "have")
    lose(pool, "a:1")
    demand = pool.call(m.Demand, "c", "want")
    wait(pool, 3)
    silent, _ = pool.adopting
    assert adopt(pool, "busy").heir == "b:1"
    wait(pool, 0.2)
    assert pool.adopting[-1].heir == "b:1"  # it is asked again, the silent one is not
    if dies:
        pool.adopting.pop()
        pool.send(m.NodeLost("b:1"))
    assert demand not in pool.answers
    pool.adopting = [silent]
    adopt(pool)
    assert pool.answer(demand)["nodes"] == ["a:2"]


def test_what_an_heir_has_that_answers_when_it_was_given_up_is_dropped(pool):
    pool.offer("p", "have")
    lose(pool, "a:1")
    demand = pool.call(m.Demand, "c", "want")
    for _ in range(5):
        wait(pool, 3)
    with pytest.raises(DataLostError, match=r"'t': ranks \[0\] were lost with node a:1"):
        pool.answer(demand)
    while pool.adopting:
        heir = pool.adopting[-1].heir
        adopt(pool, "adopted" if heir == "a:2" else "elsewhere")
    assert not pool.held
    assert not pool.registry.estates
    assert pool.registry.ledger.nodes["a:2"].used == 0


def test_nobody_without_room_is_asked(pool):
    for address in ("a:2", "b:1"):
        pool.send(m.NodeJoined(address, 10, home(address), 8))
    pool.offer("p", "have")
    lose(pool, "a:1")
    assert not pool.adopting
    pool.send(m.NodeJoined("a:3", 64, home("a:3"), 8))
    adopt(pool)


def test_what_nobody_takes_over_in_time_is_lost_to_everyone_who_waits(pool):
    pool.offer("p", "have")
    pool.seal("c", "other")
    pool.ask(m.Require, "c", "other")
    fetching = pool.ask(m.Demand, "c", "want")
    lose(pool, "a:1")
    adopt(pool, "elsewhere"), adopt(pool, "elsewhere")
    locating = pool.call(m.Locate, "c", "want")
    demanding = pool.call(m.Demand, "c", "other")
    withdrawing = pool.call(m.Withdraw, "p", "have")
    wait(pool, 9)
    assert not {locating, demanding, withdrawing} & pool.answers.keys()
    wait(pool, 2)
    for request in (locating, demanding):
        with pytest.raises(DataLostError, match=r"'t': ranks \[0\] were lost with node a:1"):
            pool.answer(request)
    assert pool.answer(withdrawing) is None
    assert fetching["version"] == 0
    pool.ask(m.Received, "c", "want", served=False)
    assert pool.registry.deadline is None


def test_a_part_that_is_not_found_is_lost_at_once(pool):
    pool.offer("p", "have")
    request = pool.call(m.Demand, "c", "want")
    (left,) = lose(pool, "a:1")
    pool.ask(m.Received, "c", "want", served=False)
    request = pool.call(m.Demand, "c", "want")
    adopt(pool, lost=[left])
    with pytest.raises(DataLostError, match=r"'t': ranks \[0\] were lost with node a:1"):
        pool.answer(request)


def test_small_parts_do_not_outlive_their_node(pool):
    small = Distribution((1,))  # 8 bytes
    pool.send(m.NodeJoined("c:1", 1000, home("c:1"), 9))
    pool.registry.ledger.nodes["c:1"].map_from = 9
    for address in ("a:1", "a:2", "b:1"):
        pool.registry.ledger.nodes[address].limit = 0
    pool.offer("p", "have", small)
    pool.ask(m.Require, "c", "want")
    lose(pool, "c:1")
    with pytest.raises(DataLostError, match=r"'t': ranks \[0\] were lost with node c:1"):
        pool.ask(m.Demand, "c", "want")


def test_a_demand_that_waits_for_an_heir_may_run_out_of_time(pool):
    pool.offer("p", "have")
    lose(pool, "a:1")
    request = pool.call(m.Demand, "c", "want")
    pool.send(m.Expired(request, "want", 3.0))
    with pytest.raises(
        PoolTimeoutError, match=r"'t': not there after 3 s: ranks \[0\] were left by"
    ):
        pool.answer(request)
    adopt(pool)
    pool.ask(m.Demand, "c", "want")


def test_what_is_withdrawn_meanwhile_is_dropped_by_the_heir(pool):
    pool.offer("p", "have")
    lose(pool, "a:1")
    assert pool.ask(m.Withdraw, "p", "have") is None
    adopt(pool)
    assert not pool.held


def test_an_heir_that_dies_has_an_heir(pool):
    pool.offer("p", "have")
    left = lose(pool, "a:1")
    pool.send(m.NodeLost("a:2"))  # as it is at it
    (first,) = [asked for asked in pool.adopting if asked.lost == "a:1" and asked.heir == "a:2"]
    pool.adopting.remove(first)
    pool.send(m.Adopted(first.number, "adopted", tuple(left)))  # too late
    for _ in range(2):
        adopt(pool, "elsewhere")  # what a:1 and a:2 have left
    pool.send(m.NodeJoined("a:3", 1000, home("a:3"), 8))
    while pool.adopting:
        adopt(pool)
    assert pool.ask(m.Demand, "c", "want")["nodes"] == ["a:3"]
    pool.ask(m.Received, "c", "want", served=False)
    lose(pool, "a:3")
    (asked,) = pool.adopting
    assert set(asked.homes) >= {*home("a:1"), *home("a:3")}


def lodge(pool, address, place="part:file:///inn#0"):
    """A node puts its part up in a store."""
    ((_, version, rank),) = (key for key in pool.held if key[0] == address)
    pool.held = {key for key in pool.held if key[0] != address} | {(place, version, rank)}
    pool.send(m.Lodged(address, version, rank, place))
    return place


def test_what_lives_in_a_store_outlives_its_node_and_counts_as_its_own(pool):
    pool.offer("p", "have")
    place = lodge(pool, "a:1")
    assert pool.registry.ledger.nodes["a:1"].used == WHOLE.local_size(0) * 8
    assert pool.ask(m.Demand, "c", "want")["nodes"] == [place]
    lose(pool, "a:1")
    assert pool.ask(m.Locate, "c", "want")["nodes"] == [place]
    pool.send(m.NodeJoined("a:1", 1000, home("a:1"), 8))
    pool.ask(m.Received, "c", "want")
    pool.ask(m.Withdraw, "p", "have")
    assert not pool.held
    assert pool.registry.ledger.nodes["a:1"].used == 0


def test_of_two_copies_that_in_memory_is_read(pool):
    answer = pool.offer("p", "have", copies=2)
    first, second = answer["nodes"][0], answer["copies"][0][0]
    place = lodge(pool, first)
    found = pool.ask(m.Demand, "c", "want")
    assert (found["nodes"], found["copies"]) == ([second], {0: [place]})
    lose(pool, second)
    assert pool.ask(m.Locate, "c", "want")["nodes"] == [place]


def test_what_is_wanted_no_more_goes_from_the_store_at_once(pool):
    pool.offer("p", "have")
    pool.ask(m.Withdraw, "p", "have")
    pool.held = {("part:file:///inn#0", 0, 0)}
    pool.send(m.Lodged("a:1", 0, 0, "part:file:///inn#0"))
    assert not pool.held


def test_of_two_copies_one_is_enough(pool):
    answer = pool.offer("p", "have", HALVES, copies=2)
    (first,), (second,) = ({answer["nodes"][0]}, {answer["copies"][0][0]})
    assert first[0] != second[0], "they are on different hosts"
    found = pool.ask(m.Demand, "c", "want")
    assert found["copies"][0] == [second]
    lose(pool, first)
    again = pool.ask(m.Locate, "c", "want")
    assert again["nodes"][0] == second
    assert 0 not in again["copies"]
    pool.ask(m.Received, "c", "want")
    pool.ask(m.Withdraw, "p", "have")
    assert not pool.held


def test_copies_for_which_there_are_not_nodes_enough_are_refused(pool):
    for address in ("a:2", "b:1"):
        pool.send(m.NodeLost(address))
    with pytest.raises(PoolFullError, match="2 copies of each on as many nodes; a:1 1000 of 1000"):
        pool.offer("p", "have", copies=2)


def test_a_replica_does_for_the_rank_that_is_lost(pool):
    for address in ("a:1", "a:2", "b:1"):
        pool.send(m.NodeJoined(address, 130, home(address), 8))
    pool.offer("p", "have", BOTH)
    where = pool.ask(m.Demand, "c", "want")["nodes"]
    assert where[0] != where[2], "equal parts spread"
    lose(pool, where[0])
    again = pool.ask(m.Locate, "c", "want")
    assert again["instead"][0] == 2
    assert again["nodes"][0] == where[2]
    pool.ask(m.Received, "c", "want")


def test_an_offer_whose_node_dies_is_told_so_and_can_be_made_again(pool):
    pool.ask(m.Require, "c", "want")
    answer = pool.offer("p", "have", store=False)
    lose(pool, answer["nodes"][0])
    with pytest.raises(
        DataLostError, match=r"'t': ranks \[0\] were lost with node a:1 before they"
    ):
        pool.ask(m.Stored, "p", "have")
    pool.ask(m.Abort, "p", "have")
    pool.offer("p", "have")
    assert pool.ask(m.Demand, "c", "want")["nodes"] == ["a:2"]
    assert adopt(pool).parts == ()  # what was left is only to be cleared away


def test_an_offer_whose_node_dies_while_nobody_waits_for_it_is_lost(pool):
    """As if the node had died right after: who wants it is told."""
    pool.group("p", "g", "group", [("x", "x"), ("y", "y")])
    pool.group("c", "wanted", "group")
    for key in ("want", "wanted"):
        pool.ask(m.Require, "c", key)
    demands = [pool.call(m.Demand, "c", key) for key in ("want", "wanted")]
    for offer, key in ((pool.offer, "have"), (pool.offer_group, "g")):
        answer = offer("p", key, store=False)
        lose(pool, answer.get("x", answer)["nodes"][0])
        pool.ask(m.Stored, "p", key, awaited=False)
    for name, demand in zip("tx", demands, strict=True):
        with pytest.raises(DataLostError, match=f"'{name}': .* lost with node a:. before they"):
            pool.answer(demand)
    pool.ask(m.Retract, "c", "wanted")
    for key in ("have", "g"):
        pool.ask(m.Withdraw, "p", key)
        pool.ask(m.Dispose, "p", key)
    pool.check()


# Room


def test_an_offer_is_overtaken_so_often_and_then_its_room_is_kept():
    pool = Pool(nodes=1, limit=128)
    pool.join("p")
    for name in ("large", *(f"small-{k}" for k in range(2 * OVERTAKINGS))):
        pool.seal("p", name, name)
    pool.offer("p", "small-0")
    double = Distribution((16,))
    large = pool.call(m.Offer, "p", "large", dtype=F8, distribution=double, wait=True)
    for k in range(1, OVERTAKINGS + 1):
        pool.offer("p", f"small-{k}")
        pool.ask(m.Withdraw, "p", f"small-{k - 1}")
    with pytest.raises(PoolFullError, match="room is kept for 'large' of p, with 128 bytes, which"):
        pool.offer("p", "small-20")
    behind = pool.call(m.Offer, "p", "small-21", dtype=F8, distribution=WHOLE, wait=True)
    assert large not in pool.answers
    pool.ask(m.Withdraw, "p", f"small-{OVERTAKINGS}")
    pool.answer(large)
    assert behind not in pool.answers
    pool.ask(m.Stored, "p", "large")
    pool.ask(m.Withdraw, "p", "large")
    pool.answer(behind)
    pool.check()


def test_no_room_is_kept_for_what_cannot_fit_or_of_those_who_complete_a_cdo():
    pool = Pool(nodes=1, limit=128)
    pool.join("p"), pool.join("q")
    huge = Distribution((17,))
    pool.seal("p", "huge", "huge")
    pool.seal("p", "large", "large")
    for rank, app in enumerate("pq"):
        pool.seal(app, f"half-{rank}", "half", rank, HALVES, F8)
    pool.seal("p", "small", "small")
    assert pool.call(m.Offer, "p", "huge", dtype=F8, distribution=huge, wait=True)
    for _ in range(OVERTAKINGS + 1):
        pool.offer("p", "small")
        pool.ask(m.Withdraw, "p", "small")
    pool.offer("p", "half-0", HALVES)
    double = Distribution((16,))
    large = pool.call(m.Offer, "p", "large", dtype=F8, distribution=double, wait=True)
    for waiting in pool.registry.queue.values():
        waiting.overtaken = OVERTAKINGS
    with pytest.raises(PoolFullError, match="room is kept for 'large'"):
        pool.offer("p", "small")
    pool.offer("q", "half-1", HALVES)
    pool.ask(m.Withdraw, "p", "half-0")
    pool.ask(m.Withdraw, "q", "half-1")
    pool.answer(large)
    pool.check()


# All of it at once


class Nodes(Machine):
    """The same with nodes that leave their parts on their host, and others that take them over."""

    did: ClassVar = Counter()
    COPIES = (1, 1, 2)
    MOVES = (*Machine.MOVES, "node_lost", "locate", "locate", "take_over", "take_over", "moment")

    def start(self):
        pool = Pool(nodes=0, patience=30.0)
        self.disk = {}  # directory -> parts that a dead node has left there
        self.directories = 0
        self.owners = {}  # directory -> the node that has taken it over
        self.too_late = []  # of what nodes are asked
        self.bereaved = set()  # versions of which some has been on a node that died
        for address in ADDRESSES:
            self.join_node(pool, address)
        return pool

    def join_node(self, pool, address):
        self.directories += 1
        pool.send(m.NodeJoined(address, 2 * LIMIT, home(address, self.directories), 8))

    def layout(self, name):
        return BOTH if name == "u" else HALVES

    def node_lost(self):
        address = self.moves.one_of(*ADDRESSES)
        known = self.registry.ledger.nodes.get(address)
        if known is None:
            self.pool.now = self.now
            self.join_node(self.pool, address)
        elif self.moves.one_of(True, False):
            self.too_late += [asked for asked in self.pool.adopting if asked.heir == address]
            self.disk[known.homes[0][0]] = {(v, r) for n, v, r in self.pool.held if n == address}
            self.owners = {k: node for k, node in self.owners.items() if node != address}
            self.bereaved |= {version for n, version, _ in self.pool.held if n == address}
            self.pool.held = {key for key in self.pool.held if key[0] != address}
            for handle, parts in self.fetching.items():  # it finds out, and may ask anew
                self.fetching[handle] = {part for part in parts if part[0] != address}
            self.send(m.NodeLost(address))
        self.settle()

    def settle(self):
        super().settle()
        alive = {
            version.serial
            for cdo in self.registry.cdos.values()
            for version in cdo.versions()
            if version.stage is not Stage.OVER
        }
        for handle, parts in self.fetching.items():  # what is lost is so with all its ranks
            self.fetching[handle] = {p for p in parts if p[1] not in self.bereaved - alive}

    def locate(self):
        """A demand finds that something is not where it was."""
        if not self.fetching:
            return
        handle = self.moves.one_of(*sorted(self.fetching))
        if not self.is_locating(handle):
            self.pool.now = self.now
            request = self.pool.call(m.Locate, self.apps[handle], handle)
            self.open[request] = handle, "locate"
            self.settle()

    def is_locating(self, handle):
        return (handle, "locate") in self.open.values()

    def receive(self):
        if not any(map(self.is_locating, self.fetching)):
            super().receive()

    def see(self, handle, call, answer):
        if call != "locate":
            super().see(handle, call, answer)
        elif isinstance(answer, m.Refuse):
            assert isinstance(answer.error, DataLostError)
            del self.fetching[handle]
            self.states[handle] = self.back[handle]
            self.pool.ask(m.Received, self.apps[handle], handle, served=False)
        else:
            for found in (answer.value, *answer.value.get("along", {}).values()):
                parts = self.parts_of(found)
                assert parts <= self.pool.held
                self.fetching[handle] |= parts

    def bring(self, handle):
        """As ever, but for offers whose nodes have died meanwhile."""
        if self.abort_next:
            super().bring(handle)
            return
        try:
            self.pool.ask(m.Stored, self.apps[handle], handle)
        except DataLostError:
            self.pool.ask(m.Abort, self.apps[handle], handle)
            self.states[handle] = self.back[handle]

    def take_over(self):
        """A node answers what it was asked."""
        if self.pool.adopting:
            asked = self.pool.adopting.pop(self.moves.one_of(0, -1))
            self.take_over_now(
                asked, self.moves.one_of(False, False, True), self.moves.one_of(0, 1)
            )

    def take_over_now(self, asked, busy, fewer):
        outcome, found = "adopted", set()
        for estate in self.registry.estates.values():
            known = estate.asked.get(asked.number)
            self.did["late"] += known is not None and known.until <= self.now
        if asked.heir[0] != asked.lost[0] or asked in self.too_late:
            outcome = "elsewhere"
        elif busy or any(directory in self.owners for directory, _ in asked.homes):
            outcome = "busy"
        else:
            self.owners |= {directory: asked.heir for directory, _ in asked.homes}
            wanted = {(each.version, rank) for each in asked.parts for rank in each.ranks}
            left = set().union(*(self.disk.pop(d, set()) for d, _ in asked.homes))
            found = set(sorted(wanted & left)[fewer:])
            self.pool.held |= {(asked.heir, *part) for part in found}
        self.send(m.Adopted(asked.number, outcome, tuple(sorted(found))))
        self.settle()

    def moment(self):
        self.now += self.moves.one_of(0.2, 8.0)  # then an heir is passed over
        self.send(m.Tick())
        self.settle()

    def teardown(self):
        for _ in range(2):  # with those who wait, and when all have gone
            while self.pool.adopting:
                self.take_over_now(self.pool.adopting.pop(), False, 0)
            if self.registry.apps:
                super().teardown()
                self.open, self.fetching = {}, {}
            self.now += 60
            self.send(m.Tick())
        while self.pool.adopting:
            self.take_over_now(self.pool.adopting.pop(), False, 0)
        assert not self.registry.estates
        assert all(node.used == 0 for node in self.registry.ledger.nodes.values())


TestNodes = Nodes.TestCase
TestNodes.settings = settings(
    max_examples=60,
    stateful_step_count=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def test_nodes_were_lost_often():
    assert min(Nodes.did[move] for move in ("node_lost", "locate", "take_over", "moment")) >= 500
    assert Nodes.did["late"] >= 100
