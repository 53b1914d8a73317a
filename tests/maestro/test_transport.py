"""Bytes on their way between real processes: nodes and apps that stop or die, and memory."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import LocalCluster

import maestro
from layouts import Block, BlockCyclic, Distribution, plan
from maestro.apps import daskarrays
from maestro.transport.fetching import _Fetch
from tests.maestro import programs
from tests.maestro.conftest import check
from tests.maestro.streams import on_each_message
from tests.maestro.test_processes import doomed, kill
from tests.maestro.waiting import in_thread, until

SHAPE = (512, 512, 4)  # 8 MiB
ROWS = Distribution(SHAPE, (4, 1, 1))
COLUMNS = Distribution(SHAPE, (1, 3, 1), (Block(), BlockCyclic(7), Block()), "F")
ARRAY = programs.field(ROWS)
CONFIG = {
    "maestro.transfer.same-host": False,
    "maestro.transfer.chunk": "64 KiB",
    "maestro.transfer.in-flight": "1 MiB",
    "maestro.transfer.silence": "2 s",
    "maestro.transfer.retries": 1,
}


@contextmanager
def pool(workers, **options):
    """A pool of processes with small messages, and an app."""
    with dask.config.set({**CONFIG, **options}):
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
            ) as cluster,
            maestro.connect(cluster, component="test") as app,
        ):
            yield app


@pytest.fixture(scope="module")
def app():
    with pool(2) as app:
        yield app


def node_state(app):
    """By node: its process, and the bytes it has under way, now and at most so far."""
    return app._link.client.run(_buffers)


def _buffers(dask_worker):
    buffers = dask_worker.extensions["maestro"].buffers
    return {"pid": os.getpid(), "used": buffers.used, "peak": buffers.peak}


def at_rest(app):
    until(lambda: not any(state["used"] for state in node_state(app).values()))
    check(app)


def test_many_messages_and_a_bounded_number_under_way(app):
    app.offer("many", ROWS.split(ARRAY), ROWS)
    want = app.declare("many", COLUMNS)
    for part, wanted in zip(want.demand(timeout=300), COLUMNS.split(ARRAY), strict=True):
        assert part.tobytes() == wanted.tobytes()
    assert want.report.bytes == ARRAY.nbytes
    assert want.report.messages >= ARRAY.nbytes >> 16
    assert all(0 < state["peak"] <= 1 << 20 for state in node_state(app).values())
    at_rest(app)


def test_parts_one_by_one(app):
    app.offer("parts", ROWS.split(ARRAY), ROWS)
    want = app.declare("parts", COLUMNS)
    came = {}
    for rank, part in want.demand_parts(timeout=300):
        came[rank] = part
    assert want.state == "demanded"
    for rank, wanted in enumerate(COLUMNS.split(ARRAY)):
        assert came[rank].tobytes() == wanted.tobytes()
    assert want.report.bytes == ARRAY.nbytes
    at_rest(app)


def test_parts_one_by_one_and_no_more(app, gate):
    have = app.offer("few", ROWS.split(ARRAY), ROWS)
    want = app.declare("few", Distribution(SHAPE, (512, 1, 1), order="F"))

    def open_late():
        until(lambda: parts._demand.cancelling())
        gate.set()

    with want.demand_parts() as parts:
        next(parts)
        opened = in_thread(open_late)  # what is under way ends with the demand
    opened()
    assert want.state == "declared"
    assert list(parts) == []
    have.withdraw(timeout=300)
    with pytest.raises(maestro.PoolTimeoutError, match="'few'"):
        next(want.demand_parts(timeout=0.05))
    at_rest(app)


def test_parts_one_by_one_where_there_are_no_distributions(app):
    app.offer("whole", ARRAY)
    ((rank, part),) = app.declare("whole").demand_parts()
    assert rank == 0
    assert np.array_equal(part, ARRAY)
    app.offer("barrier")
    assert list(app.declare("barrier").demand_parts()) == []


def test_parts_one_by_one_asynchronously(app):
    async def main():
        async with maestro.connect(app.address) as other:
            await other.offer("async", ROWS.split(ARRAY), ROWS)
            want = other.declare("async", COLUMNS)
            found = {rank: part async for rank, part in want.demand_parts()}
            for rank, wanted in enumerate(COLUMNS.split(ARRAY)):
                assert found[rank].tobytes() == wanted.tobytes()
            again = want.demand_parts()
            async with again:
                await anext(again)
            assert want.state == "demanded"

    asyncio.run(main())


def test_an_app_that_is_killed_in_the_middle_of_a_demand_leaves_nothing(app, results):
    app.offer("t2m", ROWS.split(ARRAY), ROWS)
    with doomed(
        programs.demand_slowly_and_hang, app.address, COLUMNS.to_dict(), results
    ) as process:
        assert results.get(timeout=300) == "under way"
        kill(process)
    at_rest(app)
    assert np.array_equal(app.demand("t2m"), ARRAY)


def test_an_app_that_is_killed_in_the_middle_of_an_offer_leaves_no_part(app, results):
    wait = in_thread(app.demand, "half")
    layout = ROWS.to_dict()
    with doomed(programs.offer_slowly_and_hang, app.address, layout, results, "half") as process:
        assert results.get(timeout=300) == "under way"
        kill(process)
    with pytest.raises(maestro.DataLostError, match=r"'half': app 'doomed-.*' died while"):
        wait()
    at_rest(app)
    assert not any(app._link.client.run(_arriving).values())


def _arriving(dask_worker):
    return len(dask_worker.extensions["maestro"].holdings.arriving)


@contextmanager
def stopped(pid):
    """A process that does not get on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def gate(monkeypatch):
    """Lets the first message of a demand through, and the others once it is set."""
    first, gate = threading.Lock(), threading.Event()

    def wait(place):
        if not first.acquire(blocking=False):
            assert gate.wait(300)
        return place()

    on_each_message(monkeypatch.setattr, wait)
    return gate


