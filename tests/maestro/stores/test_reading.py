"""Pieces read from objects of a store, against the whole array."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Distribution, plan
from maestro.errors import StoreError
from maestro.locations import Location, is_location, is_owned
from maestro.stores import open_store
from maestro.stores.form import choose
from maestro.stores.reading import fill, located
from tests.layouts.strategies import distributions, orders, shapes
from tests.maestro.stores.test_form import ZSTD, numbers, write


@st.composite
def cases(draw):
    """An array's form, the region that is wanted of it, and how that is wanted."""
    shape = draw(shapes)
    dtype = np.dtype(draw(st.sampled_from(["f8", ">f4", "i1"])))
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    largest = draw(st.integers(max(1, -(-size // 8)), size + 8))
    chunk = draw(st.integers(-(-largest // 5), largest))
    stored = draw(distributions(shape, orders=orders))
    form = choose(stored, dtype, largest, chunk, draw(st.sampled_from([(), (), (ZSTD,)])))
    region = [sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2))) for n in shape]
    box = tuple(slice(*ends) for ends in region)
    target = draw(distributions(tuple(b - a for a, b in region), orders=orders))
    return form, box, target


@settings(max_examples=80)
@given(cases())
def test_every_piece_of_every_region(case):
    form, box, target = case
    array = numbers(form.shape, form.dtype)
    with TemporaryDirectory() as folder:
        store = open_store(folder)
        write(store, "a", form, array)
        found = located(Location(store.url, "a"), form.layout, form.dtype)
        way = plan(form.layout, target, region=box)
        parts = [target.empty(rank, form.dtype) for rank in range(target.size)]
        for rank in range(form.layout.size):
            wanted = [
                (number, parts[number], way.incoming(number).pieces(rank))
                for number in range(target.size)
                if rank in way.incoming(number).sources
            ]
            if wanted:
                moved = fill(found, rank, wanted, lambda n: np.full(n, 255, np.uint8))
                assert [number for number, _, _ in moved] == [number for number, _, _ in wanted]
        for part, expected in zip(parts, target.split(array[box]), strict=True):
            assert np.array_equal(np.asarray(part), np.asarray(expected))


@pytest.mark.parametrize(
    ("region", "nbytes"),
    [
        ((slice(0, 8), slice(0, 6)), 48 * 8),  # all of it, straight to where it is wanted
        ((slice(2, 3), slice(1, 4)), 3 * 8),  # bytes that lie side by side
        ((slice(2, 4), slice(0, 6)), 12 * 8),
        ((slice(2, 4), slice(1, 4)), 12 * 8),  # by way of the rows that they are in
    ],
)
def test_no_more_is_read_than_the_rows_that_are_wanted(tmp_path, region, nbytes):
    store = open_store(tmp_path)
    array = numbers((8, 6), "f8")
    whole = Distribution(array.shape)
    form = choose(whole, array.dtype, 1 << 20, 1 << 20)
    write(store, "a", form, array)
    found = located(Location(store.url, "a"), form.layout, array.dtype)
    read = []
    found.store.read_into = lambda key, memory, start=0: (
        read.append(len(memory)) or store.read_into(key, memory, start)
    )
    target = Distribution(array[region].shape)
    part = target.empty(0, array.dtype)
    pieces = plan(whole, target, region=region).incoming(0).pieces(0)
    fill(found, 0, [(0, part, pieces)], lambda n: np.empty(n, np.uint8))
    assert np.array_equal(part, array[region])
    assert read == [nbytes]


def test_what_lies_there_is_checked(tmp_path):
    store = open_store(tmp_path)
    array = numbers((8, 6), "f8")
    write(store, "a", choose(Distribution(array.shape), array.dtype, 192, 192), array)
    with pytest.raises(StoreError, match=r"array 'a' is .* 2x1 .* expected \(8, 6\) over 1"):
        located(Location(store.url, "a"), Distribution(array.shape), array.dtype)
    with pytest.raises(StoreError, match="there is no array 'b'"):
        located(Location(store.url, "b"), Distribution(array.shape), array.dtype)


def test_locations():
    for location in (Location("s3://b/c#d", "e/f"), Location("file:///x", "", True)):
        assert Location.of(str(location)) == location
        assert is_location(str(location))
        assert is_owned(str(location)) == location.whole
    assert not is_location("tcp://127.0.0.1:1")
    assert not is_location(None)
