from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import (
    Block,
    BlockCyclic,
    Cyclic,
    Distribution,
    Irregular,
    Replicated,
    TiledArray,
    overlay,
    plan,
)
from layouts.orders import in_order
from tests.layouts import naive
from tests.layouts.strategies import kinds, pairs

DTYPES = ["u1", "<i2", ">f4", "f8", "c16", [("a", "u1"), ("b", ">f8")], "S3", "M8[ns]"]


@settings(max_examples=2000, deadline=None)
@given(pairs())
def test_execute_gives_the_targets_own_scatter(pair):
    source, target = pair
    array = naive.labels(source.shape)
    results = plan(source, target).execute(naive.scatter(source, array))
    assert len(results) == target.size
    for rank, (part, expected) in enumerate(
        zip(results, naive.scatter(target, array), strict=True)
    ):
        assert part.shape == target.local_shape(rank)
        assert np.array_equal(part, expected)
        assert in_order(part, target.order)


@settings(max_examples=200, deadline=None)
@given(pairs(), st.sampled_from(DTYPES), st.integers(1, 3))
def test_execute_moves_any_dtype_raw(pair, dtype, threads):
    source, target = pair
    array = np.zeros(source.shape, dtype)
    array.view(np.uint8) if array.ndim and array.size else None
    raw = np.random.default_rng(0).integers(0, 256, array.nbytes, np.uint8)
    array = np.frombuffer(raw.tobytes(), dtype, count=array.size).reshape(source.shape)
    results = plan(source, target).execute(naive.scatter(source, array), threads=threads)
    for part, expected in zip(results, naive.scatter(target, array), strict=True):
        assert part.dtype == expected.dtype
        assert np.asarray(part).tobytes() == expected.tobytes()


@settings(max_examples=500, deadline=None)
@given(pairs(), st.integers(1, 16))
def test_matrix_counts_what_each_pair_shares(pair, itemsize):
    source, target = pair
    matrix = plan(source, target).matrix(itemsize)
    wanted = naive.matrix(source, target) * itemsize
    if not any(isinstance(kind, Replicated) for kind in source.axes):
        assert np.array_equal(matrix, wanted)
    # A replicated source's copies share the work, each element read once.
    assert np.all((matrix == wanted) | (matrix == 0))
    parts = [math.prod(target.local_shape(rank)) * itemsize for rank in range(target.size)]
    assert matrix.sum(axis=0).tolist() == parts


@settings(max_examples=500, deadline=None)
@given(pairs())
def test_incoming_is_a_column_of_the_matrix(pair):
    source, target = pair
    p = plan(source, target)
    matrix = p.matrix(3)
    for rank in range(target.size):
        share = p.incoming(rank)
        column = matrix[:, rank]
        assert share.sources.tolist() == np.flatnonzero(column).tolist()
        assert share.bytes(3).tolist() == column[column > 0].tolist()
        assert len(share) == np.count_nonzero(column)
        for sender, pieces in share:
            assert math.prod(axis.size for axis in pieces) * 3 == column[sender]


@settings(max_examples=500, deadline=None)
@given(pairs(), st.integers(1, 7))
def test_tallies_in_batches_are_those_in_one(pair, batch):
    source, target = pair
    wanted = plan(source, target).matrix(1)
    with mock.patch.object(overlay, "_BATCH", batch):
        p = plan(source, target)
        assert np.array_equal(p.matrix(1), wanted)
        for rank in range(target.size):
            column = wanted[:, rank]
            assert p.incoming(rank).elements.tolist() == column[column > 0].tolist()


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 3000), st.integers(1, 40), st.integers(1, 40), st.data())
def test_long_axes_of_many_ranks_agree_with_counting(extent, ranks, others, data):
    """Long enough for every way of tallying to be the cheapest at times."""
    source = data.draw(kinds(extent, ranks).filter(lambda kind: kind != Replicated()))
    target = data.draw(kinds(extent, others).filter(lambda kind: kind != Replicated()))
    p = plan(
        Distribution((extent,), (ranks,), (source,)), Distribution((extent,), (others,), (target,))
    )
    here = np.concatenate([np.full(len(i), r) for r, i in owned(source, extent, ranks)])
    there = np.concatenate([np.full(len(i), r) for r, i in owned(target, extent, others)])
    order = np.argsort(np.concatenate([i for _, i in owned(source, extent, ranks)]))
    other = np.argsort(np.concatenate([i for _, i in owned(target, extent, others)]))
    wanted = np.zeros((ranks, others), int)
    np.add.at(wanted, (here[order], there[other]), 1)
    assert np.array_equal(p.matrix(1), wanted)
    rank = data.draw(st.integers(0, others - 1))
    share = p.incoming(rank)
    assert share.elements.tolist() == wanted[:, rank][wanted[:, rank] > 0].tolist()


def owned(kind, extent, ranks):
    return [(rank, np.array(naive.holds(kind, extent, ranks, rank), int)) for rank in range(ranks)]


@settings(max_examples=300, deadline=None)
@given(pairs())
def test_ranks_that_hold_a_copy_read_their_own(pair):
    source, target = pair
    matrix = plan(source, target).matrix(1)
    for rank in range(min(source.size, target.size)):
        if [set(i) for i in naive.indices(source, rank)] == [set(range(n)) for n in source.shape]:
            others = np.delete(matrix[:, rank], rank)
            assert not others.any()


