"""Messages: both sides' sequence, the bytes in them, and going on where one broke off."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Distribution, plan
from layouts.orders import in_order
from maestro.transport.packing import as_it_lies, messages, nbytes, pack, unpack
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
)
def test_messages_carry_everything_once_in_bounded_memory(pair, dtype, chunk):
    source, target = pair
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
    for message in messages(way, pairs, dtype.itemsize, chunk):
        size = nbytes(message)
        assert 0 < size <= max(chunk, dtype.itemsize)
        guard = np.full(size + 2, 0xA5, np.uint8)
        memory = guard[1:-1]
        view = as_it_lies(message, sent[message[0].source], target.order)
        if view is None:
            pack(message, sent, target.order, memory)
        else:
            assert np.shares_memory(view, sent[message[0].source])
            memory[...] = view
        assert guard[0] == guard[-1] == 0xA5
        unpack(message, filled, target.order, memory)
    for rank, wanted in enumerate(naive.scatter(target, array)):
        assert np.asarray(filled[rank]).tobytes() == np.asarray(wanted, dtype).tobytes()
        assert in_order(filled[rank], target.order)


@settings(max_examples=30)
@given(strategies.pairs(), st.integers(1, 100), st.data())
def test_a_second_stream_goes_on_where_the_first_broke_off(pair, chunk, data):
    way = plan(*pair)
    pairs = pairs_of(way)
    slabs = [slab for message in messages(way, pairs, 8, chunk) for slab in message]
    if not slabs:
        return
    broken = data.draw(st.integers(0, len(slabs) - 1))
    last = slabs[broken]
    again = messages(way, pairs[last.pair :], 8, chunk, last.number + 1)
    rest = [slab for message in again for slab in message]
    assert [(s.target, s.source, s.number) for s in rest] == [
        (s.target, s.source, s.number) for s in slabs[broken + 1 :]
    ]


def test_small_neighbours_share_a_message():
    source, target = Distribution((64,), (64,)), Distribution((64,), (4,))
    way = plan(source, target)
    sequence = list(messages(way, pairs_of(way), 8, 128))
    assert [len(message) for message in sequence] == [16] * 4
