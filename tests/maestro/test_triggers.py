"""Tasks that begin when CDOs are in the pool: on what, where, and whom they keep waiting."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import LocalCluster, get_worker

import maestro
from layouts import Distribution
from tests.maestro.conftest import check
from tests.maestro.test_onhost import pool
from tests.maestro.waiting import in_thread, until

ARRAY = np.arange(24.0).reshape(6, 4)

#: Large enough to lie where other nodes of the host can take it over.
BIG = np.arange(1 << 16, dtype="f8").reshape(256, 256)

#: What `wait_for_gate` waits for: its tasks run in this process.
GATE = threading.Event()
INSIDE = threading.Semaphore(0)


@pytest.fixture(scope="module")
def cluster():
    """Two nodes in processes of their own, of which none takes tasks from the other."""
    with (
        dask.config.set({"distributed.scheduler.work-stealing": False}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def gate():
    GATE.clear()
    yield GATE
    GATE.set()


@pytest.fixture
def other(app):
    with maestro.connect(app.address, component="other") as other:
        yield other


@pytest.fixture
def spread(cluster):
    """An app in a pool of two nodes, each a process."""
    with maestro.connect(cluster, component="test") as app:
        yield app
        check(app)


def total(match):
    return float(np.sum(match))


def wait_for_gate(match):
    INSIDE.release()
    assert GATE.wait(300)
    return match.name


def refuse(match):
    raise ZeroDivisionError(match.name)


def worker_of(match):
    return get_worker().address, match.data.tobytes()


def die_once(match):
    """End the worker that comes first."""
    try:
        (Path(match.attributes["folder"]) / "died").mkdir()
    except FileExistsError:
        return get_worker().address, match.data.tobytes()
    os._exit(1)


def results(trigger):
    """All of a trigger that has been ended."""
    return {key: future.result(timeout=300) for key, future in trigger}


def test_a_task_for_each_cdo_that_matches(app, other):
    first = other.offer("before", [1.0, 2.0], attributes={"step": 6})
    other.offer("unmatched", [5.0], attributes={"step": 7})
    trigger = app.when("(step = 6)")(total)
    second = other.offer("after", [3.0, 4.0], attributes={"step": 6})
    for cdo in (first, second):
        cdo.withdraw(timeout=300)
    trigger.end()
    assert results(trigger) == {"before": 3.0, "after": 7.0}
    assert (trigger.started, trigger.failed, trigger.missed) == (2, 0, 0)
    assert trigger.wait() == []
    assert list(trigger) == []


def test_what_a_task_is_given(app):
    @app.when()
    def see(match):
        whole = match.data
        whole[...] += 1  # it is the task's own
        return match.name, match.version, match.attributes, whole, match.dependencies

    rows = Distribution(ARRAY.shape, (3, 1))
    with see:
        have = app.offer("t2m", rows.split(ARRAY), rows, attributes={"step": 6})
    ((name, version, attributes, data, along),) = results(see).values()
    assert (name, version, along) == ("t2m", app.pool["t2m"].version, {})
    assert attributes["step"] == 6
    assert attributes[".maestro.core.cdo.layout.dims-size"] == [6, 4]
    assert np.array_equal(data, ARRAY + 1)
    assert np.array_equal(app.demand("t2m"), ARRAY)
    have.withdraw()


def test_a_decorated_function_can_still_be_called(app):
    @app.when("(step = 6)")
    def double(values):
        return 2 * values

    assert double(3) == 6
    assert double.function(4) == 8
    double.end()
    double.end()


def test_tasks_run_where_the_data_is(spread):
    with spread.when()(worker_of) as trigger:
        for number in range(6):
            spread.offer(f"t{number}", BIG + number)
    where = {name: entry.nodes for name, entry in spread.pool.items()}
    assert len({node for (node,) in where.values()}) == 2
    for name, (worker, data) in results(trigger).items():
        assert [worker] == where[name]
        assert data == (BIG + int(name[1:])).tobytes()


def test_sets_of_what_belongs_together(app, other):
    offered = []

    def offer(name, step, value):
        attributes = {"name": name, "step": step}
        offered.append(other.offer(f"{name}{value}", [value], attributes=attributes))

    offer("u", 6, 1.0)

    @app.when('(name = "u")', '(name = "v")', by="step")
    def pair(u, v):
        return float(u.data[0]), float(v.data[0])

    offer("v", 12, 2.0)
    offer("u", 12, 3.0)
    offer("v", 6, 4.0)
    offer("u", 6, 5.0)
    offer("v", 6, 6.0)
    offer("v", 18, 7.0)
    for cdo in offered[:-1]:
        cdo.withdraw(timeout=300)
    until(lambda: pair._joining._waiting)  # the last one is required by now
    with pytest.raises(maestro.PoolTimeoutError, match=f"required by {app.name}"):
        offered[-1].withdraw(timeout=0.05)
    done = in_thread(offered[-1].withdraw)
    pair.end()
    done()  # it is let go
    found = sorted((step, future.result()) for step, future in pair)
    assert found == [(6, (1.0, 4.0)), (6, (5.0, 6.0)), (12, (3.0, 2.0))]


def test_sets_without_anything_in_common(app):
    @app.when('(name = "a")', "(has name)")
    def names(one, other):
        return one.attributes["name"] + other.attributes["name"]

    with names:
        for name in "bac":
            app.offer(name, attributes={"name": name})
    assert results(names) == {("a", "b"): "ab"}


def test_a_cdo_is_kept_until_its_task_has_ended_and_no_longer(app, other, gate):
    trigger = app.when(limit=1)(wait_for_gate)
    first, second = other.offer("first", [1.0]), other.offer("second", [2.0])
    assert INSIDE.acquire(timeout=300)
    until(lambda: len(trigger._running) == 2)  # both are required by now
    for cdo in (first, second):  # one has a task that runs, the other is still to have one
        with pytest.raises(maestro.PoolTimeoutError, match=f"required by {app.name}"):
            cdo.withdraw(timeout=0.05)
    assert trigger.started == 1
    withdrawn = [in_thread(first.withdraw), in_thread(second.withdraw)]
    gate.set()
    for done in withdrawn:
        done()
    trigger.end()
    assert results(trigger) == {"first": "first", "second": "second"}
    assert INSIDE.acquire(timeout=300)


def test_what_is_withdrawn_meanwhile_is_missed(app, other, monkeypatch):
    """It cannot be while the trigger is told of it; but when it looks what is there already."""
    have = other.offer("gone", [1.0])
    other.offer("there", [2.0])
    look = app._list_pool

    async def late():
        pool = await look()
        await have._withdraw(timeout=300)
        return pool

    monkeypatch.setattr(app, "_list_pool", late)
    trigger = app.when()(total)
    trigger.end()
    assert results(trigger) == {"there": 2.0}
    assert trigger.missed == 1
    assert other.offer("gone", [3.0]).withdraw(timeout=300) is None, "nobody keeps it"


def test_errors_are_told_and_keep_nobody_waiting(app, other, caplog):
    trigger = app.when()(refuse)
    for name in ("a", "b"):
        other.offer(name, [1.0]).withdraw(timeout=300)
    trigger.end()
    found = dict(trigger)
    assert {future.status for future in found.values()} == {"error"}
    for name, future in found.items():
        with pytest.raises(ZeroDivisionError, match=name):
            future.result()
    assert trigger.failed == 2
    assert "Trigger refuse: the task on CDO 'a' failed: ZeroDivisionError('a')" in caplog.messages


def test_what_is_given_of_groups_and_dependencies(app):
    @app.when("(kind = 1)")
    def see(match):
        return match.data, match.dependencies

    with see:
        app.offer("grid", [0.5])
        rain = app.declare("rain", depends=["grid"], attributes={"kind": 1})
        rain.offer([1.0])
        wind = app.group("wind", [app.declare("u"), app.declare("v")], {"kind": 1})
        wind.offer({"u": [2.0], "v": [3.0]})
    found = results(see)
    assert found == {
        "rain": (np.array([1.0]), {"grid": np.array([0.5])}),
        "wind": ({"u": np.array([2.0]), "v": np.array([3.0])}, {}),
    }


def test_no_data_is_no_array(app):
    with app.when()(total) as trigger:
        app.offer("barrier")
    ((_, future),) = trigger
    with pytest.raises(TypeError, match="'barrier': it has no data, expected an array"):
        future.result()


def test_ranks_of_several_apps_are_one_cdo(app, other):
    halves = Distribution((8,), (2,))
    with app.when()(total) as trigger:
        for rank, each in enumerate((app, other)):
            cdo = each.declare("x", halves, rank=rank, attributes={"step": 6})
            cdo.offer(np.full(4, 1.0 + rank))
    assert results(trigger) == {"x": 12.0}


def test_a_name_that_is_offered_again_and_again(app, other):
    trigger = app.when(limit=2)(total)
    for number in range(5):
        other.offer("x", [float(number)]).withdraw(timeout=300)
    trigger.end()
    found = list(trigger)
    assert [key for key, _ in found] == ["x"] * 5
    assert sorted(future.result() for _, future in found) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_what_the_app_itself_offers_can_be_left_out(app, other):
    app.offer("mine before")
    with app.when(own=False)(lambda match: match.name) as trigger:
        app.offer("mine")
        other.offer("theirs")
    assert results(trigger) == {"theirs": "theirs"}


def test_a_burst_that_no_queue_holds_is_looked_up():
    """Events that were missed are not needed: what is in the pool counts."""
    with dask.config.set({"maestro.events.queue": 2}), maestro.connect() as app:
        names = [f"t{number}" for number in range(20)]
        have = app.group("all", [app.declare(name) for name in names])
        with app.when('(.maestro.core.cdo.name ~= "^t")')(lambda match: match.name) as trigger:
            have.offer()
        assert results(trigger).keys() == set(names)
        check(app)


def test_results_that_nobody_takes_are_kept_up_to_a_limit():
    with dask.config.set({"maestro.triggers.kept": 2}), maestro.connect() as app:
        trigger = app.when()(total)
        for number in range(5):
            app.offer("x", [float(number)]).withdraw()
            until(lambda number=number: trigger.started == number + 1 and not trigger._running)
        trigger.end()
        assert [future.result() for _, future in trigger] == [3.0, 4.0]


def test_an_app_that_leaves_gives_up_what_is_under_way(app, gate):
    guest = maestro.connect(app.address, component="guest")
    trigger = guest.when(limit=1)(wait_for_gate)
    first, second = app.offer("first", [1.0]), app.offer("second", [2.0])
    assert INSIDE.acquire(timeout=300)
    done = in_thread(second.withdraw)
    guest.leave()
    done()
    first.withdraw()
    with pytest.raises(maestro.PoolLostError, match="has left the pool"):
        trigger.wait()
    gate.set()


def test_a_pool_that_goes_away():
    with LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        app = maestro.connect(cluster)
        trigger = app.when()(total)
        waiting = in_thread(trigger.wait)
        app.client.run_on_scheduler(
            lambda dask_scheduler: [
                wire.close() for wire in dask_scheduler.extensions["maestro"].lines._wires.values()
            ]
        )
        with pytest.raises(maestro.PoolLostError):
            waiting()
        trigger.end()
        app.leave()


def test_a_worker_that_dies_with_a_task(tmp_path):
    """Its node's parts are taken over by another one, and the task runs there."""
    arena = tmp_path / "arena"
    arena.mkdir()
    with pool(2, arena, "1 GiB") as app:
        app.offer("t2m", BIG, attributes={"folder": str(tmp_path)})
        (first,) = app.pool["t2m"].nodes
        with app.when()(die_once) as trigger:
            pass
        ((name, future),) = trigger
        worker, data = future.result(timeout=300)
        assert (name, data) == ("t2m", BIG.tobytes())
        assert worker != first
        assert trigger.failed == 0


