from __future__ import annotations

import json
from itertools import accumulate, chain

import numpy as np
import pytest
import zarr
import zarr.storage
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import BlockCyclic, Cyclic, Distribution, Irregular, Replicated
from layouts.foreign.dask_chunks import from_chunks
from layouts.foreign.zarr_grids import (
    from_chunk_grid,
    from_regular_grid,
    to_chunk_grid,
    to_regular_grid,
)
from tests.layouts import naive
from tests.layouts.strategies import distributions, shapes

sizes = st.tuples(st.integers(0, 12), st.integers(1, 14))
regular_grids = st.lists(sizes, max_size=4).map(
    lambda axes: tuple(zip(*axes, strict=True)) or ((), ())
)


def stored_chunks(array, **layout):
    """The elements that each stored object of a Zarr array holds, by its grid index, unclipped."""
    objects = {}
    kept = zarr.create_array(
        zarr.storage.MemoryStore(objects),
        shape=array.shape,
        dtype=array.dtype,
        compressors=None,
        filters=None,
        **layout,
    )
    kept[...] = array
    return kept, {
        tuple(map(int, key.split("/")[1:])): data.to_bytes()
        for key, data in objects.items()
        if key != "zarr.json"
    }


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((), ()),
        ((10,), (4,)),
        ((7, 5, 4), (3, 2, 4)),
        ((3, 4, 5, 2), (2, 3, 2, 5)),
        ((0, 3), (2, 2)),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_parts_are_the_stored_chunks(shape, chunks, order):
    array = naive.labels(shape)
    kept, stored = stored_chunks(array, chunks=chunks)
    distribution = from_regular_grid(kept.shape, kept.chunks, kept.shards, order)
    assert distribution == from_chunk_grid(shape, kept.metadata.to_dict()["chunk_grid"], order)
    assert len(stored) == (distribution.size if array.size else 0)
    parts = distribution.split(array)
    for index, data in stored.items():
        part = parts[int(np.ravel_multi_index(index, distribution.grid)) if index else 0]
        chunk = np.frombuffer(data, array.dtype).reshape(chunks)  # full, with fill values
        assert np.array_equal(chunk[tuple(map(slice, part.shape))], part)
        assert np.count_nonzero(chunk) == part.size
        assert part.flags.f_contiguous or order == "C"


