"""Slabs are small enough, not needlessly small, and together the product."""

from itertools import product
from math import prod

import hypothesis.strategies as st
import pytest
from hypothesis import given

from kernels import Pieces, shape, slabs
from tests.kernels.naive import axes, positions


def pairs(pieces):
    """Every element of a product, as (source index, target index)."""
    return list(product(*(zip(*positions(p), strict=True) for p in pieces)))


@given(st.lists(axes(), max_size=3), st.integers(1, 60))
def test_slabs_are_the_product_cut_in_order(pieces, limit):
    while prod(shape(pieces)) > 1000:
        pieces.pop()
    cut = list(slabs(pieces, limit))
    assert [pair for slab in cut for pair in pairs(slab)] == pairs(pieces) or len(pieces) > 1
    assert sorted(pair for slab in cut for pair in pairs(slab)) == sorted(pairs(pieces))
    for slab in cut:
        assert 0 < len(pairs(slab)) <= limit
        assert shape(slab) == tuple(len(positions(p)[0]) for p in slab)


def test_few_slabs_where_few_will_do():
    assert [shape(s) for s in slabs([Pieces.whole(10), Pieces.whole(8)], 32)] == [
        (4, 8),
        (4, 8),
        (2, 8),
    ]
    assert [shape(s) for s in slabs([Pieces.whole(10), Pieces.whole(8)], 80)] == [(10, 8)]


def test_slabs_come_one_at_a_time():
    huge = Pieces([0], [0], [3], 10**12, 5, 3, 3)
    assert shape(next(slabs([huge, huge], 1000))) == (1, 1000)


def test_no_axes_are_one_element_and_nothing_is_no_slab():
    assert list(slabs([], 1)) == [()]
    assert list(slabs([Pieces.whole(3), Pieces.whole(0)], 1)) == []


@pytest.mark.parametrize("limit", [0, -4])
def test_a_limit_must_allow_one_element(limit):
    with pytest.raises(ValueError, match=f"limit must be at least 1 element, got {limit}"):
        slabs([Pieces.whole(3)], limit)