def test_a_node_that_dies_with_the_data():
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        maestro.connect(cluster) as app,
    ):
        trigger = app.when("(step = 6)", "(step = 12)")(lambda one, other: None)
        app.offer("x", [1.0], attributes={"step": 6})
        until(lambda: trigger._joining._waiting)
        cluster.scale(0)
        until(lambda: not app.pool.nodes)
        cluster.scale(1)
        until(lambda: app.pool.nodes)
        app.offer("y", [1.0], attributes={"step": 12})
        ((_, future),) = trigger.wait(timeout=300)
        with pytest.raises(maestro.DataLostError, match="'x': "):
            future.result()
        assert trigger.failed == 1
        trigger.end()


def test_asynchronously(app):
    async def main():
        async with maestro.connect(app.address, component="other") as other:

            @other.when("(step = 6)")
            async def twice(match):
                await asyncio.sleep(0)
                return 2 * match.data[0]

            await other.offer("x", [21.0], attributes={"step": 6})
            async for name, future in twice:
                assert (name, await future) == ("x", 42.0)
                await twice.end()
            async with other.when("(step = 12)")(total) as later:
                assert await later.wait(timeout=0) == []
            assert await later.wait() == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("selectors", "how", "function", "error", "says"),
    [
        (["(step = "], {}, total, maestro.SelectorError, "column 9"),
        ([], {"key": "x"}, total, TypeError, "when: got key, expected priority"),
        ([], {"limit": 0}, total, ValueError, "limit: got 0"),
        ([], {}, "total", TypeError, "when: got 'total', expected a function"),
    ],
)
def test_what_is_refused_at_once(app, selectors, how, function, error, says):
    with pytest.raises(error, match=says):
        app.when(*selectors, **how)(function)
    assert not app._triggers


