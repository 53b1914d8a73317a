"""One pass of order, type and byte order, against NumPy's own astype."""

from __future__ import annotations

import warnings
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Tiled, TiledArray, casting, conversion, convert
from layouts.orders import empty, in_order
from tests.kernels.naive import DTYPES, POISON, Memory, elements, memories, outcome, pairs
from tests.layouts.strategies import orders, tiled

#: Types between any two of which small whole numbers are exact.
NUMBERS = ["?", "u1", "<i2", ">i2", "<u4", ">i8", "<f4", ">f4", "<f8", ">f8", "<c8", ">c16"]
SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)


def numbers(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 100, shape)


def without_warnings(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function()


@pytest.fixture(params=["as it is", "in small blocks"])
def blocks(request):
    """Arrays of some elements take the way of large ones, over many blocks."""
    if request.param == "as it is":
        yield
        return
    with (
        mock.patch.multiple(casting, SMALL_ELEMENTS=0, ALONG_BYTES=0),
        mock.patch.object(casting, "BLOCK_BYTES", 128),
        mock.patch.object(casting, "LONG_ROW", 5),
    ):
        yield


@pytest.mark.parametrize("small", [True, False])
@settings(max_examples=120, deadline=None)
@given(SHAPES, st.sampled_from(NUMBERS), st.sampled_from(NUMBERS), st.data())
def test_values_are_numpys_and_nothing_else_is_written(small, shape, one, other, data):
    source = data.draw(memories(shape, np.dtype(one)))
    source.array[...] = without_warnings(lambda: numbers(shape).astype(one))
    wanted = without_warnings(lambda: source.array.astype(other))
    order = data.draw(orders(len(shape)))
    threads = data.draw(st.sampled_from([None, 1, 3]))
    block = 1 << 21 if small else data.draw(st.sampled_from([16, 128, 600]))
    with (
        mock.patch.multiple(casting, SMALL_ELEMENTS=1 << 13 if small else 0, ALONG_BYTES=0),
        mock.patch.object(casting, "BLOCK_BYTES", block),
        mock.patch.object(casting, "LONG_ROW", data.draw(st.sampled_from([2, 64]))),
    ):
        given_array = source.array
        if data.draw(st.booleans()):
            given_array = convert(source.array, data.draw(tiled(len(shape))))
        result = without_warnings(lambda: convert(given_array, order, None, threads, dtype=other))
        assert in_order(result, order)
        assert result.dtype == wanted.dtype
        assert np.asarray(result).tobytes() == wanted.tobytes()
        if isinstance(order, Tiled):
            return
        axes = order if isinstance(order, tuple) else tuple(range(len(shape)))
        axes = axes[::-1] if order == "F" else axes
        out = Memory(shape, np.dtype(other), axes, [0] * len(shape), [False] * len(shape), 3)
        without_warnings(lambda: convert(given_array, order, out.array, threads, dtype=other))
        assert out.array.tobytes() == wanted.tobytes()
        out.poison_array()
        assert (out.buffer == POISON).all()


@settings(max_examples=400, deadline=None)
@given(pairs(DTYPES + NUMBERS), st.data())
def test_small_arrays_end_as_they_do_on_the_long_way(pair, data):
    """Whatever is given: the same errors, and the same bytes at the same places."""
    axes, arrays = pair
    _, out = arrays(bytearray(4096))
    inverse = sorted(range(len(axes)), key=axes.__getitem__)
    order = data.draw(st.sampled_from(["C", "F", tuple(inverse), [*inverse], (True, 0), (-1, 0)]))
    dtype = data.draw(st.sampled_from([None, None, getattr(out, "dtype", None), "f4", ">i2"]))
    allowed = data.draw(st.sampled_from(["unsafe", "unsafe", "same_kind", "no"]))
    given_out = data.draw(st.booleans())

    def work(memory):
        source, out = arrays(memory)
        source = np.asarray(source).transpose(axes)
        if given_out:
            return convert(source, order, out, dtype=dtype, casting=allowed) is out
        result = convert(source, order, dtype=dtype, casting=allowed)
        # What lies between fields is anything, once they were cast.
        content = elements(result).tobytes() if dtype is None else repr(result.tolist())
        return content, result.dtype, in_order(result, order)

    short = outcome(work)
    never = dict.fromkeys(("copy_if_cheap", "cast_if_small"), lambda *_: None)
    with mock.patch.multiple(conversion, copied=lambda *_: False, **never):
        assert short == outcome(work)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.arange(60).astype("M8[h]"), "M8[s]"),
        (np.arange(60).astype("M8[h]"), ">i8"),
        (np.arange(60).astype("U4"), "f8"),
        (np.arange(60), "S"),
        (np.arange(60.0), "U"),
        (np.array(["2020-01-01", "2021-02-03"] * 30), "M8"),
        (np.ones(60, [("a", ">f8"), ("b", "u1")]), [("a", "<f8"), ("b", "<i4")]),
        (np.ones(60, [("a", "<c16")]), [("a", "<c8")]),
        (np.arange(60), "m8[s]"),
        (np.arange(60, dtype="f4"), "f2"),
        (np.arange(60), "V8"),
    ],
)
@pytest.mark.usefixtures("blocks")
def test_types_of_all_sorts(array, dtype):
    array = array.reshape(3, 4, 5)
    for source in (
        array,
        array.transpose(1, 2, 0),
        array[::-1, ::2],
        convert(array, Tiled((2, 3, 2))),
    ):
        wanted = np.asarray(source).astype(dtype)
        for order in ("C", "F", (1, 2, 0), Tiled((2, 2, 3), "F")):
            result = convert(source, order, dtype=dtype)
            assert result.dtype == wanted.dtype
            assert in_order(result, order)
            assert np.asarray(result).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtypes", [("f8", "f4"), ("f4", "f8"), ("f8", ">f8"), ("u1", "c16")])