#: 64 MiB: of the half that a node gives, sockets' buffers take a few, however long it has time.
SLABS = Distribution((1024, 2048, 4), (4, 1, 1))
LARGE = programs.field(SLABS)


def in_the_middle(app, name, copies=1):
    """A demand: its handle, its parts, the process of each source rank's node, and that node."""
    app.offer(name, SLABS.split(LARGE), SLABS, copies=copies)
    want = app.declare(name, Distribution(LARGE.shape, (1024, 1, 1), order="F"))
    parts = want.demand_parts()
    nodes = app.pool[name].nodes
    pids = {address: state["pid"] for address, state in node_state(app).items()}
    return want, parts, {rank: pids[address] for rank, address in enumerate(nodes)}, nodes


def test_a_node_that_stops_for_good_and_comes_back(app, gate):
    want, parts, pids, nodes = in_the_middle(app, "stopped")
    next(parts)
    with stopped(pids[3]):
        gate.set()
        with pytest.raises(
            maestro.PoolTimeoutError,
            match=rf"'stopped': rank \d is not to be had: node {nodes[3]} was silent for 2 s",
        ):
            list(parts)
    assert want.state == "declared"
    at_rest(app)
    assert len(list(want.demand_parts(timeout=300))) == 1024


def test_a_node_that_stops_is_passed_over_where_another_has_the_same(app, gate, monkeypatch):
    want, parts, pids, nodes = in_the_middle(app, "twice", copies=2)
    got, asked, pull = dict([next(parts)]), [], _Fetch._pull

    async def noted(self, where, share):
        asked.append(share.node)
        await pull(self, where, share)

    with stopped(pids[3]):
        gate.set()
        got.update(parts)
        monkeypatch.setattr(_Fetch, "_pull", noted)
        assert np.array_equal(app.demand("twice"), LARGE)
        assert nodes[3] not in asked  # it is known from the demand before
        monkeypatch.undo()
    for rank, wanted in enumerate(want.distribution.split(LARGE)):
        assert got[rank].tobytes() == wanted.tobytes()
    assert want.report.bytes == LARGE.nbytes
    at_rest(app)


