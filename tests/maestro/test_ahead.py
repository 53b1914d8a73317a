"""What is moved before it is demanded: eagerly, and pushed."""

from __future__ import annotations

import asyncio

import dask
import numpy as np
import pytest

import maestro
from layouts import Block, Cyclic, Distribution, Replicated
from maestro import messages as m
from maestro.programs.keeping import KeepAlive
from maestro.transport import transfer
from tests.maestro.conftest import check
from tests.maestro.waiting import in_thread, until

ROWS = Distribution((6, 4), (3, 1))
COLUMNS = Distribution((6, 4), (1, 2), order="F")
FIELD = np.arange(24.0).reshape(6, 4)


@pytest.fixture(scope="module")
def pool():
    with maestro.connect(component="pool") as app:
        yield app


@pytest.fixture
def connect(pool):
    apps = []

    def joined(ahead="1 MiB"):
        with dask.config.set({"maestro.transfer.ahead": ahead}):
            apps.append(maestro.connect(pool.address, component=f"app{len(apps)}"))
        return apps[-1]

    yield joined
    for app in apps:
        ahead = app._link.ahead
        app.leave()
        assert not ahead.moves
        assert ahead.used == 0
    until(lambda: not pool.pool)
    check(pool)


@pytest.mark.parametrize("eagerness", ["eager", "push"])
@pytest.mark.parametrize("first", ["offer", "require"])
def test_what_is_moved_ahead_is_served(connect, eagerness, first):
    """Its producer withdraws it, and the demand finds it here."""
    producer, consumer = connect(), connect()
    offered = producer.declare("t2m", ROWS, eagerness="push" if eagerness == "push" else "lazy")
    wanted = consumer.declare(
        "t2m", COLUMNS, rank=1, eagerness="eager" if eagerness == "eager" else "lazy"
    )
    if first == "require":
        wanted.require()
    offered.offer(ROWS.split(FIELD))
    if first == "offer":
        wanted.require()
    offered.withdraw(timeout=300)
    assert not producer.pool
    part = wanted.demand(timeout=0)
    assert np.array_equal(part, FIELD[:, 2:])
    assert part.flags.f_contiguous
    assert wanted.report.bytes == part.nbytes
    assert consumer._link.ahead.used == 0
    part[:] = 0  # the caller's own
    wanted.require()
    offered.offer(ROWS.split(FIELD))
    assert np.array_equal(wanted.demand(timeout=300), FIELD[:, 2:]), "and again"


def test_a_lazy_requirement_is_not_served_before_it_is_demanded(connect):
    producer, consumer = connect(), connect()
    offered = producer.offer("t2m", FIELD)
    wanted = consumer.declare("t2m")
    wanted.require()
    with pytest.raises(maestro.PoolTimeoutError, match="still required by app1"):
        offered.withdraw(timeout=0.1)
    wanted.retract()


def test_it_moves_in_the_order_of_the_requirements_as_far_as_there_is_room(connect):
    producer, consumer = connect(), connect(ahead="500 B")  # two of them
    offered = {name: producer.offer(name, FIELD + ord(name)) for name in "cab"}
    wanted = {name: consumer.declare(name, eagerness="eager") for name in "abc"}
    for each in wanted.values():
        each.require()
    for name in "ab":
        offered[name].withdraw(timeout=300)
    assert consumer._link.ahead.used == 2 * FIELD.nbytes
    with pytest.raises(maestro.PoolTimeoutError, match="still required by app1"):
        offered["c"].withdraw(timeout=0.1)
    assert np.array_equal(wanted["b"].demand(timeout=0), FIELD + ord("b"))
    offered["c"].withdraw(timeout=300)  # there is room for it now
    for name in "ca":
        assert np.array_equal(wanted[name].demand(timeout=0), FIELD + ord(name))


def test_what_is_larger_than_the_limit_stays_in_the_pool(connect):
    producer, consumer = connect(), connect(ahead="100 B")
    wanted = consumer.declare("t2m", eagerness="eager")
    wanted.require()
    offered = producer.offer("t2m", FIELD)
    with pytest.raises(maestro.PoolTimeoutError, match="still required by app1"):
        offered.withdraw(timeout=0.1)
    assert np.array_equal(wanted.demand(timeout=300), FIELD)


