"""M producers and N consumers, each rank a process of its own, over 1, 2 and 5 workers."""

from __future__ import annotations

import signal
from contextlib import contextmanager

import numpy as np
import pytest
from distributed import LocalCluster

import maestro
from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Replicated
from layouts.orders import in_order
from maestro.transport.payload import as_part
from tests.maestro import programs
from tests.maestro.conftest import check
from tests.maestro.forking import FORKSERVER
from tests.maestro.waiting import demanding, in_thread, until

SHAPE = (13, 9, 4)
SOURCE = Distribution(SHAPE, (2, 2, 1), (BlockCyclic(2), Irregular([0, 2, 9]), Block()), "C")
TARGET = Distribution(SHAPE, (1, 1, 3), (Replicated(), Block(), Cyclic()), (1, 2, 0))


@contextmanager
def processes(*works):
    """Start programs; at the end all must have ended by themselves, or are killed."""
    started = [FORKSERVER.Process(target=work, args=args) for work, *args in works]
    for process in started:
        process.start()
    try:
        yield started
        for process in started:
            process.join(300)
        assert [process.exitcode for process in started] == [0] * len(started)
    finally:
        for process in started:
            process.kill()
            process.join()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_m_producers_and_n_consumers(workers, results):
    options = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    producers = range(SOURCE.size)
    consumers = range(TARGET.size)
    with (
        LocalCluster(n_workers=workers, processes=True, **options) as cluster,
        maestro.connect(cluster, component="watcher") as app,
    ):
        works = [
            *((programs.produce, app.address, SOURCE.to_dict(), rank) for rank in producers),
            *((programs.consume, app.address, TARGET.to_dict(), r, results) for r in consumers),
        ]
        with processes(*works):
            for _ in consumers:
                assert results.get(timeout=300)[1] == "required"
            app.offer("ready")
            came = dict(results.get(timeout=300)[:2] for _ in consumers)
        array = programs.field(SOURCE)
        for rank, payload in came.items():
            wanted = array[np.ix_(*TARGET.indices(rank))]
            assert payload == wanted.tobytes()
        assert list(app.pool) == ["ready"]
        check(app)


def test_the_parts_lie_in_the_order_that_was_demanded(cluster, results):
    with maestro.connect(cluster) as app:
        app.offer("t2m", SOURCE.split(programs.field(SOURCE)), SOURCE)
        with processes((programs.consume, app.address, TARGET.to_dict(), 1, results)):
            results.get(timeout=300)
            _, payload, strides = results.get(timeout=300)
        part = as_part(np.frombuffer(payload, np.uint8), TARGET.local_shape(1), np.dtype("f8"), "C")
        expected = TARGET.empty(1, "f8")
        assert strides == expected.strides
        assert in_order(expected, TARGET.order)
        assert np.array_equal(part, programs.field(SOURCE)[np.ix_(*TARGET.indices(1))])
        check(app)


@contextmanager
def doomed(work, *args):
    process = FORKSERVER.Process(target=work, args=args)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def kill(process):
    process.kill()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL


def test_a_producer_killed_between_offer_and_withdraw(cluster, results):
    """Who waits for the rest of its CDO is told at once, and the name is free again."""
    with maestro.connect(cluster) as app:
        layout = Distribution((8,), (2,))
        with doomed(programs.offer_and_hang, app.address, layout.to_dict(), 1, results) as process:
            assert results.get(timeout=300) == "offered"
            want = app.declare("t2m")
            want.require()
            with pytest.raises(maestro.PoolTimeoutError, match=r"'t2m'.*ranks \[0\] of 2"):
                want.demand(timeout=0.1)
            until(lambda: not app.client.run_on_scheduler(demanding))  # that one was withdrawn
            wait = in_thread(want.demand)
            until(lambda: app.client.run_on_scheduler(demanding))
            kill(process)
            with pytest.raises(maestro.DataLostError, match=r"'t2m': app 'doomed-.*' died.*\[1\]"):
                wait()
        app.offer("t2m", np.arange(8.0))
        assert np.array_equal(want.demand(timeout=300), np.arange(8.0))
        check(app)


def test_a_producer_killed_after_its_offer_was_complete(cluster, results):
    with maestro.connect(cluster) as app:
        want = app.declare("whole")
        want.require()
        layout = Distribution((8,)).to_dict()
        with doomed(programs.offer_and_hang, app.address, layout, 0, results, "whole") as process:
            assert results.get(timeout=300) == "offered"
            kill(process)
        assert want.demand(timeout=300).shape == (8,)
        until(lambda: "whole" not in app.pool)
        check(app)


def test_a_producer_killed_in_the_middle_of_its_offer(cluster, results):
    with maestro.connect(cluster) as app:
        layout = Distribution((8,), (2,)).to_dict()
        wait = in_thread(app.demand, "half")
        with doomed(
            programs.offer_after_seal_and_die, app.address, layout, 0, results, "half"
        ) as process:
            process.join(300)
            with pytest.raises(maestro.DataLostError, match=r"'half': app 'doomed-.*' died while"):
                wait()
        check(app)


def test_a_killed_consumer_holds_nobody_up(cluster, results):
    with maestro.connect(cluster) as app:
        have = app.offer("t2m", np.arange(8.0))
        with doomed(programs.require_and_hang, app.address, results) as process:
            assert results.get(timeout=300) == "required"
            with pytest.raises(maestro.PoolTimeoutError, match="still required by doomed-"):
                have.withdraw(timeout=0.1)
            assert have.state == "offered"
            wait = in_thread(have.withdraw)
            kill(process)
            wait()
        check(app)
