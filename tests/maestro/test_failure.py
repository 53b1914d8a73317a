"""Nodes that are killed: what another takes over, what is elsewhere as well, what is lost."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

import maestro
from layouts import Block, Distribution, Irregular, Replicated
from maestro.transport import onhost
from tests.maestro import programs
from tests.maestro.conftest import check, of_nodes
from tests.maestro.streams import on_each_message
from tests.maestro.test_onhost import pool
from tests.maestro.waiting import in_thread, until

SHAPE = (256, 128, 4)  # 1 MiB
ROWS = Distribution(SHAPE, (4, 1, 1))
COLUMNS = Distribution(SHAPE, (1, 3, 1), order="F")
TWICE = Distribution(SHAPE, (2, 2, 1), (Replicated(), Block(), Block()))
ARRAY = programs.field(ROWS)
NODES = 3

#: Nodes that are no more.
KILLED: set[str] = set()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Nodes of one host; who is killed is started again by Dask's nanny."""
    with pool(NODES, tmp_path_factory.mktemp("arena"), "1 GiB") as app:
        have = app.offer("first", ROWS.split(ARRAY), ROWS)  # what may be compiled is so from now on
        same(app.declare("first", COLUMNS).demand(), COLUMNS)
        have.withdraw()
        yield app


@pytest.fixture
def app(shared):
    until(lambda: len(shared.pool.nodes) == NODES)
    yield shared
    until(lambda: not KILLED & set(shared.pool.nodes))  # nobody need have missed them yet
    until(lambda: not shared.client.run_on_scheduler(_estates))
    until(lambda: len(shared.pool.nodes) == NODES)
    check(shared)


def _estates(dask_scheduler):
    return list(dask_scheduler.extensions["maestro"].registry.estates)


def pids(app):
    return app.client.run(os.getpid)


def kill(app, node):
    os.kill(app.client.run(os.getpid, workers=[node])[node], signal.SIGKILL)
    KILLED.add(node)


def same(parts, target, array=ARRAY):
    for part, wanted in zip(parts, target.split(array), strict=True):
        assert np.asarray(part).tobytes() == np.asarray(wanted).tobytes()


def test_another_node_takes_over(app):
    have = app.offer("t2m", ROWS.split(ARRAY), ROWS)
    victim = app.pool["t2m"].nodes[0]
    wait = in_thread(app.declare("t2m", COLUMNS).demand, 300)
    kill(app, victim)
    same(wait(), COLUMNS)
    same(app.declare("t2m", COLUMNS).demand(timeout=300), COLUMNS)
    until(lambda: victim not in app.pool["t2m"].nodes)
    with dask.config.set({"maestro.transfer.same-host": False}):
        same(app.declare("t2m", COLUMNS).demand(timeout=300), COLUMNS)
    have.withdraw()
    until(lambda: not any(of_nodes(app.client, _parts).values()))


def _parts(node):
    return list(node.holdings.parts)


def test_the_restarted_node_takes_over(tmp_path):
    with pool(1, tmp_path) as app:
        app.offer("t2m", ROWS.split(ARRAY), ROWS)
        want = app.declare("t2m", COLUMNS)
        want.require()
        kill(app, app.pool["t2m"].nodes[0])
        same(want.demand(timeout=300), COLUMNS)
        check(app)


def test_a_demand_under_way_goes_on_and_only_what_is_missing_comes_again(app, monkeypatch):
    have = app.offer("t2m", ROWS.split(ARRAY), ROWS)
    victim, came, numbers = app.pool["t2m"].nodes[0], [], itertools.count(1)

    def count(place):  # in several threads
        slabs = place()
        came.append(sum(slab.nbytes for slab in slabs))
        if next(numbers) == 4:
            os.kill(pid, signal.SIGKILL)
        return slabs

    pid = pids(app)[victim]
    on_each_message(monkeypatch.setattr, count)
    options = {
        "maestro.transfer.same-host": False,
        "maestro.transfer.chunk": "16 KiB",
        "maestro.transfer.in-flight": "128 KiB",
    }
    with dask.config.set(options):
        want = app.declare("t2m", COLUMNS)
        same(want.demand(timeout=300), COLUMNS)
    assert want.report.bytes == ARRAY.nbytes
    largest = ARRAY.nbytes // (ROWS.size * COLUMNS.size)
    assert ARRAY.nbytes <= sum(came) <= ARRAY.nbytes + 2 * largest  # a pair of ranks begins anew
    have.withdraw()


