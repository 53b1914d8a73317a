from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from layouts import convert
from layouts.orders import empty, in_order, slowest_first


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_convert_keeps_elements_and_sets_the_order(data):
    array = data.draw(
        hnp.arrays(
            st.sampled_from(["u1", ">i2", "f4", "f8", "c16", "S5"]),
            hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6),
        )
    )
    axes = data.draw(st.permutations(range(array.ndim)))
    view = array.transpose(axes)
    if view.ndim and data.draw(st.booleans()):
        view = view[::-1]
    order = data.draw(
        st.sampled_from(["C", "F", tuple(data.draw(st.permutations(range(view.ndim))))])
    )
    result = convert(view, order)
    assert result.dtype == view.dtype
    assert result.tobytes() == view.tobytes()
    assert in_order(result, order)
    assert not np.shares_memory(result, array)


def test_a_cyclic_permutation_is_checked_against_bytes():
    # One that is not its own inverse: a transposition undone by itself would prove nothing.
    array = np.arange(24, dtype="<i4").reshape(2, 3, 4)
    memory = convert(array, (2, 0, 1)).transpose(2, 0, 1)
    expected = [array[i, j, k] for k in range(4) for i in range(2) for j in range(3)]
    assert memory.flags.c_contiguous
    assert memory.ravel().tolist() == expected


def test_out_is_filled_and_returned():
    array = np.arange(12.0).reshape(3, 4)
    out = empty((3, 4), "f8", "F")
    out.fill(np.nan)
    assert convert(array, "F", out=out) is out
    assert np.array_equal(out, array)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((3, 4)), "expected memory in order 'F'"),
        (empty((4, 3), "f8", "F"), r"its shape is \(4, 3\), expected \(3, 4\)"),
        (empty((3, 4), "f4", "F"), "float32.*float64"),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out, message):
    with pytest.raises((ValueError, TypeError), match=message):
        convert(np.zeros((3, 4)), "F", out=out)


def test_objects_are_refused():
    with pytest.raises(TypeError, match="object"):
        convert(np.array([[object()]]), "F")


@given(st.integers(0, 5).flatmap(lambda n: st.permutations(range(n))))
def test_empty_lies_in_its_order(axes):
    array = empty(range(2, 2 + len(axes)), "f4", tuple(axes))
    assert array.shape == tuple(range(2, 2 + len(axes)))
    assert in_order(array, tuple(axes))
    assert slowest_first(tuple(axes), len(axes)) == tuple(axes)
