from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Replicated
from layouts.foreign.intervals import block_of, kind_of, lengths_of, regular
from tests.layouts import naive

lengths = st.one_of(
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.builds(
        lambda size, n, last, empty: [size] * n + [min(size, last)] + [0] * empty,
        *[st.integers(1, 5), st.integers(0, 4), st.integers(0, 5), st.integers(0, 2)],
    ),
)


def dealt(size, extent, ranks):
    return [naive.holds(BlockCyclic(size), extent, ranks, c) for c in range(ranks)]


@given(lengths)
def test_the_kind_gives_each_coordinate_its_interval(lengths):
    ends = list(accumulate(lengths))
    wanted = [list(range(end - n, end)) for n, end in zip(lengths, ends, strict=True)]
    kind, ranks = kind_of(lengths), len(lengths)
    assert [naive.holds(kind, ends[-1], ranks, c) for c in range(ranks)] == wanted
    assert lengths_of(Distribution((ends[-1],), (ranks,), (kind,)), 0) == tuple(lengths)


@given(lengths)
def test_regular_is_what_some_block_size_gives(lengths):
    extent, ranks = sum(lengths), len(lengths)
    bounds = [0, *accumulate(lengths)]
    wanted = [list(range(low, high)) for low, high in pairwise(bounds)]
    size = regular(lengths)
    if size is None:
        assert all(dealt(s, extent, ranks) != wanted for s in range(1, extent + 2))
    else:
        assert dealt(size, extent, ranks) == wanted


@pytest.mark.parametrize(
    ("kind", "extent", "ranks", "block"),
    [
        (BlockCyclic(7), 5, 1, 7),
        (Cyclic(), 9, 2, 1),
        (Block(), 9, 2, 5),
        (Block(), 0, 2, 1),
        (Irregular([0, 4, 8, 9]), 9, 3, 4),
        (Irregular([0, 9]), 9, 1, 9),
        (Replicated(), 9, 1, 9),
    ],
)
def test_the_block_that_deals_the_same(kind, extent, ranks, block):
    distribution = Distribution((extent,), (ranks,), (kind,))
    assert block_of(distribution, 0) == block
    assert dealt(block, extent, ranks) == [
        naive.holds(kind, extent, ranks, c) for c in range(ranks)
    ]


@pytest.mark.parametrize("kind", [Irregular([0, 4, 5, 9]), Irregular([0, 0, 9, 9]), Replicated()])
def test_what_is_not_dealt_in_blocks_is_refused(kind):
    with pytest.raises(ValueError, match=r"axis 1 is .* over 3 coordinates, expected Block or"):
        block_of(Distribution((2, 9), (1, 3), (Block(), kind)), 1)
