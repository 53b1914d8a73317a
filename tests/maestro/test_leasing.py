"""Small parts that are stored while they are being offered: used, forgotten, left by the dead."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import maestro
from maestro import messages as m
from maestro.errors import AlreadyOfferedError, PoolFullError
from tests.maestro.pools import F8, HALVES, WHOLE, Pool
from tests.maestro.waiting import until

ARRAY = np.arange(128.0)


# What the manager makes of it


@pytest.fixture
def pool():
    pool = Pool(nodes=2, limit=128)  # bytes: room for two parts each
    pool.join("p"), pool.join("c")
    for name in "abcdef":
        pool.seal("p", name, name)
    yield pool
    pool.check()


def offer(pool, handle, placed=(), layout=WHOLE):
    answer = pool.ask(m.Offer, "p", handle, dtype=F8, distribution=layout, placed=placed)
    pool.ask(m.Stored, "p", handle)
    return answer


def test_the_next_version_is_leased_and_used(pool):
    first = offer(pool, "a")
    serial, node = first["lease"]
    assert (serial, node) == (first["version"] + 1, "node-1"), "the emptier one"
    pool.seal("c", "other", "x")
    others = pool.ask(m.Offer, "c", "other", dtype=F8, distribution=WHOLE)
    assert others["version"] > serial, "it is nobody else's"
    second = offer(pool, "b", (serial, node))
    assert (second["version"], second["nodes"]) == (serial, {0: node})
    assert second["lease"][0] > others["version"]


def test_nobody_has_two_and_who_wants_none_gets_none(pool):
    assert "lease" not in pool.offer("p", "a")
    assert "lease" in offer(pool, "b")
    assert "lease" not in offer(pool, "c"), "it has one"


def test_what_does_not_fit_where_it_is_goes_elsewhere(pool):
    lease = offer(pool, "a")["lease"]
    pool.offer("p", "b", WHOLE), pool.offer("p", "c", HALVES)
    lost = lease[1]
    pool.held = {key for key in pool.held if key[0] != lost}
    pool.send(m.NodeLost(lost))
    answer = offer(pool, "d", lease)
    assert answer["version"] != lease[0]
    assert answer["nodes"] != {0: lost}


def test_what_is_refused_keeps_its_lease_and_other_leases_are_passed_over(pool):
    lease = offer(pool, "a")["lease"]
    with pytest.raises(PoolFullError):
        offer(pool, "b", lease, type(WHOLE)((64,)))
    assert offer(pool, "c", (lease[0] + 7, lease[1]))["version"] != lease[0]
    assert offer(pool, "d", lease, HALVES)["version"] != lease[0], "of two parts"
    pool.ask(m.Withdraw, "p", "d")
    assert offer(pool, "e", lease)["version"] == lease[0]


@pytest.mark.parametrize("died", [False, True])
def test_a_dead_app_may_have_left_something(pool, died):
    serial, node = offer(pool, "a")["lease"]
    pool.held.add((node, serial, 0))
    if died:
        pool.send(m.LineLost("p"))
    else:
        pool.held.discard((node, serial, 0))
        pool.leave("p")
    assert not pool.registry.leases
    assert not pool.held


# Through a pool


def held(app):
    """What the node of an embedded pool holds, by version."""
    (parts,) = app.client.run(
        lambda dask_worker: [v for v, _ in dask_worker.extensions["maestro"].holdings.parts]
    ).values()
    return parts


def test_a_part_is_stored_while_it_is_offered(app, monkeypatch):
    app.offer("first", ARRAY)
    lease = app._link.lease
    assert lease is not None
    under_way, both = set(), []
    ask = type(app._link._asker).ask

    async def counted(self, word, *rest):
        under_way.add(word)
        both.append({"offer", "store"} <= under_way)
        await asyncio.sleep(0)
        try:
            return await ask(self, word, *rest)
        finally:
            under_way.discard(word)

    monkeypatch.setattr(type(app._link._asker), "ask", counted)
    app.offer("second", ARRAY)
    monkeypatch.undo()
    assert any(both)
    assert app.pool["second"].version == lease[0]
    assert np.array_equal(app.demand("second"), ARRAY)
    assert app._link.lease != lease


def test_what_is_refused_is_forgotten(app):
    app.offer("there", ARRAY)
    lease = app._link.lease
    with pytest.raises(AlreadyOfferedError):
        app.offer("there", ARRAY)
    until(lambda: lease[0] not in held(app))
    assert app._link.lease == lease, "it serves the next one"
    app.offer("other", ARRAY)
    assert app.pool["other"].version == lease[0]


def test_many_at_once_use_it_once(app):
    async def main():
        async with maestro.connect(app.address) as other:
            for prefix in "ab":
                names = [f"{prefix}-{number}" for number in range(20)]
                await asyncio.gather(*(other.offer(name, ARRAY) for name in names))
                pool = await other.pool
                assert len({pool[name].version for name in names}) == 20
                for name in names:
                    assert np.array_equal(await other.demand(name), ARRAY)

    asyncio.run(main())
