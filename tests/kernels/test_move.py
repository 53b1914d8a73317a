"""The move against fancy indexing on expanded pieces, in awkward memory between guard bands."""

import ctypes
import mmap
from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from kernels import Pieces, by_numpy, move, move_all, moving
from kernels.checks import address, distance
from tests.kernels.naive import (
    DTYPES,
    POISON,
    WIDE,
    Memory,
    by_the_kernel,
    elements,
    memories,
    naive_move,
    products,
    ways,
)


@settings(max_examples=300)
@given(products(), st.sampled_from(DTYPES + WIDE), st.data())
def test_a_move_writes_the_product_and_nothing_else(pieces, dtype, data):
    shapes = [
        tuple(extent[1] + data.draw(st.integers(0, 1)) for extent in side)
        for side in zip(*((p.source_extent, p.target_extent) for p in pieces), strict=True)
    ] or [(), ()]
    source = data.draw(memories(shapes[0], dtype))
    target = data.draw(memories(shapes[1], dtype))
    source.fill(data.draw(st.integers(0, 9)))
    before = source.buffer.copy()
    expected = naive_move(target.array, source.array, pieces)

    with by_the_kernel(*data.draw(ways)):
        move(target.array, source.array, pieces, data.draw(st.sampled_from([None, 1, 2, 5])))

    np.testing.assert_array_equal(elements(target.array), expected)
    target.poison_array()
    assert (target.buffer == POISON).all()
    np.testing.assert_array_equal(source.buffer, before)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.sampled_from([None, 1, 2, 3, 7]))
def test_moves_of_any_sizes_all_at_once(sizes, number):
    """Where threads are worth their while from the first element on, and there are three."""
    source = np.arange(30 * 12).reshape(12, 30).T
    target = np.full((30, 80), -1)
    moves, low = [], 0
    for n in sizes:
        part = target[:, low : low + n]
        moves.append((part, source, [Pieces.whole(30), Pieces.whole(n)]))
        low += n
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kernels.moving.PARALLEL_BYTES", 1)
        for module in ("moving", "threads"):
            patch.setattr(f"kernels.{module}.usable_cpus", lambda: 3)
        move_all(moves, number)
    expected = np.concatenate([source[:, :n] for n in sizes], axis=1)
    np.testing.assert_array_equal(target[:, :low], expected)
    assert (target[:, low:] == -1).all()


def test_if_one_of_several_moves_is_wrong_none_is_made():
    source, target = np.ones((4, 4)), np.zeros((8, 4))
    good = target[:4], source, [Pieces.whole(4)] * 2
    with pytest.raises(ValueError, match=r"pieces\[0\] reach from index 0 to 4 of source"):
        move_all([good, (target[4:], source, [Pieces.whole(5), Pieces.whole(4)])])
    assert not target.any()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("itemsize", [1, 2, 3, 4, 8, 16, 24])
def test_a_block_cyclic_product_with_clipped_tails(itemsize, stream):
    rows = Pieces([0, 70], [3, 40], [40, 30], 3, 100, 80, 17)
    columns = Pieces([5], [0], [20], 7, 50, 21, 11)
    source = Memory((300, 400), np.dtype(f"V{itemsize}"), (0, 1), (0, 0), (False, False), 1)
    source.fill(1)
    for order in ((0, 1), (1, 0)):
        target = Memory((150, 180), source.array.dtype, order, (0, 3), (True, False), 0)
        expected = naive_move(target.array, source.array, [rows, columns])
        move(target.array, source.array, [rows, columns], stream=stream)
        np.testing.assert_array_equal(elements(target.array), expected)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shift", [0, 8, 13])
@pytest.mark.parametrize("length", [16, 23, 64, 77, 200])
def test_runs_past_the_caches(length, shift, flip):
    """Long, short and clipped ones, of so many indices that they come in several turns."""
    rows = Pieces([90, 0], [0, 80], [70, 1], 4, 170, 90, 1)
    columns = Pieces([3, length + 9, 0], [0, length, length + 8], [length, 5, 2], 8, 300, 250, 4)
    columns = columns.slice(2, columns.size)
    for kinds in ("f8", "u1"):
        source = Memory((340, 900), np.dtype(kinds), (0, 1), (5, 0), (flip, False), 1)
        source.fill(length)
        target = Memory((180, 800), source.array.dtype, (0, 1), (8, 0), (False, False), shift)
        expected = naive_move(target.array, source.array, [rows, columns])
        move(target.array, source.array, [rows, columns], stream=True)
        np.testing.assert_array_equal(elements(target.array), expected)
        target.poison_array()
        assert (target.buffer == POISON).all()


