"""permute against NumPy's transposition and against bytes worked out by hand."""

from itertools import permutations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from kernels import permute
from tests.kernels.naive import DTYPES, WIDE, by_the_kernel, elements, memories, ways


@settings(max_examples=100)
@given(st.data(), st.sampled_from(DTYPES))
def test_small_arrays_too(data, dtype):
    shape = data.draw(st.lists(st.integers(0, 5), max_size=5))
    source = data.draw(memories(shape, dtype))
    source.fill(3)
    axes = tuple(data.draw(st.permutations(range(len(shape)))))
    expected = source.array.transpose(axes)
    result = permute(source.array, axes)
    assert result.flags.c_contiguous
    assert result.dtype == dtype
    assert result.shape == expected.shape
    np.testing.assert_array_equal(elements(result), elements(expected))
    out = data.draw(memories(expected.shape, dtype))
    assert permute(source.array, axes, out=out.array) is out.array
    np.testing.assert_array_equal(elements(out.array), elements(expected))


@settings(max_examples=150)
@given(st.data(), st.sampled_from(DTYPES + WIDE))
def test_a_permutation_is_numpys(data, dtype):
    shape = data.draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 17, 33]), max_size=6))
    while np.prod(shape, dtype=float) > 20_000:
        shape.pop()
    source = data.draw(memories(shape, dtype))
    source.fill(3)
    axes = data.draw(st.permutations(range(len(shape))))
    signed = [axis - len(shape) * data.draw(st.booleans()) for axis in axes]
    expected = source.array.transpose(axes)
    with by_the_kernel(*data.draw(ways)):
        result = permute(source.array, signed)
    assert result.flags.c_contiguous
    assert result.dtype == dtype
    assert result.shape == expected.shape
    np.testing.assert_array_equal(elements(result), elements(expected))
    out = data.draw(memories(expected.shape, dtype))
    with by_the_kernel(*data.draw(ways)):
        assert permute(source.array, axes, out=out.array) is out.array
    np.testing.assert_array_equal(elements(out.array), elements(expected))


def moved_between_guards(dtype, rows, width, unit, start, shift, way=(True, False)):
    """Whether rows of so many bytes, at multiples of `unit`, become columns, and nothing else."""
    itemsize = np.dtype(dtype).itemsize
    columns = -(-width // itemsize)
    pitch = -(-columns * itemsize // unit) * unit
    memory = np.random.default_rng(rows).integers(0, 256, rows * pitch + 256, np.uint8)
    source = np.ndarray((rows, columns), dtype, memory.data, start, (pitch, itemsize))
    lead = (rows + shift) * itemsize
    around = np.full(columns * lead + 512, 7, np.uint8)
    begin = 128 + start // 2
    target = np.ndarray((columns, rows), dtype, around.data, begin, (lead, itemsize))
    untouched = np.ones(around.size, bool)
    np.ndarray((columns, rows * itemsize), bool, untouched.data, begin, (lead, 1))[...] = False
    with by_the_kernel(*way):
        permute(source, (1, 0), out=target)
    return target.tobytes() == source.T.tobytes() and (around[untouched] == 7).all()


@settings(max_examples=100)
@given(
    st.sampled_from(["u1", "u2", "S3", "f4", "f8", "c16"]),
    st.one_of(st.integers(1, 70), st.integers(1, 700)),
    st.one_of(st.integers(1, 1300), st.integers(8000, 17000)),
    st.sampled_from([2048, 64, 1]),
    st.integers(0, 127),
    st.integers(0, 3),
    ways,
)
def test_rows_of_any_number_length_and_distance(dtype, rows, width, unit, start, shift, way):
    """Those of more than a block are cut into blocks; a few are put together first."""
    assert moved_between_guards(dtype, rows, width, unit, start, shift, way)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8", "c16"])
@pytest.mark.parametrize("lines", range(1, 10))
def test_rows_a_power_of_two_apart(dtype, lines):
    """They come by way of the rack: as many lines of each at once as it has room for, or one."""
    for rows in (300, 520, 1000):
        for more, start, shift in ((0, 0, 0), (0, 16, 1), (5, 48, 0)):
            assert moved_between_guards(dtype, rows, lines * 64 + more, 2048, start, shift)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8"])
def test_columns_that_all_begin_as_far_from_a_line(dtype, stream):
    """They go from the registers to the target, those of narrow elements by way of the lanes."""
    for rows in (64, 256, 320, 704):
        for width, unit in ((600, 1), (700, 8), (1024, 2048), (8400, 64)):
            for start in (0, 32, 96, 98):
                assert moved_between_guards(dtype, rows, width, unit, start, 0, (stream, False))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "S3"])
