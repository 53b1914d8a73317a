"""Pools to test with, and what must hold whenever a test is through."""

from __future__ import annotations

import gc
import multiprocessing
import threading

import dask
import pytest
from distributed import LocalCluster

import maestro
from tests.maestro import forking
from tests.maestro.waiting import none


@pytest.fixture(scope="session", autouse=True)
def forked():
    """Nodes that are processes of their own are forked, which takes a fifth of the time."""
    forking.load()
    with dask.config.set(forking.NODES):
        yield


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


@pytest.fixture
def results():
    """What programs in processes of their own have to say."""
    queue = forking.FORKSERVER.Queue()
    yield queue
    queue.close()
    queue.join_thread()


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """No thread and no process outlives a test but what module-wide clusters need.

    Dask's nannies start a killed worker again: then there are as many as before.
    """
    threads = set(threading.enumerate())
    children = multiprocessing.active_children()
    yield
    gc.collect()

    def left():
        """What was told to end may be at its last instructions."""
        found = multiprocessing.active_children()[len(children) :]
        return found + [
            thread
            for thread in set(threading.enumerate()) - threads
            if not thread.daemon
            and not thread.name.startswith(("asyncio", "Dask-", "maestro", "kernels"))
        ]

    none(left)


def check(app):
    """The pool manager and its nodes agree on every part, asked through the app's own client.

    Soon: a node is told by a call of its own what has left the pool.
    """
    none(lambda: _disagreement(app))


def _disagreement(app):
    state = app._link.client.run_on_scheduler(_state)
    try:
        held = of_nodes(app._link.client, _held)
    except OSError as error:  # of a node that is dead, which the scheduler has not noticed
        return [repr(error)]
    parts = {node: set(found) for node, found in held.items()}
    expected = {node: {(v, r) for n, v, r in state["slots"] if n == node} for node in held}
    used = {node: sum(found.values()) for node, found in held.items()}
    seen, wanted = (parts, used, []), (expected, state["used"], state["answers"])
    return [] if seen == wanted else [f"nodes: {seen}", f"the manager: {wanted}"]


def _state(dask_scheduler):
    manager = dask_scheduler.extensions["maestro"]
    slots = [
        (node, version.serial, rank)
        for cdo in manager.registry.cdos.values()
        for version in cdo.versions()
        for rank, slot in version.slots.items()
        for node in slot.nodes
    ]
    ledger = manager.registry.ledger
    used = {address: node.used - ledger.lodged(address) for address, node in ledger.nodes.items()}
    return {"slots": slots, "used": used, "answers": list(manager.lines.waiting)}


def _held(node):
    return {key: part.nbytes for key, part in node.holdings.parts.items()}


def of_nodes(client, ask):
    """What nodes say, by address; a worker that was started this moment may be none yet."""
    return {node: said for node, found in client.run(_of_node, ask).items() for said in found}


def _of_node(ask, dask_worker):
    node = dask_worker.extensions.get("maestro")
    return [ask(node)] if hasattr(node, "holdings") else []
