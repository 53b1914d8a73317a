"""Bytes that go straight from one process' memory to another's: apps and nodes of one host."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import LocalCluster
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import maestro
from layouts import Block, BlockCyclic, Distribution, Tiled
from layouts.orders import in_order
from maestro.transport import onhost
from tests.layouts import strategies
from tests.maestro import programs
from tests.maestro.conftest import check
from tests.maestro.test_processes import doomed, kill
from tests.maestro.waiting import in_thread, until

SHAPE = (256, 128, 4)  # 1 MiB
ROWS = Distribution(SHAPE, (4, 1, 1))
COLUMNS = Distribution(SHAPE, (1, 3, 1), (Block(), BlockCyclic(7), Block()), "F")
ARRAY = programs.field(ROWS)
DTYPES = ["u1", ">i2", "f4", "c16", "S3", [("a", "u1"), ("b", "f8")]]


@contextmanager
def pool(workers, directory, memory_limit="auto", **options):
    """A pool of processes with an arena of its own, and an app."""
    config = {
        "maestro.arena.directory": str(directory),
        # Dask closes a nanny so long after its worker was killed, if it is just killed once more.
        "distributed.deploy.lost-worker-timeout": "1 hour",
        # Time enough for a node to be started again, on a machine that has too much to do.
        "maestro.node.heir": "300 s",
        **options,
    }
    with dask.config.set(config):
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=memory_limit,
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            maestro.connect(cluster, component="test") as app,
        ):
            yield app
    assert not list(directory.iterdir()), "something is left in the arena's directory"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A pool that maps whatever it can."""
    with pool(2, tmp_path_factory.mktemp("arena"), **{"maestro.transfer.map-from": "1 B"}) as app:
        yield app


@pytest.fixture
def app(shared):
    with dask.config.set({"maestro.transfer.map-from": "1 B"}):
        yield shared
        check(shared)


def test_no_byte_is_sent(app, monkeypatch):
    monkeypatch.setattr("maestro.transport.network.bring", None)
    monkeypatch.setattr("maestro.transport.network.pull", None)
    have = app.offer("t2m", ROWS.split(ARRAY), ROWS)
    want = app.declare("t2m", COLUMNS)
    for part, wanted in zip(want.demand(timeout=300), COLUMNS.split(ARRAY), strict=True):
        assert in_order(part, "F")
        assert np.array_equal(part, wanted)
    assert want.report.bytes == ARRAY.nbytes
    assert want.report.messages == 0
    assert {transfer.transport for transfer in want.report.transfers} == {"host"}
    assert "1.0 MB on this host" in str(want.report)
    have.withdraw()


def test_what_is_small_goes_in_messages(app):
    with dask.config.set({"maestro.transfer.map-from": "300 kB"}):
        have = app.offer("small", ROWS.split(ARRAY), ROWS)  # 256 KiB each
        want = app.declare("small", COLUMNS)
        want.demand(timeout=300)
    assert {transfer.transport for transfer in want.report.transfers} == {"network"}
    have.withdraw()


def test_who_is_told_so_maps_nothing(app):
    with dask.config.set({"maestro.transfer.same-host": False}):
        have = app.offer("sent", ROWS.split(ARRAY), ROWS)
        want = app.declare("sent", COLUMNS)
        assert np.array_equal(want.demand(timeout=300)[1], COLUMNS.split(ARRAY)[1])
    assert {transfer.transport for transfer in want.report.transfers} == {"network"}
    assert np.array_equal(app.demand("sent"), ARRAY)  # what came in messages can be mapped
    have.withdraw()