def test_everyone_who_waits_for_a_node_that_stops_is_told(app):
    """Whatever they wait for, and by whichever way; and all goes on as soon as it does."""
    half = Distribution(SHAPE, (1, 2, 1))
    app.offer("there", ROWS.split(ARRAY), ROWS)
    mapped = app.declare("there", COLUMNS)
    with dask.config.set({"maestro.transfer.same-host": True}):
        mapped.demand(timeout=300)  # it is known what can be mapped
    here = app.declare("here", half, eagerness="eager")
    here.require()
    app.offer("here", ARRAY).withdraw(timeout=300)  # it has come
    node = app.pool["there"].nodes[0]
    silent = rf"ranks? .* not to be had: node {node} was silent for 2 s"
    with stopped(node_state(app)[node]["pid"]):
        waits = {
            "there": [app.declare("there", COLUMNS).demand for _ in range(2)],
            "small": [partial(app.offer, "small", [np.ones(2)] * 4, Distribution((8,), (4,)))],
            "large": [partial(app.offer, "large", ROWS.split(ARRAY), ROWS)],
            "chunks": [partial(app.offer, "chunks", da.zeros(SHAPE, chunks=(128, 512, 4)))],
        }
        waits["there"].append(app.declare("there", half).demand_dask)
        waiting = [(name, in_thread(call)) for name, calls in waits.items() for call in calls]
        chunks = here.demand_dask()  # on those that answer
        for name, wait in waiting:
            with pytest.raises(maestro.PoolTimeoutError, match=f"'{name}': {silent}"):
                wait()
        with dask.config.set({"maestro.transfer.same-host": True}):
            for part, wanted in zip(mapped.demand(), COLUMNS.split(ARRAY), strict=True):
                assert part.tobytes() == wanted.tobytes()  # read where it lies, it asks nobody
            lent = app.declare("lent", ROWS, "f8")
            for memory, part in zip(lent.empty(), ROWS.split(ARRAY), strict=True):
                memory[...] = part  # wherever it is
        assert np.array_equal(app.client.compute(chunks).result(), ARRAY)
    del chunks
    for part, wanted in zip(mapped.demand(timeout=300), COLUMNS.split(ARRAY), strict=True):
        assert part.tobytes() == wanted.tobytes()
    assert np.array_equal(app.demand("there"), ARRAY)
    lent.offer()
    assert np.array_equal(app.demand("lent"), ARRAY)
    assert not {"small", "large", "chunks"} & set(app.pool)
    at_rest(app)


@pytest.mark.parametrize("eagerness", ["lazy", "eager"])
def test_a_worker_that_stops_at_the_last_moment(app, monkeypatch, eagerness):
    """Once all parts are filled, but what was moved is not told; or while it is given its chunk."""
    heeded, stop = daskarrays.heeded, ExitStack()
    layout, name = Distribution(SHAPE, (2, 1, 1)), f"last-{eagerness}"

    async def and_stop(client, called, work, ways, where):
        stop.enter_context(stopped(pids[max(where.values())]))
        return await heeded(client, called, work, ways, where)

    want = app.declare(name, layout, eagerness=eagerness)
    want.require()
    have = app.offer(name, ROWS.split(ARRAY), ROWS)
    if eagerness == "eager":
        have.withdraw(timeout=300)  # it has come
    pids = {address: state["pid"] for address, state in node_state(app).items()}
    monkeypatch.setattr(daskarrays, "heeded", and_stop)
    silent = rf"'{name}': ranks \[\d\] are not to be had: node {max(pids)} was silent for 2 s"
    with stop, pytest.raises(maestro.PoolTimeoutError, match=silent):
        want.demand_dask()
    monkeypatch.undo()
    if eagerness == "lazy":  # of a chunk that comes whole Dask's worker keeps what it was given
        until(lambda: not any(app.client.run(_tasks).values()))
    assert np.array_equal(want.demand_dask(timeout=300).compute(scheduler=app.client), ARRAY)
    at_rest(app)


