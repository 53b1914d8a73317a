from __future__ import annotations

from itertools import chain

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Replicated
from layouts.foreign.dask_chunks import from_chunks, to_chunks
from tests.layouts import naive
from tests.layouts.strategies import distributions, shapes

lengths = st.one_of(
    st.lists(st.integers(0, 7), min_size=1, max_size=5),
    st.builds(lambda n, size: [size] * n + [1], st.integers(0, 4), st.integers(1, 4)),
).map(tuple)
chunkings = st.lists(lengths, max_size=4).map(tuple)


@settings(max_examples=300)
@given(chunkings)
def test_every_rank_holds_the_slices_of_its_dask_block(chunks):
    distribution = from_chunks(chunks)
    slices = list(da.core.slices_from_chunks(chunks))  # a C-order product over the blocks
    assert distribution.size == len(slices)
    array = naive.labels(distribution.shape)
    for rank, block in enumerate(slices):
        part = array[np.ix_(*distribution.indices(rank))]
        assert np.array_equal(part, array[block])


@pytest.mark.parametrize(
    "chunks",
    [
        (),
        ((3, 3, 2),),
        ((2, 1), (3, 0, 1), (1, 2, 3, 1)),
        ((1, 2), (2, 2, 1), (3,), (0, 4)),
    ],
)
def test_parts_are_what_dask_computes_for_its_blocks(chunks):
    shape = tuple(map(sum, chunks))
    array = naive.labels(shape)
    blocks = da.from_array(array, chunks=chunks)
    parts = from_chunks(blocks.chunks).split(array)
    for index in np.ndindex(*blocks.numblocks):
        rank = int(np.ravel_multi_index(index, blocks.numblocks)) if index else 0
        block = blocks.blocks[index].compute() if index else blocks.compute()
        assert np.array_equal(parts[rank], block)
    assert len(parts) == len(blocks.to_delayed().ravel())


@given(chunkings, st.sampled_from("CF"))
def test_chunks_come_back(chunks, order):
    distribution = from_chunks(chunks, order)
    assert to_chunks(distribution) == chunks
    assert distribution.order == Distribution(distribution.shape, order=order).order
    assert from_chunks(to_chunks(distribution), order) == distribution


@settings(max_examples=300)
@given(shapes.flatmap(distributions))
def test_what_dask_can_say_keeps_its_parts_and_the_rest_is_refused(distribution):
    dims = list(zip(distribution.axes, distribution.shape, distribution.grid, strict=True))
    held = [[naive.holds(kind, n, p, c) for c in range(p)] for kind, n, p in dims]
    sayable = all(
        list(chain(*intervals)) == list(range(n)) and not (isinstance(kind, Replicated) and p > 1)
        for intervals, (kind, n, p) in zip(held, dims, strict=True)
    )
    if not sayable:
        with pytest.raises(ValueError, match=r"axis . is .*expected one interval"):
            to_chunks(distribution)
        return
    chunks = to_chunks(distribution)
    assert chunks == tuple(tuple(map(len, intervals)) for intervals in held)
    again = from_chunks(chunks, distribution.order)
    assert [naive.indices(again, r) for r in range(again.size)] == [
        naive.indices(distribution, r) for r in range(distribution.size)
    ]


def test_regular_axes_are_block_cyclic_and_all_others_irregular():
    distribution = from_chunks(((4, 4, 1), (4, 4, 0), (4, 1, 4), (5,), (0,)))
    assert distribution.axes == (
        BlockCyclic(4),
        BlockCyclic(4),
        Irregular([0, 4, 5, 9]),
        BlockCyclic(5),
        Cyclic(),
    )
    assert from_chunks(((3, 3, 2),)).cuts == Distribution((8,), grid=(3,)).cuts


def test_dask_arrays_can_be_cut_by_what_comes_out():
    distribution = Distribution((7, 6, 5), (2, 3, 2), (Block(), BlockCyclic(2), Block()))
    array = naive.labels(distribution.shape)
    blocks = da.from_array(array, chunks=to_chunks(distribution))
    assert blocks.numblocks == distribution.grid
    parts = [block.compute() for block in blocks.to_delayed().ravel()]
    assert np.array_equal(distribution.join(parts), array)


@pytest.mark.parametrize(
    ("chunks", "error", "message"),
    [
        (
            ((3, 3), 4),
            TypeError,
            r"chunks: got .*expected one tuple of chunk lengths for each axis",
        ),
        (4, TypeError, "chunks: got 4, expected one tuple"),
        (((3, 3), ()), ValueError, r"chunks\[1\]: got \(\), expected at least one"),
        (((3, -1),), ValueError, r"chunks\[0\]\[1\]: got -1, expected 0 or more"),
        (((3, 1.5),), TypeError, r"chunks\[0\]\[1\]: got 1.5, expected an integer"),
        (
            ((2,), (3, float("nan"))),
            ValueError,
            r"chunks\[1\]\[1\]: got nan, .*compute_chunk_sizes",
        ),
    ],
)
def test_what_are_no_chunks_is_refused(chunks, error, message):
    with pytest.raises(error, match=message):
        from_chunks(chunks)


def test_unknown_chunks_of_dask_itself_are_refused_until_computed():
    array = da.arange(10, chunks=4)
    some = array[array % 3 == 0]
    with pytest.raises(ValueError, match="expected a known length"):
        from_chunks(some.chunks)
    assert from_chunks(some.compute_chunk_sizes().chunks).shape == (4,)


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (
            Replicated(),
            r"axis 1 is Replicated\(\) over 2 coordinates and each holds the whole axis",
        ),
        (Cyclic(), r"axis 1 is Cyclic\(\) over 2 coordinates and 0 holds several blocks"),
    ],
)
def test_an_axis_without_intervals_is_named(axis, message):
    with pytest.raises(ValueError, match=message):
        to_chunks(Distribution((6, 6), (1, 2), (Block(), axis)))
