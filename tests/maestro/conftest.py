"""Pools to test with, and what must hold whenever a test is through."""

from __future__ import annotations

import gc
import multiprocessing
import threading

import pytest
from distributed import LocalCluster

import maestro


@pytest.fixture
def app():
    """An app with an embedded pool; at the end nothing of it is left."""
    with maestro.connect(component="test") as app:
        yield app
        check(app)


@pytest.fixture(scope="module")
def cluster():
    """Two workers in processes of their own, for all tests of a file."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """No thread and no process outlives a test but what module-wide clusters need.

    Dask's nannies start a killed worker again: then there are as many as before.
    """
    threads = set(threading.enumerate())
    children = multiprocessing.active_children()
    yield
    gc.collect()
    assert len(multiprocessing.active_children()) <= len(children)
    left = [
        thread
        for thread in set(threading.enumerate()) - threads
        if not thread.daemon
        and not thread.name.startswith(("asyncio", "Dask-", "maestro", "kernels"))
    ]
    assert not left


def check(app):
    """The pool manager and its nodes agree on every part, asked through the app's own client."""
    state = app._link.client.run_on_scheduler(_state)
    held = app._link.client.run(_held)
    for node, parts in held.items():
        assert set(parts) == {(v, r) for n, v, r in state["slots"] if n == node}
    assert not state["answers"]
    assert state["used"] == {node: sum(parts.values()) for node, parts in held.items()}


def _state(dask_scheduler):
    manager = dask_scheduler.extensions["maestro"]
    slots = [
        (node, version.serial, rank)
        for cdo in manager.registry.cdos.values()
        for version in cdo.versions()
        for rank, slot in version.slots.items()
        for node in slot.nodes
    ]
    used = {a: node.used for a, node in manager.registry.ledger.nodes.items()}
    return {"slots": slots, "used": used, "answers": list(manager.lines.waiting)}


def _held(dask_worker):
    node = dask_worker.extensions["maestro"]
    holdings = getattr(node, "holdings", None)  # None: it was started this moment
    return {} if holdings is None else {key: p.nbytes for key, p in holdings.parts.items()}
