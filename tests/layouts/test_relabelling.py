from __future__ import annotations

import math
from itertools import permutations
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Plan, Replicated, plan
from layouts import matrix as dense
from tests.layouts import naive
from tests.layouts.strategies import distributions, kinds, pairs

small_shapes = st.lists(st.integers(0, 9), min_size=0, max_size=3).map(tuple)


@st.composite
def small_pairs(draw, most=6):
    """Two distributions over at most so many ranks each, for trying all permutations."""
    source, target = draw(pairs(small_shapes))
    assume(source.size <= most and target.size <= most)
    return source, target


def bytes_moved(source, target, places):
    """The oracle: elements of each target part that are not among those of its place's source."""
    parts = naive.scatter(source, naive.labels(source.shape))
    moved = 0
    for rank, wanted in enumerate(naive.scatter(target, naive.labels(target.shape))):
        here = parts[places[rank]] if places[rank] < len(parts) else np.empty(0)
        moved += np.setdiff1d(wanted, here).size
    return moved


def best_by_trying(ranks, price):
    """The cheapest permutation's price, and the most ranks that stay at such a price."""
    tried = [
        (price(places), -sum(p == k for k, p in enumerate(places)))
        for places in permutations(range(ranks))
    ]
    cost, staying = min(tried)
    return cost, -staying


@settings(max_examples=150, deadline=None)
@given(small_pairs(most=5))
def test_no_permutation_moves_fewer_bytes(pair):
    source, target = pair
    p = plan(source, target, relabel=True)
    matrix = naive.matrix(source, target)
    total = sum(math.prod(target.local_shape(rank)) for rank in range(target.size))

    def moved(places):
        kept = sum(matrix[place, rank] for rank, place in enumerate(places) if place < source.size)
        return total - kept

    best, staying = best_by_trying(target.size, moved)
    assert sorted(p.places) == sorted(p.labels) == list(range(target.size))
    assert bytes_moved(source, target, p.places) == best
    assert p.cost(itemsize=1).moved == best
    assert np.count_nonzero(p.places == np.arange(target.size)) == staying


@st.composite
def six_ranks(draw):
    shape = draw(st.tuples(st.integers(0, 13), st.integers(0, 13)))
    grid = draw(st.sampled_from([(6, 1), (3, 2), (2, 3), (1, 6)]))
    return Distribution(shape, grid, [draw(kinds(n, p)) for n, p in zip(shape, grid, strict=True)])


@settings(max_examples=30, deadline=None)
@given(six_ranks(), st.data())
def test_six_ranks_too(target, data):
    source = data.draw(distributions(target.shape, most_ranks=8))
    p = plan(source, target, relabel=True)
    matrix = naive.matrix(source, target)
    kept = max(
        sum(matrix[place, rank] for rank, place in enumerate(places) if place < source.size)
        for places in permutations(range(6))
    )
    assert p.cost(itemsize=1).kept == kept


@settings(max_examples=150, deadline=None)
@given(small_pairs(most=5), st.data())
def test_no_permutation_costs_less_over_given_links(pair, data):
    source, target = pair
    row = st.lists(st.integers(0, 9), min_size=target.size, max_size=target.size)
    links = np.array(data.draw(st.lists(row, min_size=source.size, max_size=source.size)))
    p = plan(source, target, relabel=True, links=links)

    def price(places):
        # What is sent follows from where the ranks live: copies are read near by.
        sent = Plan(source, target, tuple(places)).matrix(1)
        return sum((sent[:, rank] * links[:, place]).sum() for rank, place in enumerate(places))

    best, staying = best_by_trying(target.size, price)
    assert price(p.places) == best
    assert np.count_nonzero(p.places == np.arange(target.size)) == staying
    called = plan(source, target, relabel=True, links=lambda s, place: float(links[s, place]))
    assert called == p


