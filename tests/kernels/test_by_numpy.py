"""The short way of small arrays against the long one, on which everything is looked at."""

from unittest.mock import patch

import hypothesis.strategies as st
from hypothesis import given, settings

from kernels import permutation, permute
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
