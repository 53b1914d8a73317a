"""Small parts in a word to their node, and one back; and what goes wrong with it."""

from __future__ import annotations

import numpy as np
import pytest

import maestro
from layouts import Block, Cyclic, Distribution, Replicated, Tiled
from maestro.errors import MaestroError, ProtocolError, from_wire
from maestro.messages import PROTOCOL
from maestro.transport import fetching, small
from maestro.transport.ends import AT_ONCE
from maestro.transport.wire import open_wire

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
    parts = want.demand(timeout=300)
    assert np.array_equal(layout.join(parts), array)
    assert not planned
    sizes = [layout.local_size(rank) * array.itemsize for rank in range(layout.size)]
    report = {(t.source, t.target): t.bytes for t in want.report.transfers}
    assert report == {(rank, rank): size for rank, size in enumerate(sizes) if size}
    want.dispose()
    one = app.declare("x", layout, rank=layout.size - 1)
    part = one.demand(timeout=300)
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
    for failure in (None, b"", b"too long", 3, OSError("broken"), MaestroError("no")):

        def answer(*_, failure=failure):
            if isinstance(failure, Exception):
                raise failure
            return failure

        for give in ("give_whole", "give_pieces", "take"):
            monkeypatch.setattr(small, give, answer)
        have = app.offer("y", np.arange(3.0))
        assert app.demand("y").tolist() == [0, 1, 2]
        assert app.demand("y", region=(slice(1, 3),)).tolist() == [1, 2]
        have.withdraw()
    assert len(planned) == 12


def ask(app, word, **what):
    """What the node answers; or what it says is wrong."""
    (node,) = app.pool.nodes
    try:
        return app.client.sync(app._link.ways.nodes.call, node, word, **what)
    except MaestroError as error:
        return error


def test_a_node_gives_what_it_has_if_that_is_little(app):
    layout = Distribution((5,), (2,))
    app.offer("z", [np.arange(3, dtype="u1"), np.arange(2, dtype="u1")], layout)
    app.offer("full", np.zeros(AT_ONCE, "u1"))
    version, other = (app.pool[name].version for name in ("z", "full"))
    keys = [(version, 1), (version, 0)]
    assert ask(app, "whole", parts=keys) == bytes([0, 1, 0, 1, 2])
    for others in ((version, 3), (10**6, 0), (other, 0)):
        assert ask(app, "whole", parts=[*keys, others]) is None


WORDS = {
    "version": 1,
    "distribution": Distribution((3,)).to_dict(),
    "itemsize": 1,
    "ranks": [0],
    **{"chunk": 1024, "credit": 1, "silence": 1.0},
}


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("whole", {"parts": 3}),
        ("whole", {"parts": [3]}),
        ("whole", {"parts": [[1, [0]]]}),
        ("pieces", {"request": {}}),
        ("store", {"deliveries": 3, "data": b""}),
        ("store", {"deliveries": [{}], "data": b""}),
        ("store", {"deliveries": [WORDS], "data": b"12"}),
        ("store", {"deliveries": [WORDS], "data": "123"}),
        ("store", {"deliveries": [WORDS | {"itemsize": AT_ONCE}], "data": bytes(3 * AT_ONCE)}),
        ("place", {"delivery": {}}),
        ("place", {}),
        ("nonsense", {}),
        (3, {}),
    ],
)
def test_a_node_is_asked_nonsense(app, word, what):
    answer = ask(app, word, **what)
    assert answer is None or isinstance(answer, ProtocolError), answer
    assert app.demand("z").tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("wrong", [(), (1,), (1, "hello", 3)])
def test_who_says_what_is_no_word_is_cut_off(app, wrong):
    (node,) = app.pool.nodes

    async def talk():
        comm = await app.client.rpc.connect(node)
        try:
            wire, _ = await open_wire(comm, op="maestro_line", protocol=PROTOCOL)
            wire.send(1, "hello", {})
            ((number, value, error),) = await wire.read()
            assert (number, sorted(value), error) == (1, ["arena", "token"], None)
            wire.send(*wrong)
            with pytest.raises(OSError, match=r"[Cc]losed"):
                await wire.read()
        finally:
            comm.abort()
            app.client.rpc.reuse(node, comm)

    app.client.sync(talk)


def test_who_speaks_another_version_is_told_so(app):
    (node,) = app.pool.nodes

    async def talk():
        answer = await app.client.rpc(node).maestro_line(protocol=PROTOCOL + 1)
        with pytest.raises(ProtocolError, match=f"the program speaks version {PROTOCOL + 1}"):
            raise from_wire(answer["error"])

    app.client.sync(talk)