def test_large_arrays_in_blocks_of_full_size(dtypes, threads):
    array = np.random.default_rng(0).integers(0, 100, (700, 500, 3)).astype(dtypes[0])
    wanted = array.astype(dtypes[1])
    for order in ("C", "F", (1, 0, 2), (2, 0, 1), Tiled((64, 50, 2))):
        result = convert(array, order, threads=threads, dtype=dtypes[1])
        assert in_order(result, order)
        assert np.asarray(result).tobytes() == wanted.tobytes()


def warned(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [(w.category, str(w.message)) for w in caught]


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.full((40, 60), 1e300), "f4"),
        (np.full((40, 60), np.nan), "i4"),
        (np.full((40, 60), 1 + 1j), "f8"),
        (np.full((40, 60), 1e300 + 1j), ">f4"),
        (np.full((40, 60), 1 + 1j, ">c16"), "i2"),
        (np.full((40, 60), 1 + 1j), "?"),
        (np.full((40, 60), 1 + 1j).astype([("a", "c16")]), [("a", "f4")]),
        (np.full((40, 60), 1.0), "f4"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("blocks")
def test_numpys_warnings_come_once(array, dtype, threads):
    expected = warned(lambda: array.astype(dtype))
    for order in ("C", "F", Tiled((7, 9))):
        for source in (array, convert(array, Tiled((8, 8)))):
            assert warned(lambda: convert(source, order, None, threads, dtype=dtype)) == expected  # noqa: B023


@pytest.mark.usefixtures("blocks")
def test_errstate_is_the_callers():
    array = np.full((40, 60), 1e300)
    with np.errstate(over="ignore"):
        assert warned(lambda: convert(array, "F", None, 2, dtype="f4")) == []
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
        convert(array, "F", None, 2, dtype="f4")
    assert np.geterr() == np.geterr()


@pytest.mark.usefixtures("blocks")
def test_casting_forbids_as_numpy_does():
    array = np.ones((4, 5))
    with pytest.raises(TypeError, match=r"Cannot cast .*'float64'.*'int32'.*'same_kind'"):
        convert(array, "F", dtype="i4", casting="same_kind")
    with pytest.raises(TypeError, match="Cannot cast"):
        convert(array, Tiled((2, 2)), dtype="f4", casting="safe")
    assert convert(array, "F", dtype=">f8", casting="equiv").dtype == ">f8"
    with pytest.raises(ValueError, match="could not convert string"):
        convert(np.array([["1", "x"]]), "F", dtype="f8")


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((3, 4), "f4"), ValueError, r"strides are \(16, 4\), expected .* order 'F'"),
        (empty((4, 3), "f4", "F"), ValueError, r"its shape is \(4, 3\), expected \(3, 4\)"),
        (empty((3, 4), "f8", "F"), TypeError, "its dtype is float64, expected float32"),
        (empty((3, 4), "f4", Tiled((2, 2))), ValueError, r"Tiled\(\(2, 2\)\), expected 'F'"),
        ([], TypeError, "out: got list, expected an array"),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out, error, message):
    for array in (np.zeros((3, 4)), convert(np.zeros((3, 4)), Tiled((2, 3)))):
        with pytest.raises(error, match=message):
            convert(array, "F", out=out, dtype="f4")


