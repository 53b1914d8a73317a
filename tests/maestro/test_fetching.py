"""Where a demand looks for parts when nodes say nothing."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from layouts import Block, Cyclic, Distribution, Replicated
from maestro.transport.fetching import Whereabouts

NODES = [f"node-{number}" for number in range(4)]


@st.composite
def places(draw):
    """A layout, who has copies of which rank's part, and of these the first that is asked."""
    grid = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    kinds = draw(st.tuples(*[st.sampled_from([Block(), Cyclic(), Replicated()])] * 2))
    layout = Distribution((9, 7), grid, kinds)
    some = st.lists(st.sampled_from(NODES), min_size=1, max_size=2, unique=True)
    having = draw(st.lists(some, min_size=layout.size, max_size=layout.size))
    copies = {rank: nodes for rank, nodes in enumerate(having) if len(nodes) > 1}
    return layout, having, Whereabouts([nodes[0] for nodes in having], copies=copies)


@given(places(), st.sets(st.sampled_from(NODES)))
def test_silent_nodes_are_passed_over_where_others_have_the_same(placed, silent):
    layout, having, where = placed
    found = where.without(silent, layout)
    for rank in range(layout.size):
        holder = found.instead.get(rank, rank)
        assert found.nodes[rank] in having[holder]
        held = [layout.indices(each) for each in (rank, holder)]
        assert all(np.array_equal(*each) for each in zip(*held, strict=True))
        if where.nodes[rank] not in silent:
            assert (found.nodes[rank], holder) == (where.nodes[rank], rank)
        elif found.nodes[rank] in silent:  # then all who have it are
            place = layout.coordinates(rank)
            twins = [
                each
                for each in range(layout.size)
                if all(
                    isinstance(kind, Replicated) or here == there
                    for kind, here, there in zip(
                        layout.axes, place, layout.coordinates(each), strict=True
                    )
                )
            ]
            assert all(set(having[each]) <= silent for each in twins)
