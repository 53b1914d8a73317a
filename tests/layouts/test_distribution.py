from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Replicated
from layouts.orders import in_order
from tests.layouts import naive
from tests.layouts.strategies import distributions, shapes


@settings(max_examples=500, deadline=None)
@given(shapes.flatmap(distributions))
def test_parts_are_those_of_the_oracle(distribution):
    array = naive.labels(distribution.shape)
    expected = naive.scatter(distribution, array)
    parts = distribution.split(array)
    assert len(parts) == distribution.size == len(expected)
    for rank, (part, wanted) in enumerate(zip(parts, expected, strict=True)):
        assert part.shape == wanted.shape == distribution.local_shape(rank)
        assert np.array_equal(part, wanted)
        assert in_order(part, distribution.order)
        assert [i.tolist() for i in distribution.indices(rank)] == naive.indices(distribution, rank)


@settings(max_examples=300, deadline=None)
@given(shapes.flatmap(distributions))
def test_join_undoes_the_oracles_scatter(distribution):
    array = naive.labels(distribution.shape)
    joined = distribution.join(naive.scatter(distribution, array))
    assert np.array_equal(joined, array)
    assert in_order(joined, distribution.order)


@given(shapes.flatmap(distributions), st.data())
def test_coordinates_run_through_the_grid_in_c_order(distribution, data):
    rank = data.draw(st.integers(0, distribution.size - 1))
    assert distribution.coordinates(rank) == tuple(
        np.argwhere(np.ones(distribution.grid, bool))[rank]
    )


@given(shapes.flatmap(distributions))
def test_distributions_are_values(distribution):
    twin = dataclasses.replace(distribution)
    assert twin == distribution
    assert hash(twin) == hash(distribution)
    with pytest.raises(dataclasses.FrozenInstanceError):
        distribution.shape = ()


def test_one_spelling_for_one_meaning():
    assert Cyclic() == BlockCyclic(1) == Cyclic()
    assert hash(Cyclic()) == hash(BlockCyclic(1))
    assert Cyclic() != BlockCyclic(2)
    assert Distribution((2, 3), order=(1, 0)).order == "F"
    assert Distribution((2, 3), order=[0, 1]) == Distribution((2, 3))
    assert Distribution((4,), order="F") == Distribution((4,), order="C")


def test_the_defaults_are_one_rank_in_c_order():
    d = Distribution((3, 4))
    assert (d.size, d.grid, d.axes, d.order) == (1, (1, 1), (Block(), Block()), "C")
    scalar = Distribution(())
    assert (scalar.size, scalar.local_shape(0), scalar.coordinates(0)) == (1, (), ())


def test_split_of_an_array_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"its shape is \(3, 2\), expected \(2, 3\)"):
        Distribution((2, 3), (2, 1)).split(np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (ValueError, r"grid: got 1 entries \(2,\), expected 2", lambda: Distribution((4, 4), (2,))),
        (ValueError, r"axes: got 3 entries", lambda: Distribution((4,), (2,), (Block(),) * 3)),
        (ValueError, "grid: got 0, expected 1 or more", lambda: Distribution((4,), (0,))),
        (TypeError, "grid: got 1.5, expected an integer", lambda: Distribution((4,), (1.5,))),
        (TypeError, "grid: got 2, expected one entry", lambda: Distribution((4,), 2)),
        (ValueError, "shape: got -1, expected 0 or more", lambda: Distribution((-1,))),
        (TypeError, "shape: got True", lambda: Distribution((True,))),
        (TypeError, r"axes\[0\]: got 'block'", lambda: Distribution((4,), (2,), ("block",))),
        (TypeError, r"axes\[0\]: got <class", lambda: Distribution((4,), (2,), (Block,))),
        (ValueError, "BlockCyclic size: got 0", lambda: BlockCyclic(0)),
        (TypeError, "BlockCyclic size: got 2.0", lambda: BlockCyclic(2.0)),
        (ValueError, "3 is followed by 2 at position 2", lambda: Irregular([0, 3, 2, 4])),
        (ValueError, "the first is 1, expected 0", lambda: Irregular([1, 4])),
        (ValueError, "expected at least 2", lambda: Irregular([0])),
        (
            ValueError,
            r"axes\[1\] of shape \(4, 5\): Irregular bounds: the last is 4, expected the extent 5",
            lambda: Distribution((4, 5), (1, 2), (Block(), Irregular([0, 2, 4]))),
        ),
        (
            ValueError,
            "got 3 cut points, expected 4",
            lambda: Distribution((4,), (3,), (Irregular([0, 2, 4]),)),
        ),
        (ValueError, "order: got 'A'", lambda: Distribution((4,), order="A")),
        (ValueError, r"order: got \(0, 0\)", lambda: Distribution((4, 4), order=(0, 0))),
        (ValueError, r"order: got \(0,\)", lambda: Distribution((4, 4), order=(0,))),
        (TypeError, "order: got 3", lambda: Distribution((4, 4), order=3)),
        (
            IndexError,
            "rank: got 2, expected 0 to 1",
            lambda: Distribution((4,), (2,)).local_shape(2),
        ),
        (IndexError, "rank: got -1", lambda: Distribution((4,), (2,)).coordinates(-1)),
    ],
)
def test_bad_input_is_refused_with_what_was_given_and_expected(error, message, make):
    with pytest.raises(error, match=message):
        make()


def test_replicated_parts_are_whole():
    d = Distribution((3, 2), (2, 2), (Replicated(), Cyclic()))
    assert [d.local_shape(rank) for rank in range(4)] == [(3, 1)] * 4
