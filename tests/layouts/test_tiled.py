"""Arrays in tiles against a formula worked out element by element."""

from __future__ import annotations

import json
import pickle
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import Pieces
from layouts import Block, BlockCyclic, Distribution, Tiled, TiledArray, convert, plan
from layouts import tiled as tiled_module
from layouts.orders import empty, from_plain, in_order, normalize, padded, to_plain
from layouts.tiled import move
from tests.kernels.naive import DTYPES, POISON, Memory, axes, elements, memories, naive_move
from tests.layouts import naive
from tests.layouts.strategies import orders, pairs, shapes, tiled

GUARD = 64


def raw(shape, dtype, seed=0):
    """An array of random bytes."""
    count = int(np.prod(shape, dtype=int))
    data = np.random.default_rng(seed).integers(0, 256, count * dtype.itemsize, np.uint8)
    return np.frombuffer(data.tobytes(), dtype, count).reshape(shape)


def guarded(shape, order, dtype):
    """An array in tiles within poisoned memory, and that memory."""
    _, size = naive.lies_at(shape, order)
    buffer = np.full(size * dtype.itemsize + 2 * GUARD, POISON, np.uint8)
    memory = buffer[GUARD : GUARD + size * dtype.itemsize]
    return TiledArray.from_memory(memory, shape, order, dtype), buffer


def bytes_wanted(array, order):
    """The whole guarded buffer, where an array lies in tiles and nothing else is written."""
    places, size = naive.lies_at(array.shape, order)
    memory = np.full((size, array.itemsize), POISON, np.uint8)
    memory[places] = elements(array)
    guard = np.full(GUARD, POISON, np.uint8)
    return np.concatenate([guard, memory.ravel(), guard])


@settings(max_examples=80, deadline=None)
@given(shapes, st.sampled_from(DTYPES), st.data())
def test_every_element_lies_where_the_formula_says(shape, dtype, data):
    source = data.draw(memories(shape, dtype))
    source.fill(1)
    order = data.draw(tiled(len(shape)))
    out, buffer = guarded(shape, order, dtype)
    assert convert(source.array, order, out=out) is out
    assert np.array_equal(buffer, bytes_wanted(source.array, order))
    result = convert(source.array, order)
    places, size = naive.lies_at(shape, order)
    memory = np.zeros((size, dtype.itemsize), np.uint8)
    memory[places] = elements(source.array)
    assert result.memory.tobytes() == memory.tobytes()  # padding is zero


@settings(max_examples=80, deadline=None)
@given(shapes, st.sampled_from(DTYPES), st.data())
def test_back_and_to_other_tiles(shape, dtype, data):
    array = raw(shape, dtype)
    first, second = data.draw(tiled(len(shape))), data.draw(orders(len(shape)))
    source = convert(array, first)
    before = source.memory.tobytes()
    threads = data.draw(st.sampled_from([None, 1, 3]))
    result = convert(source, second, threads=threads)
    assert in_order(result, second)
    plain = convert(result) if isinstance(second, Tiled) else result
    assert np.array_equal(elements(np.asarray(plain)), elements(array))
    assert source.memory.tobytes() == before
    if isinstance(second, Tiled):
        out, buffer = guarded(shape, second, dtype)
        convert(source, second, out=out)
        assert np.array_equal(buffer, bytes_wanted(array, second))
    else:
        out = data.draw(memories(shape, dtype))
        move(out.array, source, [Pieces.whole(n) for n in shape])
        assert np.array_equal(elements(out.array), elements(array))
        out.poison_array()
        assert (out.buffer == POISON).all()