@pytest.mark.parametrize("shift", [0, 5, 48])
@pytest.mark.parametrize("length", [128, 200, 513, 2000])
@pytest.mark.parametrize("even", [False, True])
def test_runs_side_by_side_in_the_target_past_the_caches(even, length, shift):
    """Lines that belong to two runs, also where one of these is short, or another follows apart."""
    starts = [7, 8000, 4111, 2057, 9000, 9100]
    lengths = [length, length + 61, length, 130, 11, length]
    places = [3, *(3 + np.cumsum(lengths[:-1]))]
    columns = Pieces(starts, places, lengths, 11, 14000, places[-1] + length + 4, 11)
    if even:
        columns = Pieces([1], [9], [length], 8, 3000, length, length)
    rows = Pieces([0], [0], [150], 1, 0, 0, 150)
    source = Memory((150, 28000), np.dtype("u1"), (0, 1), (5, 0), (False, False), shift)
    source.fill(length)
    width = columns.target_extent[1] + 70
    target = Memory((150, width), source.array.dtype, (0, 1), (3, 0), (False, False), 1)
    expected = naive_move(target.array, source.array, [rows, columns])
    move(target.array, source.array, [rows, columns], stream=True)
    np.testing.assert_array_equal(elements(target.array), expected)
    target.poison_array()
    assert (target.buffer == POISON).all()