def test_a_function_that_cannot_travel(app):
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"when: .*stuck.* can't be sent to workers: .*lock"):

        @app.when()
        def stuck(match):
            return lock

    trigger = app.when()(total)
    with pytest.raises(ValueError, match="most: got 0"):
        trigger.wait(most=0)
    with pytest.raises(ValueError, match="timeout: got -1"):
        trigger.wait(timeout=-1)


# Parts


def part_of(match):
    """Where it is worked on, on what, and whether that is the node's own memory."""
    node = get_worker().extensions["maestro"]
    held = node.holdings.parts[match.version, match.rank].memory
    given = match.distribution.indices(match.rank)
    own = np.shares_memory(match.data, held) and not match.data.flags.writeable
    own |= not match.data.size
    return get_worker().address, match.data.tobytes(), [ids.tolist() for ids in given], own


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_task_for_each_part_where_it_lies(spread, order):
    for array in (BIG, ARRAY):
        quarters = Distribution(array.shape, (4, 1), order=order)
        name = f"parts-{order}-{len(array)}"
        with spread.when(f'(.maestro.core.cdo.name = "{name}")', parts=True)(part_of) as trigger:
            have = spread.offer(name, quarters.split(array), quarters)
            nodes = spread.pool[name].nodes
            tasks = {}
            while len(tasks) < 4:
                tasks.update(trigger.wait(timeout=300))
            have.withdraw(timeout=300)
        for rank, part in enumerate(quarters.split(array)):
            where, data, indices, own = tasks[name, rank].result()
            assert own
            assert where == nodes[rank]
            assert data == part.tobytes()
            assert [ids.tolist() for ids in quarters.indices(rank)] == indices