@settings(max_examples=300, deadline=None)
@given(pairs(), st.integers(1, 16))
def test_relabelling_never_moves_more_bytes(pair, itemsize):
    source, target = pair
    usual, better = plan(source, target).cost(itemsize), plan(source, target, True).cost(itemsize)
    assert better.moved <= usual.moved == usual.moved_before == better.moved_before
    assert better.kept + better.moved == usual.kept + usual.moved
    assert (better.moved < usual.moved) == bool(better.relabelled)
    assert usual.relabelled is None


@settings(max_examples=300, deadline=None)
@given(pairs(), st.randoms(use_true_random=False), st.integers(1, 16), st.integers(0, 99))
def test_all_of_a_relabelled_plan_agrees(pair, random, itemsize, buffers):
    """Any permutation, not only the best: matrix, incoming, cost, memory and execute."""
    source, target = pair
    places = random.sample(range(target.size), target.size)
    p = Plan(source, target, tuple(places))
    matrix, cost = p.matrix(itemsize), p.cost(itemsize, buffers)

    sizes = [math.prod(target.local_shape(rank)) * itemsize for rank in range(target.size)]
    assert matrix.sum(axis=0).tolist() == sizes
    wanted = naive.matrix(source, target) * itemsize
    assert np.all((matrix == wanted) | (matrix == 0))
    if Replicated() not in source.axes:
        assert np.array_equal(matrix, wanted)

    together = np.full(max(source.size, target.size), buffers)
    kept = np.zeros_like(matrix, dtype=bool)
    for rank, place in enumerate(places):
        share = p.incoming(rank)
        assert share.sources.tolist() == np.flatnonzero(matrix[:, rank]).tolist()
        assert share.bytes(itemsize).tolist() == matrix[share.sources, rank].tolist()
        together[place] += naive.memory_size(target, rank) * itemsize
        if place < source.size:
            kept[place, rank] = True
            assert matrix[place, rank] == wanted[place, rank]  # what is here is read here
    for rank in range(source.size):
        together[rank] += naive.memory_size(source, rank) * itemsize

    others = np.where(kept, 0, matrix)
    assert (cost.kept, cost.moved) == (matrix[kept].sum(), others.sum())
    assert (cost.messages, cost.largest) == (np.count_nonzero(others), others.max())
    assert p.memory(itemsize, buffers).tolist() == together.tolist()
    assert (cost.peak, cost.peak_place) == (together.max(), together.argmax())
    assert cost.peak == cost.peak_source + cost.peak_target + cost.buffers

    array = naive.labels(source.shape)
    parts = p.execute(naive.scatter(source, array))
    for part, expected in zip(parts, naive.scatter(target, array), strict=True):
        assert np.array_equal(part, expected)


def test_labels_and_places_are_each_others_inverse():
    p = Plan(Distribution((9,), (3,)), Distribution((9,), (3,)), (2, 0, 1))
    assert p.places.tolist() == [2, 0, 1]
    assert p.labels.tolist() == [1, 2, 0]
    usual = plan(p.source, p.target)
    assert usual.places.tolist() == usual.labels.tolist() == [0, 1, 2]
    assert usual.relabelled is None


def test_parts_that_only_have_other_numbers_need_no_move_at_all():
    """Three coordinates with something, at the first three here and around an empty one there."""
    source = Distribution((6, 4), (4, 2), (Irregular([0, 2, 4, 6, 6]), Cyclic()))
    target = Distribution((6, 4), (4, 2), (Irregular([0, 0, 2, 4, 6]), Cyclic()))
    p = plan(source, target, relabel=True)
    assert plan(source, target).cost().kept == 0
    assert p.cost().moved == p.cost().messages == 0
    assert p.labels[:6].tolist() == [2, 3, 4, 5, 6, 7]


def test_large_parts_are_compared_exactly():
    """One element more decides, among 10**12."""
    n = 10**12
    source = Distribution((3 * n + 1,), (3,), (Irregular([0, n, 2 * n + 1, 3 * n + 1]),))
    target = Distribution((3 * n + 1,), (3,), (Irregular([0, 0, n, 3 * n + 1]),))
    # The last target rank holds all of source ranks 1 (n + 1) and 2 (n).
    p = plan(source, target, relabel=True)
    assert p.places.tolist() == [2, 0, 1]


