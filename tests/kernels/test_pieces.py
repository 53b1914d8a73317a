"""The closed forms of Pieces, each against the pieces listed one by one."""

import pickle
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from kernels import Pieces
from tests.kernels.naive import axes, positions


@given(axes(longest=20))
def test_size_extents_and_expansion_are_those_of_the_indices(p):
    source, target = positions(p)
    assert p.size == len(source)
    assert p.source_extent == ((min(source), max(source) + 1) if source else (0, 0))
    assert p.target_extent == ((min(target), max(target) + 1) if target else (0, 0))
    starts, tos, lengths = p.expand()
    assert all(part.dtype == np.int64 and part.size == p.count for part in p.expand())
    runs = list(zip(starts.tolist(), tos.tolist(), lengths.tolist(), strict=True))
    assert source == [s + i for s, _, n in runs for i in range(n)]
    assert target == [t + i for _, t, n in runs for i in range(n)]


@given(axes(longest=20), st.data())
def test_a_slice_holds_the_indices_between_its_bounds(p, data):
    lo = data.draw(st.integers(0, p.size))
    hi = data.draw(st.integers(lo, p.size))
    source, target = positions(p)
    assert positions(p.slice(lo, hi)) == (source[lo:hi], target[lo:hi])


@given(axes(longest=20), st.integers(1, 7))
def test_cuts_are_even_and_complete(p, parts):
    cut = p.cut(parts)
    sizes = [part.size for part in cut]
    assert len(cut) == min(parts, p.size)
    assert not cut or max(sizes) - min(sizes) <= 1
    for side in (0, 1):
        assert [i for part in cut for i in positions(part)[side]] == positions(p)[side]


@given(axes(longest=20))
def test_packing_puts_the_indices_side_by_side(p):
    source, target = positions(p)
    dense = list(range(p.size))
    assert positions(p.packed()) == (source, dense)
    assert positions(p.unpacked()) == (dense, target)


def test_a_hundred_million_pieces_cost_nothing():
    p = Pieces([0, 7], [0, 3], [3, 2], 10**8, 10, 5, 2)
    assert p.size == 5 * 10**8 // 2
    assert p.source_extent == (0, 10 * (10**8 // 2 - 1) + 9)
    middle = p.slice(p.size // 2 + 1, p.size - 1)
    assert middle.size == p.size // 2 - 2
    assert all(part.length.size <= 2 for part in [middle, *p.cut(1000)])
    assert sys.getsizeof(pickle.dumps(p)) < 2000


def test_pieces_cannot_be_changed():
    offsets = np.array([0, 4])
    p = Pieces.explicit(offsets, [0, 2], [2, 2])
    offsets[0] = 99
    assert p.source.tolist() == [0, 4]
    with pytest.raises(ValueError, match="read-only"):
        p.source[0] = 1
    with pytest.raises(AttributeError):
        p.count = 1  # type: ignore[misc]


def test_explicit_drops_empty_pieces():
    p = Pieces.explicit([0, 5, 9], [3, 3, 4], [1, 0, 2])
    assert [part.tolist() for part in p.expand()] == [[0, 9], [3, 4], [1, 2]]
    assert Pieces.explicit([], [], []).size == 0


GOOD = {
    "source": [0, 3],
    "target": [0, 2],
    "length": [2, 1],
    "count": 3,
    "source_step": 5,
    "target_step": 3,
    "last": 2,
}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source": [0]}, ValueError, "equally long, got 1, 2 and 2"),
        ({"source": [0.5, 3]}, TypeError, "source must hold integers"),
        ({"source": [[0], [3]]}, ValueError, "source must have one dimension"),
        ({"target": [0, 2**62]}, ValueError, "target must stay within"),
        ({"length": [2, 0]}, ValueError, "every length must be at least 1, got 0"),
        ({"count": -1}, ValueError, "count must be"),
        ({"count": 1.0}, TypeError, "count must be an integer, got 1.0"),
        ({"count": True}, TypeError, "count must be an integer, got True"),
        ({"last": 0}, ValueError, "last must be 1 to 2"),
        ({"last": 3}, ValueError, "last must be 1 to 2"),
        ({"count": 0}, ValueError, "last must be 0 to 0"),
        ({"skip": 2}, ValueError, "skip must leave something of piece 0"),
        ({"skip": -1}, ValueError, "skip must leave something of piece 0"),
        ({"source_step": 2**61}, ValueError, "64-bit range"),
    ],
)
def test_what_is_not_pieces_is_refused(change, error, message):
    Pieces(**GOOD)
    with pytest.raises(error, match=message):
        Pieces(**{**GOOD, **change})


@pytest.mark.parametrize("bounds", [(-1, 2), (3, 2), (0, 6)])
def test_slices_outside_the_axis_are_refused(bounds):
    with pytest.raises(ValueError, match="slice must lie within 0 to 5"):
        Pieces.whole(5).slice(*bounds)


def test_bad_counts_are_refused():
    with pytest.raises(ValueError, match="n must be at least 0, got -1"):
        Pieces.whole(-1)
    with pytest.raises(ValueError, match="parts must be at least 1, got 0"):
        Pieces.whole(3).cut(0)