def test_an_out_in_other_tiles_is_refused():
    array = np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"its order is Tiled\(\(2, 2\)\), expected Tiled\(\(3, 2"):
        convert(array, Tiled((3, 2)), out=empty((3, 4), "f8", Tiled((2, 2))))
    with pytest.raises(TypeError, match="got a plain array, expected a TiledArray"):
        convert(array, Tiled((3, 2)), out=np.zeros((3, 4)))
    frozen = TiledArray.from_memory(bytes(128), (3, 4), Tiled((2, 2)), "f8")
    with pytest.raises(ValueError, match="out is read-only"):
        convert(array, Tiled((2, 2)), out=frozen)


def test_an_out_that_shares_memory_or_is_read_only_is_refused():
    buffer = np.zeros(200, "u1")
    array = buffer[:96].view("f8").reshape(3, 4)
    for shift, message in ((0, "overlap"), (40, "overlap"), (None, "read-only")):
        out = (
            np.zeros((4, 3), "f4").T
            if shift is None
            else buffer[shift:][:48].view("f4").reshape(4, 3).T
        )
        if shift is None:
            out.flags.writeable = False
        with pytest.raises(ValueError, match=message):
            convert(array, "F", out=out, dtype="f4")
    memory = TiledArray.from_memory(buffer[:128], (3, 4), Tiled((2, 2)), "f8")
    out = buffer[100:148].view("f4").reshape(4, 3).T
    with pytest.raises(ValueError, match="overlap"):
        convert(memory, "F", out=out, dtype="f4")


def test_objects_and_types_with_axes_are_refused():
    with pytest.raises(TypeError, match="the result has dtype object"):
        convert(np.zeros(3), dtype=object)
    with pytest.raises(TypeError, match="array has dtype object"):
        convert(np.zeros(3, object), dtype="f8")
    with pytest.raises(TypeError, match="expected a type of one element"):
        convert(np.zeros(3), dtype=("f4", (2,)))
    with pytest.raises(ValueError, match="threads must be at least 1"):
        convert(np.zeros(3), dtype="f4", threads=0)


def test_blocks_are_long_where_they_are_cast_along_and_stay_small():
    def extents(target, source):
        orders = casting._fastest_first(target), casting._fastest_first(source)
        return casting._block_extents(target, source, orders)

    wide = np.lib.stride_tricks.as_strided(np.zeros(1), (8192, 8192), (8 * 8192, 8))
    narrow = np.lib.stride_tricks.as_strided(np.zeros(1, "f4"), (8192, 8192), (4, 4 * 8192))
    assert extents(narrow, wide) == [128, 2048]
    assert extents(wide, narrow) == [128, 2048]
    assert np.prod(extents(narrow, wide)) * 8 == casting.BLOCK_BYTES
    thin = np.empty((10**5, 3))
    assert extents(np.empty((10**5, 3), "f4", order="F"), thin)[1] == 3
    assert np.prod(extents(np.empty((10**5, 3), "f4", order="F"), thin)) >= 20_000
    tiles = TiledArray.from_memory(np.zeros(1024 * 1024), (1000, 1000), Tiled((64, 64)))
    assert all(extent % 64 == 0 for extent in extents(tiles, np.empty((1000, 1000), "f4")))