@pytest.mark.parametrize("here", [True, False])
def test_it_is_given_in_every_way_that_a_demand_can_have(connect, here):
    producer, consumer = connect(), connect()
    layout = Distribution((6, 4), (2, 2), (Cyclic(), Block()), "F")
    both = Distribution((6, 4), (2, 2), (Replicated(), Block()))
    region = slice(1, 4), slice(1, 3)
    wanted = [consumer.declare("t2m", each, eagerness="eager") for each in (None, layout, both)]
    wanted.append(consumer.declare("t2m", both, rank=3, eagerness="eager"))
    for each in wanted:
        each.require()
    offered = producer.offer("t2m", FIELD)
    if here:
        offered.withdraw(timeout=300)
    cut = FIELD[region]
    assert np.array_equal(wanted[0].demand(timeout=300, region=region), cut)
    parts = wanted[1].demand(timeout=300, region=region)
    for part, exact in zip(parts, layout.section(region).split(cut), strict=True):
        assert np.array_equal(part, exact)
    parts = dict(wanted[2].demand_parts(timeout=300, region=region))
    for rank, exact in enumerate(both.section(region).split(cut)):
        assert np.array_equal(parts[rank], exact)
    assert np.array_equal(wanted[3].demand(timeout=300), FIELD[:, 2:])


def test_what_cannot_be_given_stays_here(connect):
    producer, consumer = connect(), connect()
    wanted = consumer.declare("t2m", eagerness="eager")
    wanted.require()
    producer.offer("t2m", FIELD).withdraw(timeout=300)
    with pytest.raises(maestro.InconsistentError, match="'t2m'"):
        wanted.demand(region=(slice(0, 7), slice(0, 4)))
    assert wanted.state == "required"
    assert np.array_equal(wanted.demand(timeout=0), FIELD)


@pytest.mark.parametrize("layout", [None, COLUMNS])
def test_what_is_here_may_still_go_to_dask(connect, layout):
    """Whoever wants it there need not know that it is pushed."""
    producer, consumer = connect(), connect()
    wanted = consumer.declare("t2m", layout)
    wanted.require()
    offered = producer.declare("t2m", ROWS, eagerness="push")
    offered.offer(ROWS.split(FIELD))
    offered.withdraw(timeout=300)
    array = wanted.demand_dask()
    assert array.chunks == (((2, 2, 2), (4,)) if layout is None else ((6,), (2, 2)))
    with consumer.client.as_current():
        assert np.array_equal(array.compute(), FIELD)


def test_a_layout_that_dask_has_not_leaves_it_here(connect):
    producer, consumer = connect(), connect()
    wanted = consumer.declare("t2m", Distribution((6, 4), (2, 1), (Cyclic(), Block())))
    wanted.require()
    offered = producer.declare("t2m", eagerness="push")
    offered.offer(FIELD)
    offered.withdraw(timeout=300)
    with pytest.raises(maestro.InconsistentError, match="no layout of a Dask array"):
        wanted.demand_dask()
    parts = wanted.demand(timeout=0)
    assert np.array_equal(parts[1], FIELD[1::2])


def test_what_is_pushed_is_still_kept(connect):
    """Whoever keeps it in the pool does not want it himself."""
    producer, keeper = connect(), connect()
    with KeepAlive(keeper) as keeping:
        offered = producer.declare("t2m", eagerness="push")
        offered.offer(FIELD)
        until(lambda: keeping.kept)
        with pytest.raises(maestro.PoolTimeoutError, match="still required by app1"):
            offered.withdraw(timeout=0.1)
        assert not keeper._link.ahead.moves


def test_what_is_retracted_takes_no_room(connect):
    producer, consumer = connect(), connect()
    wanted = consumer.declare("t2m", eagerness="eager")
    wanted.require()
    producer.offer("t2m", FIELD).withdraw(timeout=300)
    assert consumer._link.ahead.used == FIELD.nbytes
    wanted.retract()
    assert consumer._link.ahead.used == 0
    wanted.dispose()