def test_columns_of_less_than_a_line(dtype, stream):
    """They are put together first, and all of them may be less than a line."""
    itemsize = np.dtype(dtype).itemsize
    for rows in (1, 3, 8, 15, 16, 17, 21, 31, 40, 63):
        for columns in (1, 2, 3, 5, 64, 67):
            for start in (0, 30, 90):
                width = columns * itemsize
                assert moved_between_guards(dtype, rows, width, 64, start, 0, (stream, False))


@pytest.mark.parametrize("threads", [1, 2, 5, None])
@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1)])
def test_cyclic_permutations_of_three_axes_to_the_byte(axes, threads):
    a, b, c = 19, 33, 40
    source = np.arange(a * b * c, dtype="<u4").reshape(a, b, c)
    sizes = [source.shape[k] for k in axes]
    expected = bytearray()
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            for k in range(sizes[2]):
                at = [0, 0, 0]
                at[axes[0]], at[axes[1]], at[axes[2]] = i, j, k
                expected += ((at[0] * b + at[1]) * c + at[2]).to_bytes(4, "little")
    assert permute(source, axes, threads=threads).tobytes() == bytes(expected)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8", "c16", "S3", "V24"])
@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_large_enough_for_whole_tiles_and_edges(dtype, axes):
    size = 37 * 50 * 41 * np.dtype(dtype).itemsize
    data = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    source = data.view(dtype).reshape(37, 50, 41)
    for stream in (False, True):
        with by_the_kernel(stream):
            assert permute(source, axes).tobytes() == source.transpose(axes).tobytes()


def test_short_last_axes_become_part_of_the_element():
    for n in (2, 3, 4):
        source = np.arange(20 * 30 * n, dtype="f4").reshape(20, 30, n)
        with by_the_kernel(False):
            assert permute(source, (1, 0, 2)).tobytes() == source.transpose(1, 0, 2).tobytes()


def test_subclasses_and_lists_give_plain_arrays():
    masked = np.ma.masked_array([[1, 2], [3, 4]])
    assert type(permute(masked, (1, 0))) is np.ndarray
    assert permute([[1, 2], [3, 4]], (1, 0)).tolist() == [[1, 3], [2, 4]]
    assert permute(7.5, ()).shape == ()


A = np.zeros((2, 3, 4))


@pytest.mark.parametrize(
    ("axes", "out", "error", "message"),
    [
        ((0, 1), None, ValueError, r"permutation of the 3 axes of src, got \(0, 1\)"),
        ((0, 1, 1), None, ValueError, r"got \(0, 1, 1\)"),
        ((0, 1, 3), None, ValueError, r"got \(0, 1, 3\)"),
        ((0, 1, -4), None, ValueError, r"got \(0, 1, -4\)"),
        ((0, 1, 2.0), None, TypeError, "float"),
        (
            (2, 0, 1),
            np.zeros((2, 3, 4)),
            ValueError,
            r"\(2, 3, 4\), but the result has \(4, 2, 3\)",
        ),
        ((2, 0, 1), np.zeros((4, 2, 3), "f4"), TypeError, "float32, but src has float64"),
        ((2, 0, 1), [0], TypeError, "out must be a NumPy array, got list"),
        ((0, 1, 2), A, ValueError, "overlap"),
        ((0, 1, 2), np.broadcast_to(0.0, (2, 3, 4)), ValueError, "out is read-only"),
    ],
)
def test_bad_permutations_are_refused(axes, out, error, message):
    with pytest.raises(error, match=message):
        permute(A, axes, out=out)


@pytest.mark.parametrize("dtype", [object, [("a", "i4"), ("b", object)]])
def test_objects_are_refused(dtype):
    with pytest.raises(TypeError, match=r"src has dtype.*holds objects"):
        permute(np.zeros((2, 2), dtype), (1, 0))
