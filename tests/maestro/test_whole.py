"""Small parts that are wanted as they lie, without a plan; and everything else as before."""

from __future__ import annotations

import numpy as np
import pytest

import maestro
from layouts import Block, Cyclic, Distribution, Replicated, Tiled
from maestro import fetching, whole
from maestro.ends import AT_ONCE

LAYOUTS = [
    Distribution((5, 7)),
    Distribution((5, 7), order="F"),
    Distribution((5, 7, 3), (2, 1, 3), (Cyclic(), Block(), Block()), order=(1, 2, 0)),
    Distribution((5, 7), (1, 2), (Block(), Replicated())),
    Distribution((5, 7), order=Tiled((2, 4))),
    Distribution((2, 3), (4, 1)),  # two ranks have nothing
    Distribution(()),
    Distribution((0, 3)),
]


@pytest.fixture(scope="module")
def app():
    with maestro.connect(component="test") as app:
        yield app


@pytest.fixture
def planned(monkeypatch):
    """The plans that demands have made."""
    plans = []

    def plan(*args, **kwargs):
        plans.append(args)
        return real(*args, **kwargs)

    real = fetching.plan
    monkeypatch.setattr(fetching, "plan", plan)
    return plans


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_parts_come_as_they_were_offered(app, planned, layout):
    array = np.arange(np.prod(layout.shape, dtype=int)).reshape(layout.shape) + 1
    have = app.declare("x", layout)
    have.offer(layout.split(array))
    want = app.declare("x", layout)
    parts = want.demand(timeout=30)
    assert np.array_equal(layout.join(parts), array)
    assert not planned
    sizes = [layout.local_size(rank) * array.itemsize for rank in range(layout.size)]
    report = {(t.source, t.target): t.bytes for t in want.report.transfers}
    assert report == {(rank, rank): size for rank, size in enumerate(sizes) if size}
    want.dispose()
    one = app.declare("x", layout, rank=layout.size - 1)
    part = one.demand(timeout=30)
    assert np.array_equal(np.asarray(part), np.asarray(parts[-1]))
    one.dispose()
    have.withdraw()
    have.dispose()


def test_what_is_large_or_lies_otherwise_is_planned(app, planned):
    for name, size in (("small", 8), ("limit", AT_ONCE // 8), ("large", AT_ONCE // 8 + 1)):
        array = np.arange(float(size)).reshape(1, size)
        have = app.offer(name, array)
        assert np.array_equal(app.demand(name), array)
        assert bool(planned) is (name == "large")
        have.withdraw()
    planned.clear()
    app.offer("turned", np.arange(6).reshape(2, 3))
    assert np.array_equal(app.demand("turned", order="F"), np.arange(6).reshape(2, 3))
    region = app.demand("turned", region=(slice(1, 2), slice(0, 2)))
    assert region.tolist() == [[3, 4]]
    assert len(planned) == 2


def test_where_it_does_not_work_out_the_stream_brings_it(app, monkeypatch, planned):
    for failure in (None, b"", b"too long", OSError("broken")):

        def answer(*_, failure=failure):
            if isinstance(failure, OSError):
                raise failure
            return failure

        monkeypatch.setattr("maestro.node.bytes_of", answer)
        have = app.offer("y", np.arange(3.0))
        assert app.demand("y").tolist() == [0, 1, 2]
        have.withdraw()
    assert len(planned) == 4


class Held:
    def __init__(self, size):
        self.nbytes, self.memory = size, np.arange(size, dtype=np.uint8)


def test_a_node_gives_what_it_has_if_that_is_little():
    parts = {(7, 0): Held(3), (7, 1): Held(2), (7, 2): Held(AT_ONCE)}
    assert whole.bytes_of(parts, 7, [1, 0]) == bytes([0, 1, 0, 1, 2])
    for version, ranks in ((7, [0, 3]), (8, [0]), (7, [0, 2])):
        assert whole.bytes_of(parts, version, ranks) is None


@pytest.mark.parametrize(("version", "ranks"), [("7", [0]), (7, 0), (7, [[0]]), (None, None)])
def test_a_node_is_asked_nonsense(app, version, ranks):
    (node,) = app.pool.nodes

    async def ask():
        return await app.client.rpc(node).maestro_whole(version=version, ranks=ranks)

    assert app.client.sync(ask) is None