def test_who_waits_for_it_hears_what_is_missing(connect):
    producer, consumer = connect(), connect()
    wanted = consumer.declare("t2m", eagerness="eager")
    wanted.require()
    with pytest.raises(maestro.PoolTimeoutError, match=r"'t2m': not there after 0.05 s: nobody"):
        wanted.demand(timeout=0.05)
    assert wanted.state == "required"
    wait = in_thread(wanted.demand)
    producer.offer("t2m", FIELD)
    assert np.array_equal(wait(), FIELD)


def test_what_is_lost_is_said_by_the_demand_and_the_next_one_comes(connect):
    producer, other, consumer = connect(), connect(), connect()
    wanted = consumer.declare("t2m", eagerness="eager")
    wanted.require()
    producer.declare("t2m", ROWS, rank=0).offer(FIELD[:2])
    producer.client.run_on_scheduler(_lose, producer.name)
    with pytest.raises(maestro.DataLostError, match=r"'t2m': app 'app0-.*' died while"):
        wanted.demand(timeout=300)
    other.offer("t2m", FIELD).withdraw(timeout=300)
    assert np.array_equal(wanted.demand(timeout=0), FIELD)


def _lose(app, dask_scheduler):
    dask_scheduler.extensions["maestro"].carry_out(m.LineLost(app))


def test_groups_and_what_they_depend_on_move_ahead(connect):
    producer, consumer = connect(), connect()
    wind = consumer.group("wind", eagerness="eager")
    wind.require()
    grid = producer.offer("grid", FIELD)
    group = producer.group("wind", [producer.declare("u", depends=["grid"]), producer.declare("v")])
    group.offer({"u": FIELD + 1, "v": FIELD + 2})
    group.withdraw(timeout=300)
    grid.withdraw(timeout=300)
    data = wind.demand(timeout=0)
    assert np.array_equal(data["u"], FIELD + 1)
    assert np.array_equal(data["v"], FIELD + 2)
    assert np.array_equal(wind.dependencies["grid"], FIELD)


def test_a_group_may_be_pushed(connect):
    producer, consumer = connect(), connect()
    wanted = consumer.group("mine", [consumer.declare("t")])
    wanted.require()
    group = producer.group("g", [producer.declare("t", eagerness="push")])
    group.offer({"t": FIELD})
    group.withdraw(timeout=300)
    assert np.array_equal(wanted.demand(timeout=0)["t"], FIELD)


@pytest.mark.parametrize("size", [24, 400_000])
def test_one_redistribution_serves_all_who_want_the_same(connect, monkeypatch, size):
    producer, consumer = connect(), connect(ahead="100 MiB")
    layout = Distribution((size,), (3,), (Cyclic(),))
    fetched = []
    fetch = transfer.fetch

    async def counted(*args, **how):
        fetched.append(args[3])
        under_way = consumer._link.ways.sharing._under_way
        while len(args[4]) == 3 and max(map(len, under_way.values())) < 3:  # let the others come
            await asyncio.sleep(0.001)
        return await fetch(*args, **how)

    monkeypatch.setattr(transfer, "fetch", counted)
    wanted = [consumer.declare("t", layout, eagerness="eager") for _ in range(4)]
    alone = consumer.declare("t", layout, rank=1, eagerness="eager")
    for each in (*wanted, alone):
        each.require()
    field = np.arange(float(size))
    producer.offer("t", field).withdraw(timeout=300)
    assert len(fetched) == 2
    came = [each.demand(timeout=0) for each in wanted]
    came[0][0][:] = -1  # each is the demander's own
    for parts in came[1:]:
        for part, exact in zip(parts, layout.split(field), strict=True):
            assert np.array_equal(part, exact)
    assert np.array_equal(alone.demand(timeout=0), layout.split(field)[1])
    assert sum(each.report.bytes for each in wanted) == field.nbytes


def test_an_app_that_leaves_leaves_nothing_under_way(connect):
    consumer = connect()
    for name in "abc":
        consumer.declare(name, eagerness="eager").require()
    assert len(consumer._link.ahead.moves) == 3


def test_a_policy_that_is_none_is_refused(connect):
    with pytest.raises(ValueError, match="'t': eagerness: got 'soon', expected one of lazy, eager"):
        connect().declare("t", eagerness="soon")