def test_who_cannot_see_the_memory_gets_messages(app, monkeypatch):
    monkeypatch.setattr("maestro.transport.ways.is_same_host", lambda *_: False)
    with maestro.connect(app.address) as other:
        assert not other._link.ways._arenas
        have = other.offer("apart", ARRAY)
        assert np.array_equal(other.demand("apart"), ARRAY)
        assert set(other._link.ways._arenas.values()) == {""}
        have.withdraw()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_layout_to_any_other(app, data):
    source, target = data.draw(strategies.pairs())
    dtype = data.draw(st.sampled_from(DTYPES))
    size = int(np.prod(source.shape, dtype=int))
    noise = np.random.default_rng(0).bytes(size * np.dtype(dtype).itemsize)
    array = np.frombuffer(noise, dtype).reshape(source.shape)
    have = app.offer("any", source.split(array), source)
    want = app.declare("any", target)
    for part, wanted in zip(want.demand(timeout=300), target.split(array), strict=True):
        assert np.asarray(part).tobytes() == np.asarray(wanted).tobytes()
    have.withdraw()
    for cdo in (have, want):
        cdo.dispose()


def test_tiles_are_padded_with_zeros(app):
    tiled = Distribution((100, 70), (2, 1), order=Tiled((16, 16)))
    array = np.arange(7000.0).reshape(100, 70)
    have = app.offer("tiles", [array[:50], array[50:]], tiled)
    again = app.declare("tiles", tiled).demand(timeout=300)
    for part, wanted in zip(again, (array[:50], array[50:]), strict=True):
        assert np.array_equal(np.asarray(part), wanted)
    assert np.array_equal(app.demand("tiles"), array)
    have.withdraw()


def test_memory_is_used_again_and_never_under_a_living_array(app):
    first = app.offer("again", ARRAY)
    kept = app.demand("again")
    view = app.demand("again")[3:5]
    first.withdraw()
    for number in range(5):
        until(lambda: not any(app.client.run(_paths).values()))  # the nodes have heard of it
        have = app.offer("again", ARRAY + number)
        assert np.array_equal(app.demand("again"), ARRAY + number)
        have.withdraw()
    assert np.array_equal(kept, ARRAY)
    assert np.array_equal(view, ARRAY[3:5])
    directory = Path(next(iter(app._link.client.run(_directory).values())))
    large = [p for p in directory.rglob("*") if p.is_file() and p.stat().st_size > ARRAY.nbytes]
    assert len(large) <= 4  # of six offers


def _directory():
    return dask.config.get("maestro.arena.directory")


def test_what_is_offered_is_a_copy(app):
    array = ARRAY.copy()
    have = app.offer("copy", array)
    array[...] = 0
    got = app.demand("copy")
    got[0] = 7
    assert np.array_equal(app.demand("copy"), ARRAY)
    have.withdraw()


def test_a_part_that_goes_while_it_is_read_is_an_error_that_says_so(app, monkeypatch):
    have = app.offer("gone", ROWS.split(ARRAY), ROWS)
    move, state = onhost.move_all, app._link.client.run_on_scheduler

    def late(*args):
        move(*args)
        state(_drop_all)

    monkeypatch.setattr(onhost, "move_all", late)
    with pytest.raises(maestro.DataLostError, match=r"'gone': rank \d .*does not hold it any more"):
        app.declare("gone", COLUMNS).demand(timeout=300)
    monkeypatch.undo()
    have.withdraw()


async def _drop_all(dask_scheduler):
    manager = dask_scheduler.extensions["maestro"]
    for cdo in list(manager.registry.cdos.values()):
        for version in cdo.versions():
            for rank, slot in version.slots.items():
                what = {"version": version.serial, "ranks": [rank], "settled": True}
                await manager._nodes.call(slot.node, "free", **what)


def test_no_room_in_the_arena_but_in_the_node(app, monkeypatch):
    app._link.client.run(_fill)
    try:
        have = app.offer("squeezed", ROWS.split(ARRAY), ROWS)
        want = app.declare("squeezed", COLUMNS)
        assert np.array_equal(want.demand(timeout=300)[0], COLUMNS.split(ARRAY)[0])
        assert {transfer.transport for transfer in want.report.transfers} == {"network"}
        have.withdraw()
    finally:
        app._link.client.run(_empty)