@pytest.mark.parametrize("shape", [(9, 10, 7), (8, 6, 4)])
def test_parts_are_the_stored_shards(shape):
    array = naive.labels(shape)
    kept, stored = stored_chunks(array, chunks=(2, 3, 2), shards=(4, 6, 2))
    distribution = from_regular_grid(kept.shape, kept.chunks, kept.shards)
    assert distribution == from_chunk_grid(shape, kept.metadata.to_dict()["chunk_grid"])
    assert distribution.size == len(stored)
    chunks = int(np.prod([s // c for s, c in zip(kept.shards, kept.chunks, strict=True)]))
    for index, data in stored.items():
        rank = int(np.ravel_multi_index(index, distribution.grid))
        # At a shard's end lies its own index: two numbers for each chunk, and a checksum.
        elements = np.frombuffer(data[: -4 - 16 * chunks], array.dtype)
        part = array[np.ix_(*distribution.indices(rank))]
        assert np.array_equal(np.unique(elements[elements != 0]), np.unique(part))


@settings(max_examples=300)
@given(regular_grids)
def test_regular_grids_come_back(grid):
    shape, chunks = grid
    distribution = from_regular_grid(shape, chunks)
    assert to_regular_grid(distribution) == (shape, chunks)
    assert distribution.grid == tuple(
        max(1, -(-n // c)) for n, c in zip(shape, chunks, strict=True)
    )
    metadata = {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}
    assert from_chunk_grid(shape, json.loads(json.dumps(metadata))) == distribution
    assert to_chunk_grid(distribution) == metadata
    for rank in range(distribution.size):
        place = distribution.coordinates(rank)
        assert [i.tolist() for i in distribution.indices(rank)] == [
            list(range(n))[p * c : (p + 1) * c]
            for p, n, c in zip(place, shape, chunks, strict=True)
        ]


@st.composite
def edge_lists(draw):
    """Edge lengths of one axis, plain and as the metadata may spell them, and an extent."""
    edges = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=4))
    plain = [size for size, times in edges for _ in range(times)]
    spelled = [
        size if times == 1 and draw(st.booleans()) else [size, times] for size, times in edges
    ]
    if draw(st.booleans()):
        size, extent = draw(sizes)
        size += 1
        return [size] * (1 + extent // size), size, extent
    return plain, spelled, draw(st.integers(0, sum(plain)))


@settings(max_examples=300)
@given(st.lists(edge_lists(), max_size=3))
def test_rectilinear_grids_hold_what_the_specification_says(axes):
    configuration = {"kind": "inline", "chunk_shapes": [spelled for _, spelled, _ in axes]}
    shape = tuple(extent for _, _, extent in axes)
    distribution = from_chunk_grid(shape, {"name": "rectilinear", "configuration": configuration})
    for cut, (edges, _, extent) in zip(distribution.cuts, axes, strict=True):
        # "the first element of the cumulative sum that exceeds the index"
        ends = list(accumulate(edges))
        owners = [next(c for c, end in enumerate(ends) if end > i) for i in range(extent)]
        assert cut.ranks == len(set(owners)) or (extent, cut.ranks) == (0, 1)
        held = [cut.indices(c).tolist() for c in range(cut.ranks)]
        assert held == [[i for i in range(extent) if owners[i] == c] for c in range(cut.ranks)]
    written = json.loads(json.dumps(to_chunk_grid(distribution)))
    assert from_chunk_grid(shape, written) == distribution


@settings(max_examples=300)
@given(shapes.flatmap(distributions))
def test_what_zarr_can_say_keeps_its_parts_and_the_rest_is_refused(distribution):
    dims = list(zip(distribution.axes, distribution.shape, distribution.grid, strict=True))
    held = [[naive.holds(kind, n, p, c) for c in range(p)] for kind, n, p in dims]
    sayable = all(
        p == 1 or (list(chain(*intervals)) == list(range(n)) and all(intervals))
        for intervals, (_, n, p) in zip(held, dims, strict=True)
    )
    if not sayable:
        with pytest.raises(ValueError, match=r"axis \d"):
            to_chunk_grid(distribution)
        return
    again = from_chunk_grid(distribution.shape, to_chunk_grid(distribution), distribution.order)
    assert [naive.indices(again, r) for r in range(again.size)] == [
        naive.indices(distribution, r) for r in range(distribution.size)
    ]


def test_a_grid_of_zarr_and_the_chunks_of_dask_make_equal_distributions():
    assert from_regular_grid((10, 6, 9), (4, 3, 9)) == from_chunks(((4, 4, 2), (3, 3), (9,)))


def test_a_written_grid_is_read_by_zarr():
    distribution = Distribution((10, 9, 4), grid=(3, 2, 1))
    shape, chunks = to_regular_grid(distribution)
    kept = zarr.create_array(zarr.storage.MemoryStore(), shape=shape, chunks=chunks, dtype="f8")
    assert kept.metadata.to_dict()["chunk_grid"]["name"] == to_chunk_grid(distribution)["name"]
    assert kept.cdata_shape == distribution.grid


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (Irregular([0, 2, 3, 8]), r"axis 1 is Irregular.*expected parts of one length"),
        (Irregular([0, 4, 4, 8]), "coordinate 1 along axis 1 holds nothing"),
        (BlockCyclic(4), "coordinate 2 along axis 1 holds nothing"),
        (Cyclic(), "axis 1 is .*expected one interval"),
        (Replicated(), "axis 1 is .*expected one interval"),
    ],
)
def test_what_is_no_regular_grid_is_refused(axis, message):
    with pytest.raises(ValueError, match=message):
        to_regular_grid(Distribution((5, 8), (1, 3), (BlockCyclic(5), axis)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((8, 8), (4,)), r"chunks: got 1 lengths \(4,\), expected 2"),
        (((8, 8), (4, 0)), r"chunks\[1\]: got 0, expected 1 or more"),
        (
            ((8, 8), (4, 4), (8, 6)),
            r"shards\[1\]: got 6, expected a multiple of the chunk length 4",
        ),
    ],
)
def test_wrong_regular_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        from_regular_grid(*arguments)


def rectilinear(*chunk_shapes, **more):
    configuration = {"kind": "inline", "chunk_shapes": list(chunk_shapes), **more}
    return {"name": "rectilinear", "configuration": configuration}


@pytest.mark.parametrize(
    ("chunk_grid", "message"),
    [
        ("regular", "chunk_grid: got 'regular', expected {"),
        ({"name": "hexagonal"}, 'its name is .hexagonal., expected "regular" or "rectilinear"'),
        ({"name": "regular"}, r"has \[\], expected \['chunk_shape'\]"),
        (rectilinear([8], encoded_chunk_shapes=[9]), "has .*encoded_chunk_shapes.*expected"),
        (rectilinear([8], kind="file"), "its kind is 'file', expected \"inline\""),
        (rectilinear([8], [8]), "chunk_shapes: got 2 entries, expected 1"),
        (
            rectilinear([[3, 2], 1]),
            r"chunk_shapes\[0\]: its edges sum up to 7, expected at least 8",
        ),
        (rectilinear([4, 0, 4]), r"chunk_shapes\[0\]\[1\]: got 0, expected 1 or more"),
        (
            rectilinear([4, [1, 2, 3]]),
            r"chunk_shapes\[0\]\[1\]: got \[1, 2, 3\], expected a length",
        ),
    ],
)
def test_wrong_metadata_are_refused(chunk_grid, message):
    with pytest.raises((ValueError, TypeError), match=message):
        from_chunk_grid((8,), chunk_grid)
