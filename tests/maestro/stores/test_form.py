"""How arrays lie in a store: the zarr library, which knows nothing of us, is the oracle."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Block, BlockCyclic, Distribution, Irregular, Tiled, convert, plan
from layouts.orders import slowest_first
from layouts.tiled import move
from maestro.errors import StoreError
from maestro.spelling import dtype_to_wire
from maestro.stores import open_store
from maestro.stores.form import Form, choose
from maestro.stores.stored import StoredArray, part_of
from tests.layouts.strategies import distributions, orders, shapes

DTYPES = ["f8", ">f4", "i1", "?", "<c16", ">u2", "M8[s]", "S3", "<U2", ">U2", "V5", "longdouble"]
ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": True}}


def numbers(shape, dtype):
    """An array in which neighbours differ."""
    dtype = np.dtype(dtype)
    size = math.prod(shape)
    if dtype.kind == "V":
        raw = np.arange(size * dtype.itemsize, dtype=np.int64).astype(np.uint8)
        return raw.view(dtype).reshape(shape) if size else np.empty(shape, dtype)
    return (np.arange(1, 1 + size) % 97).astype(dtype).reshape(shape)


def write(store, path, form, array):
    """Write the array as the workers do, object by object."""
    metadata = form.metadata({"maestro": {"dtype": dtype_to_wire(form.dtype, "x")}})
    stored = StoredArray(store, path, metadata, form, form.dtype)
    plain = Distribution(form.shape)
    for rank in range(form.layout.size):
        memory = np.zeros(form.nbytes(rank), np.uint8)
        part = part_of(form.layout, rank, form.dtype, memory)
        way = plan(plain, form.layout)
        for source, pieces in way.incoming(rank):
            assert source == 0
            move(part, array, pieces)
        stored.write(rank, memory)
    store.create(f"{path}/zarr.json", json.dumps(metadata).encode())
    return stored


def opened(store, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of data types without a specification
        return zarr.open_array(store.zarr(), path=path, mode="r")


@st.composite
def forms(draw):
    shape = draw(shapes)
    layout = draw(distributions(shape, orders=orders))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    size = max(1, math.prod(shape)) * dtype.itemsize
    largest = draw(st.integers(-(-size // 12), 2 * size))
    chunk = draw(st.integers(-(-largest // 6), largest))
    return choose(layout, dtype, largest, chunk, draw(st.sampled_from([(), (ZSTD,)])))


@settings(max_examples=80)
@given(forms())
def test_zarr_reads_what_is_written(form):
    array = numbers(form.shape, form.dtype)
    with TemporaryDirectory() as folder:
        store = open_store(folder)
        write(store, "a", form, array)
        found = opened(store, "a")
        assert found.shape == form.shape
        assert found.chunks == form.chunks
        assert found.shards == form.shards
        values = found[...]
        if form.dtype == np.longdouble:  # which Zarr has no name for
            values = np.asarray(values).view(form.dtype)
        np.testing.assert_array_equal(values.astype(form.dtype), array)
        kept = [c["name"] for c in codecs(json.loads(store.read("a/zarr.json"))["codecs"])]
        assert ("transpose" in kept) == (form.order != "C")

        ours = StoredArray.found(store, "a")
        assert ours.dtype == form.dtype
        assert (ours.form == form) == (not form.compressors)
        parts = [
            ours.read(rank, lambda n: np.empty(n, np.uint8)) for rank in range(ours.layout.size)
        ]
        joined = convert(ours.layout.join([convert(p, order="C") for p in parts]), order="C")
        assert joined.dtype == form.dtype
        np.testing.assert_array_equal(joined, array)


def codecs(metadata):
    """The metadata of codecs, those in shards included."""
    for codec in metadata:
        yield codec
        yield from codec.get("configuration", {}).get("codecs", ())


@pytest.mark.parametrize("order", ["C", "F", (1, 2, 0), (2, 0, 1)])
@pytest.mark.parametrize("sharded", [False, True])
def test_bytes_lie_in_the_order_of_the_part(order, sharded, tmp_path):
    """Cyclic permutations of three axes: what is its own inverse would prove nothing."""
    array = numbers((4, 6, 10), "i4")
    form = Form((4, 6, 10), array.dtype, order, (2, 3, 5), (4, 6, 10) if sharded else None)
    store = open_store(tmp_path)
    write(store, "a", form, array)
    np.testing.assert_array_equal(opened(store, "a")[...], array)
    content = store.read("a/c/0/0/0")
    tiles = itertools.product(*(range(n) for n in ((2, 2, 2) if sharded else (1, 1, 1))))
    expected = b"".join(
        array[tuple(slice(i * n, (i + 1) * n) for i, n in zip(tile, (2, 3, 5), strict=True))]
        .transpose(slowest_first(order, 3))
        .tobytes()
        for tile in tiles
    )
    assert content[: len(expected)] == expected


@settings(max_examples=100)
@given(shapes.filter(len).flatmap(lambda shape: distributions(shape)), st.integers(1, 4000))
def test_shards_keep_to_their_size_and_chunks_divide_them(layout, largest):
    form = choose(layout, np.dtype("f8"), largest, max(1, largest // 3))
    objects = form.shards or form.chunks
    assert math.prod(objects) * 8 <= max(largest, 8)
    for shard, chunk, n in zip(objects, form.chunks, layout.shape, strict=True):
        assert 1 <= shard <= max(n, 1)
        assert shard % chunk == 0


@pytest.mark.parametrize(
    ("layout", "objects"),
    [
        (Distribution((64, 8), (4, 1)), (16, 8)),
        (Distribution((64, 8), (2, 2)), (32, 4)),
        (Distribution((64, 8), (1, 2), (Block(), Irregular([0, 4, 8])), "F"), (64, 4)),
        (Distribution((64, 8), (4, 1), (BlockCyclic(16), Block())), (16, 8)),
        (Distribution((64, 8), (4, 1), (BlockCyclic(2), Block())), (64, 8)),
        (Distribution((64, 8), (2, 1), (Irregular([0, 5, 64]), Block())), (64, 8)),
        (Distribution((64, 8), order=Tiled((8, 8))), (64, 8)),
    ],
)
def test_shards_are_the_parts_where_these_are_boxes_of_one_size(layout, objects):
    form = choose(layout, np.dtype("u1"), 1 << 20, 1 << 20)
    assert (form.shards, form.chunks) == (None, objects)


def test_what_is_missing_or_cut_short_is_named(tmp_path):
    array = numbers((8, 6), "f8")
    store = open_store(tmp_path)
    form = choose(Distribution((8, 6), (2, 1)), array.dtype, 96, 48)
    write(store, "a", form, array)
    file = tmp_path / "a" / "c" / "1" / "0"
    whole = file.read_bytes()
    for content, words in (
        (whole[:-1], r"array 'a': c/1/0 has \d+ bytes, expected \d+"),
        (whole + b"1", r"array 'a': c/1/0 has"),
        (whole[:-1] + b"\0", r"array 'a': c/1/0 has another index than it must"),
        (None, r"array 'a': c/1/0 is missing"),
    ):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        found = StoredArray.found(store, "a")
        assert np.array_equal(found.read(0, lambda n: np.empty(n, np.uint8)), array[:2])
        with pytest.raises(StoreError, match=words):
            found.read(1, lambda n: np.empty(n, np.uint8))


def test_what_cannot_be_decoded_or_is_missing_among_compressed(tmp_path):
    array = numbers((8, 6), "f8")
    store = open_store(tmp_path)
    write(store, "a", choose(Distribution((8, 6), (2, 1)), array.dtype, 96, 96, [ZSTD]), array)
    file = tmp_path / "a" / "c" / "1" / "0"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(StoreError, match=r"array 'a': object \(1, 0\) cannot be read"):
        StoredArray.found(store, "a").read(1, lambda n: np.empty(n, np.uint8))
    file.unlink()
    with pytest.raises(StoreError, match="array 'a': c/1/0 is missing"):
        StoredArray.found(store, "a").read(1, lambda n: np.empty(n, np.uint8))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("compressors", [None, "auto"])
def test_arrays_of_other_programs(tmp_path, zarr_format, compressors):
    """A chunk that is missing there stands for fill values."""
    array = numbers((7, 6), "f8")
    array[:3] = 0
    made = zarr.create_array(
        tmp_path,
        name="a",
        shape=array.shape,
        dtype=array.dtype,
        chunks=(3, 6),
        compressors=compressors,
        zarr_format=zarr_format,
        order="F" if zarr_format == 2 else None,
    )
    made[...] = array
    found = StoredArray.found(open_store(tmp_path), "a")
    parts = [found.read(rank, lambda n: np.empty(n, np.uint8)) for rank in range(3)]
    assert found.layout.order == ("F" if zarr_format == 2 else found.layout.order)
    np.testing.assert_array_equal(np.concatenate([np.asarray(p) for p in parts]), array)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no array 'a', expected zarr.json or .zarray"),
        (b"nonsense", "'a' is no array that can be read"),
        (b"{}", "'a' is no array that can be read"),
        (b'{"zarr_format": 3, "node_type": "group"}', "it is a group"),
    ],
)
def test_what_is_no_array(tmp_path, content, words):
    (tmp_path / "a").mkdir()
    if content is not None:
        (tmp_path / "a" / "zarr.json").write_bytes(content)
    with pytest.raises(StoreError, match=words):
        StoredArray.found(open_store(tmp_path), "a")
