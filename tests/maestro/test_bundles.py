"""Small parts of many CDOs in one message: the same arrays, and what is wrong is found out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import maestro
from layouts import Block, BlockCyclic, Cyclic, Distribution, Replicated, Tiled
from maestro.transport import small
from maestro.transport.ends import AT_ONCE
from tests.maestro.conftest import check

SHAPE = (7, 5)
LAYOUTS = [
    None,
    Distribution(SHAPE, (3, 1)),
    Distribution(SHAPE, (2, 3), (Cyclic(), BlockCyclic(2)), "F"),
    Distribution(SHAPE, (2, 2), (Replicated(), Block())),
    Distribution(SHAPE, (1, 2), order=Tiled((2, 2))),
    Distribution(SHAPE, (9, 1)),  # some ranks have nothing
]


@pytest.fixture(scope="module")
def app():
    with maestro.connect(component="test") as app:
        yield app


def parts_of(data, layout):
    if layout is None:
        return np.asarray(data)
    return [np.asarray(part) for part in data]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Hypothesis takes the random numbers that Dask's threads draw meanwhile for ours.
@pytest.mark.filterwarnings("ignore:Do not use the .random. module")
@given(
    offered=st.lists(st.sampled_from(LAYOUTS), min_size=1, max_size=6),
    wanted=st.lists(st.sampled_from(LAYOUTS), min_size=6, max_size=6),
    dtype=st.sampled_from(["u1", "f8", "c16", "M8[s]"]),
)
def test_groups_of_small_members_come_as_they_were(app, offered, wanted, dtype):
    arrays = {
        f"m{k}": np.arange(35 * k, 35 * (k + 1)).reshape(SHAPE).astype(dtype)
        for k in range(len(offered))
    }
    group = app.group("g", [app.declare(n, lay) for n, lay in zip(arrays, offered, strict=True)])
    group.offer(
        {
            name: array if layout is None else layout.split(array)
            for (name, array), layout in zip(arrays.items(), offered, strict=True)
        }
    )
    layouts = dict(zip(arrays, wanted, strict=False))
    want = app.group("mine", [app.declare(name, layout) for name, layout in layouts.items()])
    data = want.demand(timeout=300)
    for name, layout in layouts.items():
        expected = arrays[name] if layout is None else layout.split(arrays[name])
        for part, exact in zip(
            [data[name]] if layout is None else data[name],
            [expected] if layout is None else expected,
            strict=True,
        ):
            assert np.array_equal(np.asarray(part), np.asarray(exact))
            assert part.dtype == exact.dtype
        whole = layout or Distribution(SHAPE)
        assert (
            want[name].report.bytes
            == sum(int(np.prod(whole.local_shape(rank))) for rank in range(whole.size))
            * np.dtype(dtype).itemsize
        )
    group.withdraw(timeout=300)
    group.dispose()
    want.dispose()
    check(app)


def test_what_is_small_goes_together_and_the_rest_by_itself(app, monkeypatch):
    said = []
    ask = small._ask

    async def counted(ways, node, word, **what):
        said.append((word, len(what.get("deliveries", what.get("parts")))))
        return await ask(ways, node, word, **what)

    monkeypatch.setattr(small, "_ask", counted)
    arrays = {f"m{k}": np.full(AT_ONCE // 8 // 4, k, "f8") for k in range(10)}
    arrays["large"] = np.arange(AT_ONCE // 8 + 1.0)
    group = app.group("g", [app.declare(name) for name in arrays])
    group.offer(arrays)
    wanted = app.group("g")
    data = wanted.demand(timeout=300)
    assert all(np.array_equal(data[name], array) for name, array in arrays.items())
    assert said == [("store", 4)] * 2 + [("store", 2)] + [("whole", 4)] * 2 + [("whole", 2)]
    group.withdraw()


@pytest.mark.parametrize("answer", [None, False, b"", bytes(23), {"data": 3}])
def test_what_a_message_does_not_bring_comes_by_itself(app, monkeypatch, answer):
    async def answered(*_, **__):
        return answer

    monkeypatch.setattr(small, "_ask", answered)
    group = app.group("g", [app.declare("t"), app.declare("u")])
    group.offer({"t": [1.0], "u": [2.0, 3.0]})
    data = app.group("g").demand(timeout=300)
    assert {name: list(part) for name, part in data.items()} == {"t": [1.0], "u": [2.0, 3.0]}
    group.withdraw()
    check(app)
