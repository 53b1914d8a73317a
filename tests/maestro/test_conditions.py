"""What belongs together, and what does not."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maestro.errors import SelectorError
from maestro.triggers.conditions import Condition, Joining

U, V = '(name = "u")', '(name = "v")'


@given(
    places=st.integers(1, 4),
    come=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3))),
)
def test_the_nth_set_of_a_key_has_the_nth_of_each_place(places, come):
    joining, sets = Joining(places), defaultdict(list)
    queues = defaultdict(lambda: [[] for _ in range(places)])
    for number, (key, place) in enumerate(come):
        queues[key][place % places].append(number)
        complete = joining.add(key, place % places, number)
        if complete is not None:
            assert number in complete, "it is complete with the last of it"
            sets[key].append(complete)
    left = []
    for key, each in queues.items():
        assert sets[key] == list(zip(*each, strict=False))
        left += [number for queue in each for number in queue[len(sets[key]) :]]
    assert sorted(joining.clear()) == sorted(left)
    assert not joining.clear()


def test_nothing_is_kept_of_sets_that_are_complete():
    joining = Joining(2)
    for key in range(1000):
        assert joining.add(key, 0, "u") is None
        assert joining.add(key, 1, "v") == ("u", "v")
    assert not joining._waiting


def test_one_selector_for_all_that_may_be_of_use():
    assert Condition.of([]).text is None
    assert Condition.of([U]).text == U
    assert Condition.of([U, None], by="step").text == "(and (has step))"
    assert Condition.of([U, V], by=["step", "level"]).text == (
        '(and (or (name = "u") (name = "v")) (has step) (has level))'
    )


def test_which_places_a_cdo_takes():
    condition = Condition.of([U, None, "(level > 500)"], by="step")
    assert condition.places({"name": "u", "step": 6}) == [0, 1]
    assert condition.places({"name": "w", "step": 6, "level": 850}) == [1, 2]
    assert condition.places({"name": "u"}) == [], "it has no step"


def test_lists_and_dicts_are_values_that_can_be_had_in_common():
    condition = Condition.of([U, V], by=("a", "b"))
    one = condition.key({"a": [1, [2]], "b": {"y": 1, "x": [2]}})
    assert one == condition.key({"b": {"x": [2], "y": 1}, "a": [1, [2]]})
    assert hash(one)
    assert one != condition.key({"a": [1, [3]], "b": {"y": 1, "x": [2]}})


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"selectors": ["(step = )"]}, SelectorError, "column 9"),
        ({"selectors": [U], "by": "no key"}, SelectorError, "column"),
        ({"selectors": [3]}, TypeError, "selector: got 3"),
    ],
)
def test_what_is_no_condition(asked, error, says):
    with pytest.raises(error, match=says):
        Condition.of(**asked)