def test_a_million_ranks_are_refused_by_size_and_planned_without_relabelling():
    huge = Distribution((10**7, 10**7), (1000, 1000))
    with pytest.raises(ValueError, match="relabel: got 1000000 source and 1000000 target ranks"):
        plan(huge, huge, relabel=True)
    assert plan(huge, huge).incoming(5).place == 5
    with pytest.raises(ValueError, match="expected at most 8192 on each side"):
        plan(Distribution((10,), (8193,)), Distribution((10,)), relabel=True)


def test_memory_is_looked_at_before_it_is_taken():
    many = Distribution((4000,), (4000,))
    with (
        mock.patch.object(dense, "_physical_memory", return_value=10**9),
        pytest.raises(MemoryError, match="relabel: 4000 x 4000 ranks need 512000000 bytes"),
    ):
        plan(many, many, relabel=True)


@pytest.mark.parametrize(
    ("links", "text"),
    [
        (np.zeros((2, 2)), r"links: the shape is \(2, 2\), expected \(2, 3\)"),
        ([[0, 1, 2], [0, -1, 2]], r"from source rank 1 to place 1 it is -1.0, expected a finite"),
        (lambda s, p: math.nan, r"from source rank 0 to place 0 it is nan"),
    ],
)
def test_links_that_do_not_fit_are_refused(links, text):
    source, target = Distribution((6,), (2,)), Distribution((6,), (3,))
    with pytest.raises(ValueError, match=text):
        plan(source, target, relabel=True, links=links)


def test_links_without_relabelling_are_refused():
    with pytest.raises(ValueError, match="links: got them without relabel=True"):
        plan(Distribution((6,)), Distribution((6,)), links=[[0]])


@pytest.mark.parametrize("places", [(0, 1), (0, 1, 1), (0, 1, 2, 0)])
def test_places_must_be_a_permutation(places):
    with pytest.raises(ValueError, match=r"relabelled: got .* a permutation of 0 to 2"):
        Plan(Distribution((6,)), Distribution((6,), (3,)), places)
    with pytest.raises(IndexError, match="relabelled: got 3, expected 0 to 2"):
        Plan(Distribution((6,)), Distribution((6,), (3,)), (0, 1, 3))


def test_shapes_are_looked_at_before_relabelling():
    with pytest.raises(ValueError, match="target: its shape"):
        plan(Distribution((6,)), Distribution((5,)), relabel=True)


def test_explain_says_what_relabelling_saved():
    source = Distribution((16, 8), (4, 1))
    target = Distribution((16, 8), (4, 1), (Irregular([0, 1, 5, 9, 16]), Block()), order="F")
    assert plan(source, target, relabel=True).explain(buffers=100).splitlines() == [
        "from            (16, 8) over 4x1 ranks: Block x Block, order C",
        "to              (16, 8) over 4x1 ranks: Irregular([0, 1, 5, 9, 16]) x Block, order F",
        "relabelled      3 of 4 ranks live elsewhere: 384 B move, without it 576 B",
        "kept            640 B (62% of 1.0 KiB)",
        "moved           384 B in 4 messages",
        "largest message 192 B",
        "peak memory     804 B at place 3: source part 256 B, target part 448 B, buffers 100 B",
    ]
    same = plan(source, Distribution((16, 8), (4, 1), order="F"), relabel=True)
    assert same.explain().splitlines()[2:4] == [
        "relabelled      none of 4 ranks: they live at the best places as they are",
        "kept            1.0 KiB (100% of 1.0 KiB)",
    ]


def test_the_same_input_gives_the_same_labels():
    source = Distribution((64, 64), (6, 5), (Cyclic(), BlockCyclic(3)))
    target = Distribution((64, 64), (5, 6))
    assert len({plan(source, target, relabel=True) for _ in range(3)}) == 1