def the_part_itself(match):
    return match.data


def test_what_a_task_returns_of_a_part_stays_as_it_is(spread):
    """Whatever becomes of the CDO: its memory is not used for another one."""
    halves = Distribution(BIG.shape, (2, 1))
    with spread.when('(.maestro.core.cdo.name = "kept")', parts=True)(the_part_itself) as trigger:
        have = spread.offer("kept", halves.split(BIG), halves)
        tasks = {}
        while len(tasks) < 2:
            tasks.update(trigger.wait(timeout=300))
        have.withdraw(timeout=300)
    have.dispose()
    for number in range(4):  # each of which would take that memory
        with_others = spread.offer(f"other-{number}", halves.split(-BIG), halves)
        with_others.withdraw()
        with_others.dispose()
    for rank in range(2):
        assert np.array_equal(tasks["kept", rank].result(), halves.split(BIG)[rank])


def die_with_part(match):
    try:
        (Path(match.attributes["folder"]) / "died").mkdir()
    except FileExistsError:
        return match.data.tobytes()
    os._exit(1)


def test_a_part_whose_node_dies_is_worked_on_elsewhere(tmp_path):
    halves = Distribution(BIG.shape, (2, 1))
    (arena := tmp_path / "arena").mkdir()
    with pool(2, arena, "1 GiB") as app:
        with app.when(parts=True)(die_with_part) as trigger:
            attributes = {"folder": str(tmp_path)}
            have = app.offer("doomed", halves.split(BIG), halves, attributes)
            tasks = {}
            while len(tasks) < 2:
                tasks.update(trigger.wait(timeout=300))
            have.withdraw(timeout=300)
        for rank, part in enumerate(halves.split(BIG)):
            assert tasks["doomed", rank].result() == part.tobytes()


async def whole_or_part(match):
    return match.rank, None if match.data is None else match.data.tobytes()


def test_parts_of_what_has_none_and_of_several(app):
    with app.when(parts=True)(whole_or_part) as trigger:
        app.offer("nothing")
        app.offer("one", ARRAY)
        found = {}
        while len(found) < 2:
            found.update((key, future.result()) for key, future in trigger.wait(timeout=300))
    assert found == {"nothing": (None, None), ("one", 0): (0, ARRAY.tobytes())}
    with pytest.raises(ValueError, match="parts: got 2 selectors, expected one"):
        app.when("(has a)", "(has b)", parts=True)