def test_nothing_is_read_beyond_the_pages_of_the_source():
    """A line that belongs to two runs is read as a whole on both sides, if that is safe."""
    page = mmap.PAGESIZE
    with mmap.mmap(-1, 6 * page) as memory:
        everything = np.frombuffer(memory, "u1")
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        fences = [ctypes.c_void_p(address(everything) + n * page) for n in (0, 5)]
        source = everything[page : 5 * page].reshape(8, page // 2)
        source[:] = np.arange(source.size).reshape(source.shape) % 251
        target = np.zeros((8, 1705), "u1")
        columns = Pieces.explicit([page // 2 - 1000, 0], [0, 1000], [1000, 705])
        try:
            assert all(protect(fence, page, 0) == 0 for fence in fences)
            move(target, source, [Pieces.whole(8), columns], stream=True)
        finally:
            assert all(protect(fence, page, mmap.PROT_READ) == 0 for fence in fences)
        np.testing.assert_array_equal(target[:, :1000], source[:, -1000:])
        np.testing.assert_array_equal(target[:, 1000:], source[:, :705])
        del everything, source


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("itemsize", [1, 2, 3, 4, 8, 16, 24])
@pytest.mark.parametrize("shape", [(150, 70), (17, 200), (64, 16), (65, 15)])
def test_gaps_between_elements_on_either_side_in_another_order(itemsize, stream, shape):
    pieces = [Pieces.whole(n) for n in shape]
    for there, here in ((0, itemsize), (itemsize, 0), (itemsize, 3)):
        source = Memory(shape, np.dtype(f"V{itemsize}"), (0, 1), (0, there), (False, True), 1)
        target = Memory(shape, source.array.dtype, (1, 0), (here, 5), (False, False), 3)
        source.fill(itemsize)
        move(target.array, source.array, pieces, stream=stream)
        np.testing.assert_array_equal(elements(target.array), elements(source.array))
        target.poison_array()
        assert (target.buffer == POISON).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("size", "stream", "past"),
    [(1 << 10, None, False), (1 << 10, True, True), (1 << 19, None, True), (1 << 19, False, False)],
)
def test_what_is_large_goes_past_the_caches_unless_told_otherwise(size, stream, past, threads):
    source = np.arange(size)
    target, pieces = np.empty_like(source), [Pieces.whole(len(source))]
    with patch.object(moving, "move_serially", wraps=moving.move_serially) as moved:
        move(target, source, pieces, threads, stream)
    assert {call.args[3] for call in moved.call_args_list} == {past}
    np.testing.assert_array_equal(target, source)


def test_a_broadcast_source_is_read_again_and_again():
    source = np.broadcast_to(np.arange(5)[:, None], (5, 40))
    for target in (np.zeros((5, 40), int), np.zeros((5, 40), int, order="F")):
        move(target, source, [Pieces.whole(5), Pieces.whole(40)])
        np.testing.assert_array_equal(target, source)


def test_zero_dimensions_and_nothing_at_all():
    target = np.zeros(())
    move(target, np.array(2.5), [])
    assert target == 2.5
    move(np.zeros((0, 3)), np.ones((4, 3)), [Pieces.whole(0), Pieces.whole(3)])
    move(np.zeros(3, "V0"), np.zeros(3, "V0"), [Pieces.whole(3)])
    target = np.zeros(4)
    move(target, np.ones(0), [Pieces.whole(0)])
    assert not target.any()


def test_a_large_product_is_shared_by_threads():
    source = np.arange(600 * 700, dtype="i8").reshape(600, 700)
    cyclic = [Pieces([1], [0], [2], 150, 4, 2, 1), Pieces([0, 3], [0, 2], [2, 3], 200, 7, 5, 3)]
    results = []
    for threads in (1, 2, 5, None):
        target = np.full((400, 600), -1, order="F")
        move(target, source, cyclic, threads)
        results.append(target.tobytes())
    assert len(set(results)) == 1
    expected = naive_move(np.full((400, 600), -1), source, cyclic)
    assert results[0] == expected.tobytes()


def test_halves_of_one_buffer_and_interleaved_slices_do_not_overlap():
    buffer = np.arange(20)
    half = Pieces.explicit([0], [10], [10])
    with pytest.raises(ValueError, match="target and source overlap"):
        move(buffer, buffer, [Pieces.explicit([0], [9], [10])])
    move(buffer[:], buffer[:], [half])
    assert buffer.tolist() == [*range(10), *range(10)]
    move(buffer[1::2], buffer[::2], [Pieces.whole(10)])
    assert buffer[1::2].tolist() == buffer[::2].tolist()


def read_only():
    array = np.zeros((3, 4))
    array.flags.writeable = False
    return array


def strided_zero():
    array = np.lib.stride_tricks.as_strided(np.zeros(4), (3, 4), (0, 8))
    return array


WHOLE = [Pieces.whole(3), Pieces.whole(4)]


@pytest.mark.parametrize(
    ("target", "source", "pieces", "error", "message"),
    [
        ([[0]], np.zeros((3, 4)), WHOLE, TypeError, "target must be a NumPy array, got list"),
        (np.zeros((3, 4)), 5, WHOLE, TypeError, "source must be a NumPy array, got int"),
        (np.zeros((3, 4), object), np.zeros((3, 4)), WHOLE, TypeError, "target has dtype object"),
        (np.zeros((3, 4), "f4"), np.zeros((3, 4)), WHOLE, TypeError, "float32, but source has fl"),
        (np.zeros((3, 4), ">f8"), np.zeros((3, 4)), WHOLE, TypeError, "target has dtype >f8"),
        (np.zeros(12), np.zeros((3, 4)), WHOLE, ValueError, "target has 1 dim.*source has 2"),
        (np.zeros((3, 4)), np.zeros((3, 4)), WHOLE[:1], ValueError, "pieces for 1 axes"),
        (np.zeros((3, 4)), np.zeros((3, 4)), [3, 4], TypeError, r"pieces\[0\] must be Pieces"),
        (read_only(), np.zeros((3, 4)), WHOLE, ValueError, "target is read-only"),
        (strided_zero(), np.zeros((3, 4)), WHOLE, ValueError, "target has stride 0 along axis 0"),
        (np.zeros((3, 3)), np.zeros((3, 4)), WHOLE, ValueError, r"pieces\[1\] reach from index 0"),
        (np.zeros((3, 4)), np.zeros((2, 4)), WHOLE, ValueError, "to 2 of source, which has"),
        (np.zeros((3, 4)), np.zeros((3, 0)), WHOLE, ValueError, "source has no index along axis 1"),
        (
            np.zeros(9),
            np.zeros(9),
            [Pieces([8], [0], [1], 9, -1, 2, 1)],
            ValueError,
            "reach from index 0 to 16 of target",
        ),
        (
            np.zeros(9),
            np.zeros(9),
            [Pieces([7], [0], [1], 9, -1, 1, 1)],
            ValueError,
            "reach from index -1 to 7 of source",
        ),
    ],
)
def test_bad_moves_are_refused(target, source, pieces, error, message):
    with pytest.raises(error, match=message):
        move(target, source, pieces)


@pytest.mark.parametrize(
    ("threads", "error"),
    [(True, TypeError), (1.0, TypeError), ("2", TypeError), (0, ValueError), (-3, ValueError)],
)
def test_bad_thread_numbers_are_refused(threads, error):
    with pytest.raises(error, match="threads must be"):
        move(np.zeros((3, 4)), np.zeros((3, 4)), WHOLE, threads)


@settings(max_examples=200)
@given(st.data(), st.sampled_from([np.dtype(f"V{size}") for size in (1, 2, 3, 4, 8, 16, 20, 64)]))
def test_rectangles_of_many_strips_and_ragged_edges(data, dtype):
    """Rows and columns from less than a bundle to several strips, at any distance from a line."""
    sizes = data.draw(
        st.permutations([1, *data.draw(st.sampled_from([(1, 150), (8, 40), (3, 3)]))])
    )
    shape = [max(1, n + data.draw(st.integers(-3, 3))) for n in sizes]
    shape.append(max(1, 2000 // dtype.itemsize + data.draw(st.integers(-9, 9))))
    source = data.draw(memories(shape, dtype))
    source.fill(1)
    axes = data.draw(st.permutations(range(4)))
    view = source.array.transpose(axes)
    target = data.draw(memories(view.shape, dtype))
    whole = [Pieces.whole(n) for n in view.shape]
    with by_the_kernel(*data.draw(ways)):
        move(target.array, view, whole, data.draw(st.sampled_from([1, 2])))
    np.testing.assert_array_equal(elements(target.array), elements(view))
    target.poison_array()
    assert (target.buffer == POISON).all()


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8", "c16", "V3"])
@pytest.mark.parametrize(
    "shape", [(4096, 600), (600, 4096), (1025, 1031), (100_000, 3), (3, 70_000)]
)
@pytest.mark.parametrize("shift", [0, 1, 24])
def test_large_transpositions_from_and_to_any_address(dtype, shape, shift):
    """Powers of two, odd leading dimensions and long tables of offsets, past the caches."""
    item = np.dtype(dtype).itemsize
    size = shape[0] * shape[1] * item
    data = np.random.default_rng(shift).integers(0, 256, size + shift, np.uint8)
    source = data[shift:].view(dtype).reshape(shape)
    memory = np.full(size + 2 * 64 + shift, POISON, np.uint8)
    target = memory[64 + shift : 64 + shift + size].view(dtype).reshape(shape[::-1])
    with by_the_kernel(stream=True):
        move(target, source.T, [Pieces.whole(n) for n in target.shape])
    assert target.tobytes() == source.T.tobytes()
    assert (memory[: 64 + shift] == POISON).all()
    assert (memory[64 + shift + size :] == POISON).all()


def test_addresses_are_what_numpy_says():
    array = np.arange(24.0).reshape(2, 3, 4)
    masked = np.ma.masked_array(array)
    for a in (array, array[::-1, ::2, 1:], array.T, np.zeros(()), np.empty((0, 3)), masked):
        assert address(a) == a.__array_interface__["data"][0]
        assert distance(a, array) == address(a) - address(array)


@pytest.mark.parametrize("shift", [0, 16, 32])
def test_copies_at_any_distance_of_what_processors_copy_slowly(shift, monkeypatch):
    monkeypatch.setattr(by_numpy, "_is_slow_processor", lambda: True)
    memory = np.zeros(3 * 65536, np.uint8)
    source, target = memory[:65536], memory[65536 + shift :][:65536]
    source[:] = np.random.default_rng(shift).integers(0, 256, source.size)
    moving.move_whole(target, source)
    np.testing.assert_array_equal(target, source)
    np.testing.assert_array_equal(by_numpy.copy_if_cheap(source, "C"), source)
    assert not memory[65536 : 65536 + shift].any()
    assert not memory[2 * 65536 + shift :].any()
