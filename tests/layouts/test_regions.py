from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Replicated, Section, plan
from layouts.axes import from_plain, to_plain
from layouts.orders import in_order
from layouts.regions import normalize
from tests.layouts import naive
from tests.layouts.strategies import distributions, kinds, shapes


@st.composite
def slices(draw, extent):
    low, high = sorted([draw(st.integers(0, extent)), draw(st.integers(0, extent))])
    return slice(low or None, None if high == extent else high)


@st.composite
def regions(draw):
    """A source, a region of it, and a target for the region."""
    shape = draw(shapes)
    region = tuple(draw(slices(n)) for n in shape)
    inner = tuple(high - low for low, high in normalize(region, shape))
    return draw(distributions(shape)), draw(distributions(inner)), region


@settings(max_examples=500, deadline=None)
@given(regions(), st.booleans())
def test_a_region_arrives_as_if_cut_out_of_the_whole(case, relabel):
    source, target, region = case
    array = naive.labels(source.shape)
    p = plan(source, target, relabel=relabel, region=region)
    results = p.execute(naive.scatter(source, array))
    for part, expected in zip(results, naive.scatter(target, array[region]), strict=True):
        assert np.array_equal(part, expected)
        assert in_order(part, target.order)


@settings(max_examples=300, deadline=None)
@given(regions(), st.integers(1, 16))
def test_all_figures_are_those_of_the_region(case, itemsize):
    source, target, region = case
    p = plan(source, target, region=region)
    ends = normalize(region, source.shape)
    box = np.zeros(source.shape, bool)
    box[region] = True
    labels = np.where(box, naive.labels(source.shape), 0)
    wanted = np.array(
        [
            [np.intersect1d(s, t).size for t in naive.scatter(target, labels[region])]
            for s in naive.scatter(source, labels)
        ]
    )
    matrix = p.matrix(itemsize)
    assert np.all((matrix == wanted * itemsize) | (matrix == 0))
    if Replicated() not in source.axes:
        assert np.array_equal(matrix, wanted * itemsize)
    sizes = [math.prod(target.local_shape(rank)) * itemsize for rank in range(target.size)]
    assert matrix.sum(axis=0).tolist() == sizes
    for rank in range(target.size):
        share = p.incoming(rank)
        assert share.sources.tolist() == np.flatnonzero(matrix[:, rank]).tolist()
        assert share.bytes(itemsize).tolist() == matrix[share.sources, rank].tolist()

    cost, own = p.cost(itemsize), np.eye(source.size, target.size, dtype=bool)
    others = np.where(own, 0, matrix)
    assert (cost.kept, cost.moved) == (matrix[own].sum(), others.sum())
    assert (cost.messages, cost.largest) == (np.count_nonzero(others), others.max())
    together = np.zeros(max(source.size, target.size), int)
    for side in (source, target):  # the source's parts are there as a whole
        for rank in range(side.size):
            together[rank] += naive.memory_size(side, rank) * itemsize
    assert p.memory(itemsize).tolist() == together.tolist()
    assert cost.peak == together.max()
    assert p.region == ends


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2000), st.integers(1, 30), st.integers(1, 30), st.data())
def test_long_sections_of_many_ranks_agree_with_counting(extent, ranks, others, data):
    """Long enough for every way of tallying, and for pieces that repeat."""
    region = data.draw(slices(extent))
    ((low, high),) = normalize([region], (extent,))
    source = Distribution((extent,), (ranks,), [data.draw(kinds(extent, ranks))])
    target = Distribution((high - low,), (others,), [data.draw(kinds(high - low, others))])
    p = plan(source, target, region=[region])
    rank = data.draw(st.integers(0, others - 1))
    indices = np.array(naive.indices(target, rank)[0], int)
    part = np.full(len(indices), -1)
    for sender, (pieces,) in p.incoming(rank):
        held = np.array(naive.indices(source, sender)[0], int)
        for here, there, length in zip(*pieces.expand(), strict=True):
            assert np.all(part[there : there + length] == -1)
            part[there : there + length] = held[here : here + length]
    assert np.array_equal(part, indices + low)
    assert p.matrix(1)[:, rank].sum() == len(indices)


@settings(max_examples=300, deadline=None)
@given(regions())
def test_a_section_is_a_distribution_like_any_other(case):
    source, _, region = case
    section = source.section(region)
    assert section.size == source.size
    array = naive.labels(source.shape)[region]
    parts = section.split(array)
    for rank, (part, expected) in enumerate(zip(parts, naive.scatter(section, array), strict=True)):
        assert np.array_equal(part, expected)
        assert part.shape == section.local_shape(rank)
    if 0 not in section.shape:
        assert np.array_equal(section.join(parts), array)
    assert Distribution.from_dict(section.to_dict()) == section
    again = section.section([slice(n // 3, n) for n in section.shape])
    deep = array[tuple(slice(n // 3, n) for n in section.shape)]
    for part, expected in zip(again.split(deep), naive.scatter(again, deep), strict=True):
        assert np.array_equal(part, expected)


def test_regions_of_huge_axes_stay_closed_form():
    extent = 10**12
    source = Distribution((extent,), (3,), (Cyclic(),))
    target = Distribution((extent // 2 + 1,), (4,), (BlockCyclic(5),))
    p = plan(source, target, region=[slice(7, 8 + extent // 2)])
    share = p.incoming(1)
    assert share.elements.sum() == share.size
    for sender, (pieces,) in share:
        assert pieces.size == p.matrix(1)[sender, 1]
        assert len(pieces.source) < 100


@pytest.mark.parametrize(
    ("region", "error", "text"),
    [
        (3, TypeError, "region: got 3, expected a slice for each axis"),
        (
            [slice(None)],
            ValueError,
            r"region: got 1 slices, expected one for each axis of \(9, 4\)",
        ),
        ([slice(None), 2], TypeError, r"region\[1\]: got 2, expected a slice"),
        ([slice(0, 9, 2), slice(None)], ValueError, r"region\[0\]: its step is 2, expected 1"),
        ([slice(0, 10), slice(None)], ValueError, r"region\[0\]: got 0 to 10, .* within 0 to 9"),
        ([slice(5, 3), slice(None)], ValueError, r"region\[0\]: got 5 to 3, expected rising"),
        ([slice(2, 4), slice(None)], ValueError, r"target: its shape .* region's \(2, 4\)"),
    ],
)
def test_regions_that_do_not_fit_are_refused(region, error, text):
    with pytest.raises(error, match=text):
        plan(Distribution((9, 4)), Distribution((3, 4)), region=region)


def test_sections_say_what_they_are_and_refuse_what_they_cannot_be():
    kind = Section(Irregular([0, 4, 9]), 2, 9)
    assert repr(kind) == "Section(Irregular([0, 4, 9]), 2, 9)"
    assert from_plain(to_plain(kind)) == kind
    with pytest.raises(ValueError, match=r"8 indices from 2 on, .* the whole axis of 9"):
        Distribution((8,), (2,), (kind,))
    with pytest.raises(TypeError, match="Section kind: got 'Block', expected a kind"):
        Section("Block", 0, 3)
    assert Section(Block(), 0, 3).cut(3, 2).counts.tolist() == [2, 1]