@settings(max_examples=500, deadline=None)
@given(pairs(), st.integers(1, 16))
def test_cost_agrees_with_the_matrix(pair, itemsize):
    source, target = pair
    p = plan(source, target)
    cost, matrix = p.cost(itemsize), p.matrix(itemsize)
    own = np.eye(source.size, target.size, dtype=bool)
    others = np.where(own, 0, matrix)
    assert cost.kept == matrix[own].sum()
    assert cost.moved == others.sum()
    assert cost.messages == np.count_nonzero(others)
    assert cost.largest == others.max()
    sizes = np.zeros(max(source.size, target.size), int)
    for side in (source, target):
        for rank in range(side.size):
            part = side.empty(rank, f"V{itemsize}")  # what really is allocated
            sizes[rank] += (part.tiles if isinstance(part, TiledArray) else part).nbytes
    assert cost.peak == sizes.max()


def test_a_million_ranks_on_each_side_cost_one_rank_milliseconds_and_megabytes():
    # The bytes are checked here, the milliseconds in benchmarks/.
    import tracemalloc

    shape, grid = (10**7, 10**7), (1000, 1000)
    ways = [Block(), BlockCyclic(64), BlockCyclic(67), Cyclic()]
    ways.append(Irregular([0, *range(5, 10**7, 10_000)[:999], 10**7]))
    for one in ways:
        for other in ways:
            p = plan(
                Distribution(shape, grid, (one, other)), Distribution(shape, grid, (other, one))
            )
            tracemalloc.start()
            share = p.incoming(123_456)
            assert share.elements.sum() == share.size
            first = int(share.sources[0])
            pieces = share.pieces(first)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert math.prod(axis.size for axis in pieces) == share.elements[0]
            # 8 MB of it each are the million source ranks and what they send, where all do.
            assert peak < 10e6 + 4 * 8 * len(share), (one, other, peak)


@pytest.mark.parametrize("extent", [10**12, 10**12 + 7])
def test_extents_far_beyond_int32_stay_closed_form(extent):
    source = Distribution((extent,), (3,), (Cyclic(),))
    target = Distribution((extent,), (4,), (BlockCyclic(5),))
    for one, other in [(source, target), (target, source), (source, Distribution((extent,), (7,)))]:
        p = plan(one, other)
        assert p.matrix(1).sum() == extent
        share = p.incoming(1)
        assert share.elements.sum() == share.size
        for sender, (pieces,) in share:
            assert pieces.size == p.matrix(1)[sender, 1]
            assert len(pieces.source) < 100


def test_explain_says_what_stays_and_what_moves():
    source = Distribution((8192, 8192), (2, 2), (BlockCyclic(64), BlockCyclic(64)))
    target = Distribution((8192, 8192), (4, 1), (Block(), Replicated()), order="F")
    text = plan(source, target).explain()
    assert text.splitlines() == [
        "from            (8192, 8192) over 2x2 ranks: BlockCyclic(64) x BlockCyclic(64), order C",
        "to              (8192, 8192) over 4x1 ranks: Block x Replicated, order F",
        "kept            128.0 MiB (25% of 512.0 MiB)",
        "moved           384.0 MiB in 12 messages",
        "largest message 32.0 MiB",
        "peak memory     256.0 MiB at rank 0: source part 128.0 MiB, target part 128.0 MiB",
    ]


def test_plan_refuses_different_shapes():
    with pytest.raises(ValueError, match=r"target: its shape is \(3,\), expected .* \(4,\)"):
        plan(Distribution((4,)), Distribution((3,)))
    with pytest.raises(TypeError, match="target: got 'F', expected a Distribution"):
        plan(Distribution((4,)), "F")


def test_execute_refuses_parts_that_do_not_fit():
    p = plan(Distribution((5,), (2,)), Distribution((5,)))
    with pytest.raises(ValueError, match="parts: got 1, expected 2"):
        p.execute([np.zeros(5)])
    with pytest.raises(ValueError, match=r"parts\[1\]: its shape is \(3,\), expected \(2,\)"):
        p.execute([np.zeros(3), np.zeros(3)])
    with pytest.raises(ValueError, match=r"parts\[1\]: its dtype is float32, expected float64"):
        p.execute([np.zeros(3), np.zeros(2, "f4")])
    with pytest.raises(TypeError, match="object"):
        p.execute([np.zeros(3, object), np.zeros(2, object)])


def test_a_share_that_is_asked_for_again_is_found_once():
    source, target = Distribution((12,), (3,), (BlockCyclic(2),)), Distribution((12,), (2,))
    first = plan(source, target).incoming(1)
    assert plan(source, target).incoming(1) is first
    assert first.pieces(2) == first.pieces(2)
    assert plan(source, target, region=[slice(0, 12)]).incoming(1) is not first
    others = [plan(source, Distribution((12,), (n + 1,))).incoming(n) for n in range(3, 12)]
    assert all(share is not first for share in others)


def test_matrix_and_incoming_refuse_what_is_out_of_range():
    p = plan(Distribution((5,), (2,)), Distribution((5,), (3,)))
    with pytest.raises(ValueError, match="itemsize: got 0"):
        p.matrix(0)
    for rank in (-1, 3):
        with pytest.raises(IndexError, match=f"rank: got {rank}, expected 0 to 2"):
            p.incoming(rank)
    huge = Distribution((10**7, 10**7), (1000, 1000))
    with pytest.raises(MemoryError, match="1000000 x 1000000 ranks"):
        plan(huge, huge).matrix(8)
