"""Messages: both sides' sequence, the bytes in them, and going on where one broke off."""

from __future__ import annotations

from math import prod
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from layouts import Distribution, plan
from layouts.orders import in_order, slowest_first
from maestro.transport import packing
from maestro.transport.packing import as_it_lies, messages, nbytes, pack, unpack
from maestro.transport.payload import message_order
from tests.layouts import naive, strategies

DTYPES = ["u1", ">i2", "f4", "c16", "S3", [("a", "u1"), ("b", "f8")]]


def pairs_of(way):
    found = [(t, int(s)) for t in range(way.target.size) for s in way.incoming(t).sources]
    return np.array(found, np.int64).reshape(-1, 2)


@settings(max_examples=50)
@given(
    strategies.pairs(),
    st.sampled_from(DTYPES),
    st.integers(1, 300),
    st.integers(1, 100),
    st.data(),
)
def test_messages_carry_everything_once_in_bounded_memory(pair, dtype, chunk, run, data):
    source, target = pair
    axes = st.permutations(range(source.ndim)).map(tuple)
    order = data.draw(st.just(message_order(source.order)) | axes)
    way, dtype = plan(source, target), np.dtype(dtype)
    array = naive.labels(source.shape).astype("u1").astype("S3" if dtype.kind == "S" else "u1")
    array = array.astype(dtype)
    sent = dict(enumerate(source.split(array)))
    poison = np.frombuffer(bytes([0xA5]) * dtype.itemsize, dtype)[0]
    filled = {}
    for rank in range(target.size):
        filled[rank] = target.empty(rank, dtype)
        naive.fill(filled[rank], poison)
    pairs = pairs_of(way)
    with patch.multiple(packing, GIVEN=run, TAKEN=run):
        sequence = list(messages(way, pairs, dtype.itemsize, order, chunk))
    for message in sequence:
        size = nbytes(message)
        assert 0 < size <= max(chunk, dtype.itemsize)
        guard = np.full(size + 2, 0xA5, np.uint8)
        memory = guard[1:-1]
        view = as_it_lies(message, sent[message[0].source], order)
        if view is None:
            pack(message, sent, order, memory)
        else:
            assert np.shares_memory(view, sent[message[0].source])
            memory[...] = view
        assert guard[0] == guard[-1] == 0xA5
        unpack(message, filled, order, memory)
    for rank, wanted in enumerate(naive.scatter(target, array)):
        assert np.asarray(filled[rank]).tobytes() == np.asarray(wanted, dtype).tobytes()
        assert in_order(filled[rank], target.order)


@settings(max_examples=30)
@given(strategies.pairs(), st.integers(1, 100), st.data())
def test_a_second_stream_goes_on_where_the_first_broke_off(pair, chunk, data):
    way, order = plan(*pair), message_order(pair[0].order)
    pairs = pairs_of(way)
    slabs = [slab for message in messages(way, pairs, 8, order, chunk) for slab in message]
    if not slabs:
        return
    broken = data.draw(st.integers(0, len(slabs) - 1))
    last = slabs[broken]
    again = messages(way, pairs[last.pair :], 8, order, chunk, last.number + 1)
    rest = [slab for message in again for slab in message]
    assert [(s.target, s.source, s.number) for s in rest] == [
        (s.target, s.source, s.number) for s in slabs[broken + 1 :]
    ]


def test_small_neighbours_share_a_message():
    source, target = Distribution((64,), (64,)), Distribution((64,), (4,))
    way = plan(source, target)
    sequence = list(messages(way, pairs_of(way), 8, "C", 128))
    assert [len(message) for message in sequence] == [16] * 4


def run(extents, shape, order):
    """Bytes of doubles that lie together where a box of these extents is cut out."""
    size = 8
    for axis in reversed(slowest_first(order, len(shape))):
        size *= extents[axis]
        if extents[axis] < shape[axis]:
            break
    return size


@given(st.data())
def test_what_is_cut_out_lies_in_long_runs_at_both_ends(data):
    """However far apart rows and columns lie in a large array."""
    places = st.integers(0, 24)
    ends = sorted(data.draw(st.lists(places, min_size=1, max_size=3)))
    powers = [high - low for low, high in zip([0, *ends], [*ends, 24], strict=True)]
    shape = [max(1, (1 << power) - data.draw(st.integers(0, 3))) for power in powers]
    orders = st.permutations(range(len(shape))).map(tuple)
    source, target = data.draw(orders), data.draw(orders)
    way = plan(Distribution(shape, order=source), Distribution(shape, order=target))
    (slab, *_), *_ = messages(way, np.zeros((1, 2), np.int64), 8, source, 8 << 20)
    extents = kernels.shape(slab.pieces)
    assert run(extents, shape, source) >= min(packing.GIVEN, 8 * prod(shape))
    assert run(extents, shape, target) >= min(packing.TAKEN // 2, 8 * prod(shape))
