"""Names and attributes into a store and back."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from layouts import Distribution
from maestro.stores.naming import Origin, node_name, original_attributes, to_attributes

names = st.text(st.characters(), min_size=1) | st.sampled_from(
    ["..", "__x", "zarr.json", "a" * 300]
)
leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary()
    | st.text(st.characters())
)  # fmt: skip
values = st.recursive(leaves, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=5)


@given(names)
def test_every_name_is_one_of_a_file(name):
    said = node_name(name)
    assert 0 < len(said) <= 200
    assert said.isascii()
    assert not set(said) - set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-~%"
    )
    assert not said.startswith((".", "__"))
    assert said != "zarr.json"


@given(st.lists(names, unique=True))
def test_different_names_stay_different(given):
    assert len(set(map(node_name, given))) == len(given)


@given(st.dictionaries(st.text(min_size=1), values))
def test_attributes_come_back(attributes):
    attributes.pop("maestro", None)
    origin = Origin.of("x", Distribution((3, 4), (2, 1)), None, "pool", 7)
    stored = json.loads(json.dumps(to_attributes(attributes, origin), allow_nan=False))
    assert repr(original_attributes(stored)) == repr({**_plain_first(attributes, stored)})
    found = Origin.found(stored)
    assert (found["name"], found.distribution, found["version"]) == (
        "x",
        Distribution((3, 4), (2, 1)),
        7,
    )


def _plain_first(attributes, stored):
    """The attributes in the order in which they come back."""
    plain = {key: attributes[key] for key in attributes if key in stored}
    return {**plain, **attributes}