def test_an_offer_under_way_is_made_again_elsewhere(app, monkeypatch):
    victim, copy, killed = min(app.pool.nodes), onhost.copy_part, threading.Lock()
    pid = pids(app)[victim]

    def copy_part(*args):  # in several threads
        if killed.acquire(blocking=False):
            os.kill(pid, signal.SIGKILL)
            until(lambda: victim not in app.pool.nodes)
        copy(*args)

    monkeypatch.setattr(onhost, "copy_part", copy_part)
    have = app.offer("t2m", ROWS.split(ARRAY), ROWS)
    assert killed.locked()
    assert victim not in app.pool["t2m"].nodes
    same(app.declare("t2m", COLUMNS).demand(timeout=300), COLUMNS)
    have.withdraw()


def test_with_two_copies_nothing_is_waited_for(app):
    have = app.offer("t2m", ROWS.split(ARRAY), ROWS, copies=2)
    used = sum(node["used"] for node in app.pool.nodes.values())
    assert used == 2 * ARRAY.nbytes
    kill(app, app.pool["t2m"].nodes[0])
    same(app.declare("t2m", COLUMNS).demand(timeout=300), COLUMNS)
    have.withdraw()


def test_small_parts_have_copies_too_and_are_lost_without(app):
    small = np.arange(100.0)
    app.offer("safe", small, copies=2)
    app.offer("risky", small)
    want = app.declare("risky")
    want.require()
    victim = app.pool["risky"].nodes[0]
    wait = in_thread(app.demand, "never-offered", "C", 0.1)
    kill(app, victim)
    until(lambda: victim not in app.pool.nodes)
    with pytest.raises(maestro.DataLostError, match=rf"'risky': ranks \[0\] were lost .* {victim}"):
        want.demand(timeout=300)
    assert np.array_equal(app.demand("safe", timeout=300), small)
    with pytest.raises(maestro.PoolTimeoutError):
        wait()


def test_an_empty_part_is_no_loss(app):
    layout = Distribution(SHAPE, (4, 1, 1), (Irregular((0, 0, 128, 128, 256)), Block(), Block()))
    have = app.offer("t2m", layout.split(ARRAY), layout)
    victim = app.pool["t2m"].nodes[2]
    kill(app, victim)
    until(lambda: victim not in app.pool["t2m"].nodes)
    same(app.declare("t2m", COLUMNS).demand(timeout=300), COLUMNS)
    same(app.declare("t2m", layout).demand(timeout=300), layout)
    have.withdraw()


def test_a_replica_does_as_well(app):
    have = app.offer("t2m", TWICE.split(ARRAY), TWICE)
    kill(app, app.pool["t2m"].nodes[0])
    same(app.declare("t2m", COLUMNS).demand(timeout=300), COLUMNS)
    have.withdraw()


def test_a_replica_is_archived_as_well(app, tmp_path):
    layout = Distribution((128, 16), (2, 2), (Replicated(), Block()))
    array = np.arange(2048.0).reshape(128, 16)
    have = app.offer("small", layout.split(array), layout)
    victim = app.pool["small"].nodes[0]
    kill(app, victim)
    until(lambda: victim not in app.pool["small"].nodes)
    with maestro.Archiver(
        app, tmp_path / "run.zarr", '(.maestro.core.cdo.name = "small")'
    ) as archiver:
        archiver.wait(1, timeout=300)
    assert np.array_equal(
        zarr.open_array(tmp_path / "run.zarr", path="small", mode="r")[...], array
    )
    have.withdraw()


def test_memory_that_was_lent_stays_the_producers(app):
    cdo = app.declare("t2m", ROWS, "f8")
    parts = cdo.empty()
    for part, wanted in zip(parts, ROWS.split(ARRAY), strict=True):
        part[...] = wanted
    cdo.offer()
    for node in sorted(set(app.pool["t2m"].nodes))[:2]:
        kill(app, node)
        until(lambda node=node: node not in app.pool["t2m"].nodes)
        same(app.declare("t2m", COLUMNS).demand(timeout=300), COLUMNS)
    cdo.withdraw()
    for part in parts:
        part += 1
    cdo.offer()
    same(app.declare("t2m", COLUMNS).demand(timeout=300), COLUMNS, ARRAY + 1)
    cdo.withdraw()
    other = app.offer("other", ROWS.split(ARRAY), ROWS)  # in no memory that somebody has
    for part, wanted in zip(parts, ROWS.split(ARRAY + 1), strict=True):
        assert np.array_equal(part, wanted)
    other.withdraw()
    del part, parts
    cdo.dispose()
    gc.collect()