def _fill(dask_worker):
    arena = dask_worker.extensions["maestro"].holdings.arena

    def full(*_):
        raise MemoryError("no room")

    arena.reserve, dask_worker.kept = full, arena.reserve


def _empty(dask_worker):
    dask_worker.extensions["maestro"].holdings.arena.reserve = dask_worker.kept


def test_parts_one_by_one(app):
    have = app.offer("parts", ROWS.split(ARRAY), ROWS)
    came = dict(app.declare("parts", COLUMNS).demand_parts(timeout=300))
    for rank, wanted in enumerate(COLUMNS.split(ARRAY)):
        assert np.array_equal(came[rank], wanted)
    have.withdraw()


def test_a_consumer_killed_while_it_reads(app, results):
    have = app.offer("read", ROWS.split(ARRAY), ROWS)
    how = (app.address, ROWS.to_dict(), results, "read", "demand")
    with doomed(programs.map_and_hang, *how) as process:
        assert results.get(timeout=300) == "under way"
        kill(process)
    assert np.array_equal(app.demand("read"), ARRAY)
    have.withdraw(timeout=300)


def test_what_a_dead_producer_may_still_write_to_is_not_used_again(app, results):
    wait = in_thread(app.demand, "written")
    how = (app.address, ROWS.to_dict(), results, "written", "offer")
    with doomed(programs.map_and_hang, *how) as process:
        assert results.get(timeout=300) == "under way"
        until(lambda: sum(map(len, app._link.client.run(_paths).values())) == 4)
        written = {path for paths in app._link.client.run(_paths).values() for path in paths}
        kill(process)
    with pytest.raises(maestro.DataLostError, match=r"'written': app 'doomed-.*' died while"):
        wait()
    until(lambda: not any(app._link.client.run(_paths).values()))
    until(lambda: not any(os.path.exists(path) for path in written))


def _paths(dask_worker):
    parts = dask_worker.extensions["maestro"].holdings.parts.values()
    return tuple(part.home.path for part in parts)


def test_a_node_that_does_not_answer(tmp_path):
    with pool(1, tmp_path, **{"maestro.transfer.silence": "1 s"}) as app:
        app.offer("t2m", ARRAY)
        (pid,) = app._link.client.run(os.getpid).values()
        os.kill(pid, signal.SIGSTOP)
        try:
            assert np.array_equal(app.demand("t2m", timeout=300), ARRAY)  # it need not be asked
            with dask.config.set({"maestro.transfer.same-host": False}):
                with pytest.raises(maestro.PoolTimeoutError, match="'t2m'"):
                    app.demand("t2m", timeout=300)
            with pytest.raises(maestro.PoolTimeoutError, match="'u10'"):
                app.offer("u10", ARRAY)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert np.array_equal(app.demand("t2m", timeout=300), ARRAY)


def test_asynchronously(app):
    async def main():
        async with maestro.connect(app.address) as other:
            have = await other.offer("async", ARRAY)
            assert np.array_equal(await other.demand("async", order="F"), ARRAY)
            await have.withdraw()

    asyncio.run(main())


def test_an_offer_waits_for_room(tmp_path):
    with pool(1, tmp_path, **{"maestro.node.memory": 1e-9}) as app:
        (limit,) = {node["limit"] for node in app._link.run(app._link.call, "nodes").values()}
        assert limit < 64
        small = np.zeros(limit, "u1")
        first = app.offer("first", small)
        with pytest.raises(maestro.PoolFullError, match=r"'second': no room .* held by 'first' of"):
            app.offer("second", small)
        with pytest.raises(maestro.PoolFullError, match="'second': no room"):
            app.declare("second").offer(small, timeout=0.2)
        late = in_thread(app.declare("second").offer, small, 300)
        until(lambda: app.client.run_on_scheduler(_queue))
        first.withdraw()
        late()
        assert np.array_equal(app.demand("second"), small)


def _queue(dask_scheduler):
    return len(dask_scheduler.extensions["maestro"].registry.queue)