@settings(max_examples=80, deadline=None)
@given(st.lists(axes(), min_size=1, max_size=3), st.data())
def test_any_product_of_pieces_moves_between_tiles(pieces, data):
    dtype = np.dtype("u2")
    source_shape, target_shape = (
        tuple(extent[1] + data.draw(st.integers(0, 2)) for extent in side)
        for side in zip(*((p.source_extent, p.target_extent) for p in pieces), strict=True)
    )
    n = len(pieces)
    source, before = raw(source_shape, dtype), raw(target_shape, dtype, 7)
    expected = naive_move(before, source, pieces)
    largest = data.draw(st.sampled_from([1 << 62, 6000, 1000]))
    with mock.patch.object(tiled_module, "LARGEST_VIEW", largest):
        for first, second in [
            (data.draw(orders(n)), data.draw(tiled(n))),
            (data.draw(tiled(n)), data.draw(orders(n))),
        ]:
            target = convert(before, second)
            held = target.memory.copy() if isinstance(second, Tiled) else None
            move(target, convert(source, first), pieces, data.draw(st.sampled_from([1, 2])))
            assert np.array_equal(elements(np.asarray(target)), expected)
            if held is not None:  # padding is left alone
                inside = np.zeros(len(held) // 2, bool)
                inside[naive.lies_at(target_shape, second)[0]] = True
                assert np.array_equal(held.view(dtype)[~inside], target.memory.view(dtype)[~inside])


def test_more_axes_than_one_view_can_span():
    """Views with gaps multiply to more bytes than NumPy counts; they are then moved in parts."""
    array = raw((24, 20, 28, 22, 3), np.dtype("f8"))
    order = Tiled((4, 5, 7, 4, 2), inner="F")
    with mock.patch.object(tiled_module, "LARGEST_VIEW", 1 << 30):
        result = convert(array, order)
    assert result.memory.tobytes() == convert(array, order).memory.tobytes()
    for there, index in ((result.tiles[1, 2, 3, 4, 0, 1, 2, 3, 1, 1], (5, 12, 24, 17, 1)),):
        assert there.tobytes() == array[index].tobytes()
    assert np.asarray(result).tobytes() == array.tobytes()


@settings(max_examples=80, deadline=None)
@given(pairs(), st.integers(1, 3))
def test_parts_of_a_distribution_may_lie_in_tiles(pair, threads):
    source, target = pair
    array = naive.labels(source.shape)
    parts = source.split(array, threads)
    for rank, part in enumerate(parts):
        assert in_order(part, source.order)
        assert in_order(source.empty(rank, "i4"), source.order)
        memory = part.memory.nbytes if isinstance(part, TiledArray) else part.nbytes
        assert memory == source.local_size(rank) * array.itemsize
    results = plan(source, target).execute(parts, threads)
    for part, expected in zip(results, naive.scatter(target, array), strict=True):
        assert in_order(part, target.order)
        assert np.array_equal(part, expected)
    whole = target.join(results)
    assert in_order(whole, target.order)
    assert np.array_equal(whole, array)


def test_cost_counts_padding_as_memory_but_not_as_moved():
    plain = Distribution((10, 10), (2, 1))
    padding = Distribution((10, 10), (2, 1), order=Tiled((4, 4)))
    cost = plan(plain, padding).cost(8)
    assert cost.peak == 8 * (5 * 10 + 8 * 12)
    assert (cost.kept, cost.moved) == (800, 0)


def test_memory_is_taken_without_a_copy():
    order = Tiled((2, 2), inner="F")
    memory = np.arange(24.0)
    array = TiledArray.from_memory(memory, (3, 5), order)
    assert np.shares_memory(array.tiles, memory)
    memory[2] = -1
    assert np.asarray(array)[0, 1] == -1
    again = TiledArray.from_memory(array.tiles, (3, 5), order)
    assert np.shares_memory(again.tiles, memory)
    assert np.array_equal(np.asarray(again), np.asarray(array))
    packed = bytearray(memory.tobytes())
    third = TiledArray.from_memory(packed, (3, 5), order, dtype="f8")
    packed[:] = bytes(len(packed))
    assert not np.asarray(third).any()
    assert third.tiles.shape == (2, 3, 2, 2)
    assert (third.nbytes, third.size, third.ndim) == (24 * 8, 15, 2)


@pytest.mark.parametrize(
    ("memory", "dtype", "error", "message"),
    [
        (np.zeros(23), None, ValueError, r"got 23 elements .* expected 24: \(2, 3\) tiles"),
        (bytes(23), "f8", ValueError, "got 23 bytes, expected 192: 24 elements"),
        (np.zeros((4, 6)), None, ValueError, r"its shape is \(4, 6\), expected one dimension, or"),
        (np.zeros(48)[::2], None, ValueError, r"its strides are \(16,\), expected memory without"),
        (np.zeros((2, 3, 2, 2), order="F"), None, ValueError, "expected memory without gaps"),
        (7, None, TypeError, "memory: got int, expected an array or a buffer"),
        (np.zeros(24, object), None, TypeError, "memory has dtype object"),
    ],
)
def test_memory_that_does_not_fit_is_refused(memory, dtype, error, message):
    with pytest.raises(error, match=message):
        TiledArray.from_memory(memory, (3, 5), Tiled((2, 2)), dtype)


def test_a_plain_array_of_it_is_a_copy():
    array = convert(np.arange(6).reshape(2, 3), Tiled((2, 2)))
    assert np.asarray(array, "f4").dtype == np.float32
    assert not np.shares_memory(np.asarray(array), array.tiles)
    with pytest.raises(ValueError, match="always a copy"):
        np.asarray(array, copy=False)


@given(st.integers(0, 4).flatmap(tiled))
def test_an_order_is_a_value_and_survives_being_written_down(order):
    assert from_plain(json.loads(json.dumps(to_plain(order)))) == order
    assert pickle.loads(pickle.dumps(order)) == order
    assert hash(Tiled(list(order.tiles), order.inner, order.outer)) == hash(order)
    assert eval(repr(order)) == order
    assert normalize(order, order.ndim) is order
    distribution = Distribution((7,) * order.ndim, order=order)
    words = json.loads(json.dumps(distribution.to_dict()))
    assert Distribution.from_dict(words) == distribution
    assert str(distribution).endswith(f"order {order}")


def test_equal_orders_have_one_spelling():
    assert Tiled((2, 3), inner=(1, 0), outer=[0, 1]) == Tiled((2, 3), "F")
    assert Tiled((2, 3)) != Tiled((2, 3), outer="F")
    assert not in_order(np.zeros((4, 6)), Tiled((2, 3)))
    assert padded((5, 5), Tiled((2, 3))) == (6, 6)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Tiled((2, 0)), ValueError, "tiles: got 0, expected 1 or more"),
        (lambda: Tiled(3), TypeError, "tiles: got 3, expected one integer for each axis"),
        (lambda: Tiled((2.5,)), TypeError, "tiles: got .2.5,., expected one integer"),
        (lambda: Tiled((2, 2), inner="K"), ValueError, "inner: got 'K'"),
        (lambda: Tiled((2, 2), outer=(0, 0)), ValueError, r"outer: got \(0, 0\)"),
        (lambda: Distribution((4,), order=Tiled((2, 2))), ValueError, "expected tiles of 1 axes"),
        (lambda: convert(np.zeros(3), Tiled((2, 2))), ValueError, "expected tiles of 1 axes"),
        (lambda: empty((3, 3), "f8", Tiled((2,))), ValueError, "expected tiles of 2 axes"),
    ],
)
def test_what_is_no_order_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_moves_that_do_not_fit_are_refused():
    array = convert(np.zeros((3, 5)), Tiled((2, 2)))
    whole = [Pieces.whole(3), Pieces.whole(5)]
    with pytest.raises(ValueError, match=r"pieces\[0\] reach from index 0 to 3 of target"):
        move(array, np.zeros((4, 5)), [Pieces.whole(4), Pieces.whole(5)])  # that is padding
    with pytest.raises(TypeError, match="target has dtype float64, but source has float32"):
        move(array, np.zeros((3, 5), "f4"), whole)
    with pytest.raises(ValueError, match="pieces for 1 axes"):
        move(array, np.zeros((3, 5)), whole[:1])
    with pytest.raises(ValueError, match="overlap"):
        move(array, array, whole)
    frozen = TiledArray.from_memory(bytes(24 * 8), (3, 5), Tiled((2, 2)), "f8")
    with pytest.raises(ValueError, match="read-only"):
        move(frozen, np.zeros((3, 5)), whole)


def test_block_cyclic_parts_in_tiles_of_awkward_extents():
    array = np.arange(1000 * 70, dtype=">i4").reshape(1000, 70)
    source = Distribution(array.shape, (2, 3), (BlockCyclic(13), Block()), Tiled((7, 64), "F", "F"))
    target = Distribution(array.shape, (3, 1), (BlockCyclic(5), Block()), Tiled((64, 3)))
    results = plan(source, target).execute(source.split(array))
    for part, expected in zip(results, naive.scatter(target, array), strict=True):
        assert np.array_equal(part, expected)


def test_memory_helper_is_what_it_says():
    """The poisoned memory of the oracle would notice a stray write."""
    memory = Memory((2, 2), np.dtype("u1"), (0, 1), (0, 0), (False, False), 0)
    memory.array[0, 0] = 1
    memory.poison_array()
    assert (memory.buffer == POISON).all()