def test_a_dask_array_of_what_a_killed_node_held(app):
    have = app.offer("chunks", da.from_array(ARRAY, chunks=(64, 128, 4)))
    kill(app, app.pool["chunks"].nodes[0])
    array = app.declare("chunks", Distribution(SHAPE, (1, 2, 1))).demand_dask(timeout=300)
    with app.client.as_current():
        assert float(array.sum().compute()) == ARRAY.sum()
    del array
    have.withdraw()


def test_an_heir_that_is_paused_is_passed_over(tmp_path):
    with pool(3, tmp_path, **{"maestro.node.heir": "16 s"}) as app:
        app.offer("t2m", ARRAY)
        want = app.declare("t2m", COLUMNS)
        want.require()
        (victim,) = app.pool["t2m"].nodes
        first = next(each for each in app.client.run_on_scheduler(_nodes) if each != victim)
        pid = pids(app)[first]
        os.kill(pid, signal.SIGSTOP)
        try:
            kill(app, victim)
            with dask.config.set({"maestro.transfer.same-host": False}):
                same(want.demand(timeout=300), COLUMNS)  # once another has it
            assert not {first, victim} & set(app.pool["t2m"].nodes)
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: not app.client.run_on_scheduler(_estates))
        same(app.declare("t2m", COLUMNS).demand(timeout=300), COLUMNS)
        check(app)


def _nodes(dask_scheduler):
    """In the order in which they are asked, if they hold nothing."""
    return list(dask_scheduler.extensions["maestro"].registry.ledger.nodes)


def test_what_nobody_takes_over_is_named_to_everyone_who_waits(tmp_path):
    # By messages: what lies in memory could still be read.
    off = {"maestro.node.heir": "0 s", "maestro.transfer.same-host": False}
    with pool(1, tmp_path, **off) as app:
        app.offer("t2m", ROWS.split(ARRAY), ROWS)
        (victim,) = set(app.pool["t2m"].nodes)
        want = [app.declare("t2m", COLUMNS) for _ in range(3)]
        for each in want:
            each.require()
        kill(app, victim)
        waits = [in_thread(each.demand, 300) for each in want]
        for wait in waits:
            with pytest.raises(
                maestro.DataLostError, match=rf"'t2m': ranks \[0, 1, 2, 3\].*{victim}"
            ):
                wait()
        until(lambda: app.pool.nodes)
        app.offer("t2m", ARRAY + 1)
        assert np.array_equal(want[0].demand(timeout=300)[2], COLUMNS.split(ARRAY + 1)[2])


def test_a_node_that_closes_in_peace_leaves_its_parts_to_others(tmp_path):
    with pool(2, tmp_path) as app:
        app.offer("t2m", ROWS.split(ARRAY), ROWS)
        victim = app.pool["t2m"].nodes[0]
        app.client.retire_workers([victim])
        until(lambda: victim not in app.pool.nodes)
        same(app.declare("t2m", COLUMNS).demand(timeout=300), COLUMNS)
        check(app)


@contextmanager
def tiny(directory, size):
    """A file system in memory of so many bytes; skips where none can be mounted."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_tiny_file_system_for_the_arena(tmp_path):
    """What it has no room for is in the node's own memory; nobody is killed for touching it."""
    with tiny(tmp_path / "shm", 600_000) as directory, pool(2, directory) as app:
        before = pids(app)
        have = app.offer("t2m", ROWS.split(ARRAY), ROWS)
        want = app.declare("t2m", COLUMNS)
        same(want.demand(timeout=300), COLUMNS)
        assert {t.transport for t in want.report.transfers} == {"host", "network"}
        cdo = app.declare("u10", ROWS, "f8")
        with pytest.raises(maestro.PoolFullError, match="'u10': no memory for the part of rank"):
            cdo.empty()
        have.withdraw()
        assert pids(app) == before
        check(app)


def test_a_tiny_file_system_for_the_disk(tmp_path):
    options = {
        "maestro.node.memory": 600_000 / (1 << 30),
        "maestro.node.spill.limit": "100 MB",
        "maestro.node.spill.directory": str(tmp_path / "disk"),
    }
    (tmp_path / "arena").mkdir()
    with tiny(tmp_path / "disk", 1_500_000), pool(1, tmp_path / "arena", "1 GiB", **options) as app:
        app.offer("t2m", ROWS.split(ARRAY), ROWS)
        with pytest.raises(maestro.PoolFullError, match=r"'u10': rank \d: no room .*No space left"):
            app.offer("u10", ROWS.split(ARRAY), ROWS)
        same(app.declare("t2m", COLUMNS).demand(timeout=300), COLUMNS)
        assert list(app.pool) == ["t2m"]
        check(app)
