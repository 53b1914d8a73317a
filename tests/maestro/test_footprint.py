"""A full arena in the eyes of Dask's memory monitor: it neither pauses nor restarts the worker."""

from __future__ import annotations

import os

import dask
import numpy as np

from layouts import Distribution
from maestro.arena import Mappings, Recycler
from maestro.arena.mappings import resident
from maestro.nodes.footprint import Footprint
from tests.maestro.test_onhost import pool
from tests.maestro.waiting import until

LIMIT = 1_000_000_000
PART = np.ones(60_000_000, "u1")
PARTS = Distribution((10, *PART.shape), (10, 1))  # 600 MB


def test_a_full_arena_does_not_pause_or_restart_the_worker(tmp_path):
    """Its pages are touched in the worker, by what comes and goes in messages.

    A worker has some 200 MB before it begins, and is restarted here at 700 MB.
    """
    tight = {
        "maestro.node.memory": 0.6,
        "distributed.worker.memory.spill": 0.5,
        "distributed.worker.memory.pause": 0.6,
        "distributed.worker.memory.terminate": 0.7,
    }
    with pool(1, tmp_path, LIMIT, **tight) as app:
        (pid,) = app.client.run(os.getpid).values()
        with dask.config.set({"maestro.transfer.same-host": False}):
            app.offer("full", [PART[np.newaxis]] * 10, PARTS)
            assert app.demand("full").all()
        until(lambda: all(shared < 0.3 * LIMIT for shared in app.client.run(_shared).values()))
        assert list(app.client.run(os.getpid).values()) == [pid]
        logs = str(app.client.get_worker_logs()) + str(app.client.get_worker_logs(nanny=True))
        assert "Pausing" not in logs
        assert "memory budget" not in logs
        assert app.demand("full", region=(slice(9, 10), slice(0, 5))).all()


def _shared():
    return resident()[1]


def test_what_is_kept_for_demanded_arrays_goes_before_dask_minds_it():
    memory = Recycler(keep=1 << 30)
    pages, shared = resident()
    footprint = Footprint(2 * (pages - shared + (100 << 20)))  # half of it may be used
    memory.warm([1 << 20])
    footprint.trim([Mappings()], memory)
    assert memory.kept == 1 << 20
    memory.warm([200 << 20])
    assert memory.kept > 1 << 20
    footprint.trim([Mappings()], memory)
    assert memory.kept == 0
