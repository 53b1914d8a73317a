from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from maestro.registry.placement import Ledger

NODES = "abc"
ledgers = st.lists(st.tuples(st.sampled_from(NODES), st.integers(0, 20)), max_size=4)
sizes = st.dictionaries(st.integers(0, 9), st.integers(0, 12), max_size=6)
wishes = st.dictionaries(st.integers(0, 9), st.sampled_from([*NODES, "gone"]), max_size=6)


def ledger_of(nodes):
    ledger = Ledger()
    for address, limit in nodes:
        ledger.join(address, limit)
    return ledger


def used(ledger):
    return {address: node.used for address, node in ledger.nodes.items()}


@settings(max_examples=300, deadline=None)
@given(ledgers, sizes, sizes, wishes)
def test_every_promise_is_within_its_limit_and_counted_once(nodes, before, asked, near):
    ledger = ledger_of(nodes)
    ledger.reserve(before)
    had = used(ledger)
    places = ledger.reserve(asked, near)
    if places is None:
        assert used(ledger) == had
        assert ledger.reserve(asked) is None  # a wish never takes the room of the whole
        return
    assert sorted(places) == sorted(asked)
    for address, node in ledger.nodes.items():
        promised = sum(asked[rank] for rank, place in places.items() if place == address)
        assert node.used == had[address] + promised <= node.limit


@settings(max_examples=300, deadline=None)
@given(ledgers, sizes, wishes)
def test_whoever_can_be_near_is(nodes, asked, near):
    """Where every wish has room beside the other wishes, and the rest finds room as well."""
    ledger = ledger_of(nodes)
    wished = {rank: near[rank] for rank in asked if near.get(rank) in ledger.nodes}
    for address, node in ledger.nodes.items():
        if sum(asked[rank] for rank, wish in wished.items() if wish == address) > node.limit:
            return
    for rank, wish in wished.items():
        ledger.nodes[wish].used += asked[rank]
    rest = ledger.reserve({rank: size for rank, size in asked.items() if rank not in wished})
    if rest is not None:
        assert ledger_of(nodes).reserve(asked, near) == dict(sorted({**wished, **rest}.items()))


@settings(max_examples=200, deadline=None)
@given(ledgers, sizes)
def test_without_wishes_nothing_is_different(nodes, asked):
    assert ledger_of(nodes).reserve(asked) == ledger_of(nodes).reserve(asked, {0: "gone"})


@given(st.permutations(range(8)), st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_a_rank_that_is_offered_by_itself_finds_its_node_again(turns, others):
    """Whoever is first, and whatever little the nodes hold beside."""
    ledger = ledger_of([(address, 1000) for address in "abcd"])
    for node, beside in zip(ledger.nodes.values(), others, strict=True):
        node.used = beside
    for ranks in (turns[:4], turns[4:]):  # parts like these on each, then others
        places = {rank: ledger.reserve({rank: 100 + rank})[rank] for rank in ranks}
        assert sorted(places.values()) == list("abcd")
        if len({rank % 4 for rank in ranks}) == 4:
            assert places == {rank: "abcd"[rank % 4] for rank in ranks}


def test_what_is_near_comes_first_whatever_its_size():
    ledger = ledger_of([("a", 100), ("b", 100)])
    assert ledger.reserve({0: 90, 1: 20, 2: 20}, near={1: "a", 2: "a"}) == {0: "b", 1: "a", 2: "a"}
    assert ledger.reserve({0: 61}, near={0: "a"}) is None
    assert used(ledger) == {"a": 40, "b": 90}


def test_a_wish_gives_way_where_there_is_room_for_all_only_without_it():
    ledger = ledger_of([("a", 100), ("b", 50)])
    assert ledger.reserve({0: 90, 1: 20}, near={1: "a"}) == {0: "a", 1: "b"}