def _tasks(dask_worker):
    return list(map(str, dask_worker.state.tasks))


def test_a_node_that_stops_for_a_moment(app, gate):
    want, parts, pids, _ = in_the_middle(app, "moment")
    got = dict([next(parts)])
    with stopped(pids[3]):
        gate.set()
        app._link.client.run_on_scheduler(os.getpid)  # some time passes
    got.update(parts)
    for rank, wanted in enumerate(want.distribution.split(LARGE)):
        assert got[rank].tobytes() == wanted.tobytes()
    at_rest(app)


def test_a_node_that_is_killed_in_the_middle_of_a_demand(gate):
    """Its parts were in its own memory, so nobody takes them over."""
    with pool(2, **{"maestro.transfer.map-from": "1 GiB"}) as app:
        _, parts, pids, nodes = in_the_middle(app, "killed")
        next(parts)
        with stopped(pids[3]):  # so that it is in the middle
            os.kill(pids[3], signal.SIGKILL)
        gate.set()
        with pytest.raises(
            maestro.DataLostError, match=rf"'killed': ranks .* were lost with node {nodes[3]}"
        ):
            list(parts)
        until(lambda: "killed" not in app.pool)


SIZE = (4096, 2048)  # 64 MiB


def test_memory_is_bounded_by_parts_and_buffers():
    """Peak resident memory of node and app, beyond what they hold at the end and held before.

    What the plan predicts is for ranks with buffers of their own; here all share one node's.
    """
    source = Distribution(SIZE, (4, 1))
    target = Distribution(SIZE, (1, 4), order="F")
    buffers, slack = 8 << 20, 12 << 20  # threads' stacks, connections, Python itself
    predicted = int(plan(source, target).memory(8, buffers).sum())
    options = {"maestro.transfer.chunk": "1 MiB", "maestro.transfer.in-flight": buffers}
    with pool(1, **options) as app:
        array = np.random.default_rng(0).random(SIZE)
        for name in ("warm", "cold"):
            (state,) = node_state(app).values()
            before = {pid: _reset_peak(pid) for pid in (os.getpid(), state["pid"])}
            have = app.offer(name, [array[rows] for rows in np.split(np.arange(4096), 4)], source)
            peak = {pid: _peak(pid) - held for pid, held in before.items()}
            if name == "cold":
                assert peak[state["pid"]] <= array.nbytes + buffers + slack
                # The list of parts was made for the call.
                assert peak[os.getpid()] <= array.nbytes + buffers + slack
            app._link.ways.memory.clear()  # what the first parts left behind, for the next ones
            ctypes.CDLL(None).malloc_trim(0)  # and what the offered ones did
            before = {pid: _reset_peak(pid) for pid in (os.getpid(), state["pid"])}
            parts = app.declare(name, target).demand()
            peak = {pid: _peak(pid) - held for pid, held in before.items()}
            assert all(part.nbytes == array.nbytes // 4 for part in parts)
            if name == "cold":
                assert peak[state["pid"]] <= buffers + slack
                assert peak[os.getpid()] <= array.nbytes + buffers + slack
                # The node held the source's parts before.
                measured = array.nbytes + sum(peak.values())
                assert predicted - 4 * buffers - slack <= measured <= predicted
            else:  # what a first time costs: kernels, threads
                have.withdraw()
            del parts


def _reset_peak(pid):
    """Let the peak of a process's resident memory begin anew; returns what it has now, in bytes."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system does not measure peaks of memory")
    return _status(pid, "VmRSS")


def _peak(pid):
    return _status(pid, "VmHWM")


def _status(pid, key):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) << 10
    pytest.skip("this system does not measure peaks of memory")
