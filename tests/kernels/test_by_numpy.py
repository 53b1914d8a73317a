"""The short way of small arrays against the long one, on which everything is looked at."""

from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from kernels import by_numpy, permutation, permute
from tests.kernels.naive import DTYPES, outcome, pairs


@settings(max_examples=400, deadline=None)
@given(pairs(DTYPES), st.data())
def test_permute_ends_as_it_does_on_the_long_way(pair, data):
    axes, arrays = pair
    given_axes = data.draw(st.sampled_from([axes, list(axes), [a - len(axes) for a in axes]]))

    def work(memory):
        source, out = arrays(memory)
        return permute(source, given_axes, out=out) is out

    short = outcome(work)
    with patch.object(permutation, "copied", lambda *_: False):
        assert short == outcome(work)


@pytest.mark.parametrize(
    ("shape", "dtype", "axes", "by_numpy_too"),
    [
        ((300, 300), "f8", (0, 1), True),  # one run
        ((300, 20, 200), "f8", (1, 0, 2), False),  # runs, but more than caches hold
        ((30, 20, 200), "f8", (1, 0, 2), True),
        ((900, 20, 4), "f8", (1, 0, 2), False),  # short runs
        ((90, 90), "f8", (1, 0), True),  # not much
        ((130, 128), "f8", (1, 0), False),  # rows whose lines lie in few of the cache's sets
        ((1676, 2), "f8", (1, 0), True),  # more rows, but many of them to a line
        ((9999, 7), "f8", (1, 0), False),
        ((257, 257), "u1", (1, 0), False),  # narrow elements go by vectors
        ((7, 7, 7, 7, 9), "f8", (4, 3, 2, 1, 0), False),  # short rows
        ((140, 140), "V3", (1, 0), False),  # for what NumPy has no instructions
    ],
)
def test_who_moves_what_is_neither_small_nor_large(shape, dtype, axes, by_numpy_too):
    source = np.zeros(shape, dtype).transpose(axes)
    target = np.zeros(source.shape, dtype)
    assert target.nbytes > by_numpy.SMALL_BYTES
    assert by_numpy.copied(target, source) is (by_numpy_too or None)
