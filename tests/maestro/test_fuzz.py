"""Messages of any kind to manager and nodes: answered or refused, and the pool goes on."""

from __future__ import annotations

import dataclasses

import dask
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import maestro
from layouts import Distribution
from maestro import messages as m
from maestro.errors import from_wire
from tests.maestro.conftest import check
from tests.maestro.stranger import stranger

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=True)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
LAYOUT = Distribution((4, 6), (2, 1)).to_dict()
#: What fields hold in messages that do follow the protocol.
LIKELY = {
    "distribution": st.sampled_from([None, LAYOUT, {**LAYOUT, "shape": [1 << 62, 1 << 62]}]),
    "dtype": st.sampled_from([None, "'<f8'", "[('a', '|u1')]", "'O'"]),
    "rank": st.sampled_from([None, 0, 1, -1]),
    "handle": st.sampled_from(["h", "other"]),
    "name": st.sampled_from(["t2m", ""]),
    "subscription": st.sampled_from(["s", "t"]),
    "attributes": st.just({}),
    "defaults": st.just({}),
    "depends": st.sampled_from([[], ["t2m"], ["u10"]]),
    "group": st.booleans(),
    "push": st.booleans(),
    "along": st.booleans(),
    "waited": st.just(0.0),
    "members": st.sampled_from([[], ["h"], ["other"], ["h", "h"]]),
    "near": st.just({}),
    "wait": st.booleans(),
    "kinds": st.just(["offer", "declare"]),
    "when": st.sampled_from(["before", "after"]),
    "selector": st.sampled_from([None, '(.maestro.core.cdo.name = "t2m")', "((("]),
    "ack": st.booleans(),
    "own": st.booleans(),
    "since": st.sampled_from([None, 0, 1 << 62]),
    "durable": st.sampled_from([None, "d"]),
    "patience": st.sampled_from([None, 0, 1.5]),
    "most": st.sampled_from([None, 0, 5]),
    "serials": st.just([1, 2]),
    "count": st.sampled_from([0, 3, 1 << 62]),
    "served": st.booleans(),
}


#: A call that others consist of.
PART = {
    "seals": {
        **{"handle": "h", "name": "t2m", "rank": None, "dtype": None, "distribution": None},
        **{
            "attributes": {},
            "defaults": {},
            "depends": [],
            "group": False,
            "members": [],
            "push": False,
        },
    },
    "offers": {"handle": "h", "dtype": None, "distribution": None, "near": {}},
}
for field, words in PART.items():
    part = st.fixed_dictionaries({name: LIKELY.get(name, st.just(v)) for name, v in words.items()})
    LIKELY[field] = st.lists(part | PLAIN, max_size=3)


@st.composite
def calls(draw):
    """Words with most of their fields as they should be, and some as they should not."""
    word = draw(st.sampled_from(sorted(m.CALLS)) | st.text(max_size=6))
    kind = m.CALLS.get(word, m.List)
    fields = {}
    for field in dataclasses.fields(kind):
        if field.name in ("request", "app") or draw(st.integers(0, 15)) == 0:
            continue
        likely = LIKELY.get(field.name, st.text(max_size=3))
        fields[field.name] = draw(PLAIN if draw(st.integers(0, 5)) == 0 else likely)
    if draw(st.integers(0, 9)) == 0:
        fields[draw(st.text(min_size=1, max_size=5).filter(str.isidentifier))] = draw(PLAIN)
    first = draw(PLAIN) if draw(st.integers(0, 9)) == 0 else None
    return draw(PLAIN) if draw(st.integers(0, 19)) == 0 else word, fields, first


@pytest.fixture(scope="module")
def app():
    # What a stranger subscribed to for good, and acknowledges, holds withdrawals for so long.
    with (
        dask.config.set({"maestro.events.patience": "100 ms"}),
        maestro.connect(component="test") as app,
    ):
        yield app


# Hypothesis takes the random numbers that Dask's threads draw meanwhile for ours.
@pytest.mark.filterwarnings("ignore:Do not use the .random. module")
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_calls_of_any_kind(app, data):
    messages = data.draw(st.lists(calls(), min_size=1, max_size=6))

    async def talk():
        async with stranger(app.client) as say:
            await say("join", {"client": "nobody", "workflow": "w", "component": "c"})
            for word, fields, first in messages:
                value, error = await say(word, fields, 0.01, first)
                assert value is None or error is None
                if error is not None:
                    error = from_wire(error)
                    assert isinstance(error, maestro.MaestroError)
                    assert "the pool manager failed" not in str(error)

    app.client.sync(talk)
    app.offer("after", np.arange(3)).withdraw(timeout=120)
    check(app)


@pytest.mark.filterwarnings("ignore:Do not use the .random. module")
@settings(max_examples=100, deadline=None)
@given(words=st.dictionaries(st.sampled_from(["version", "ranks", "itemsize"]), PLAIN))
def test_nodes_are_asked_anything(app, words):
    (node,) = app._link.run(app._link.call, "nodes")
    with pytest.raises(maestro.ProtocolError, match="delivery of array bytes"):
        app.client.sync(app._link.ways.nodes.call, node, "place", delivery=words)
    app.offer("after", np.arange(3)).withdraw(timeout=120)
