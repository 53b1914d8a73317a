from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Distribution, LinkCosts, Place, link_bytes, link_costs, plan
from layouts.links import link_between

places = st.builds(Place, st.sampled_from("ab"), st.integers(0, 2))
sides = st.lists(places, max_size=6)


@settings(max_examples=200, deadline=None)
@given(sides, sides, st.data())
def test_matrices_agree_with_asking_pair_by_pair(sources, targets, data):
    costs = LinkCosts(2, 3, 5)
    wanted = [[getattr(costs, link_between(s, t)) for t in targets] for s in sources]
    found = link_costs(sources, targets, costs)
    assert found.shape == (len(sources), len(targets))
    assert found.tolist() == wanted

    row = st.lists(st.integers(0, 2**60), min_size=len(targets), max_size=len(targets))
    matrix = data.draw(st.lists(row, min_size=len(sources), max_size=len(sources)))
    total = dict.fromkeys(("process", "host", "network"), 0)
    for source, given_bytes in zip(sources, matrix, strict=True):
        for target, number in zip(targets, given_bytes, strict=True):
            total[link_between(source, target)] += number
    shaped = np.array(matrix, np.int64).reshape(found.shape)
    if sum(total.values()) < 2**63:
        assert link_bytes(shaped, sources, targets) == total


@given(places, places)
def test_a_link_is_the_same_both_ways(one, other):
    assert link_between(one, other) == link_between(other, one)
    assert (link_between(one, other) == "process") == (one == other)
    assert (link_between(one, other) == "network") == (one.host != other.host)


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"matrix: its shape is \(1, 1\), expected \(1, 2\)"):
        link_bytes([[1]], [Place("a", 0)], [Place("a", 0), Place("b", 0)])


def test_relabelling_by_links_keeps_bytes_off_the_network():
    hosts = [Place("ab"[rank // 4], rank) for rank in range(8)]
    source, target = Distribution((64, 64), (8, 1)), Distribution((64, 64), (2, 4))
    turned = hosts[::-1]  # target rank k lives on the other host

    def network(p):
        at = [turned[place] for place in p.places]
        return link_bytes(p.matrix(8), hosts, at)["network"]

    better = plan(source, target, relabel=True, links=link_costs(hosts, turned))
    assert network(plan(source, target)) == 64 * 64 * 8
    assert network(better) == 0
