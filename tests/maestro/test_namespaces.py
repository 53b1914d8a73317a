"""Hosts that are hosts: the node in a network namespace of its own, behind a pair of devices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager

import dask
import numpy as np
import pytest

import maestro
from layouts import Distribution
from tests.maestro.conftest import check
from tests.maestro.streams import on_each_message
from tests.maestro.waiting import in_thread, until

ARRAY = np.random.default_rng(0).random((256, 512))
ROWS, COLUMNS = Distribution(ARRAY.shape, (4, 1)), Distribution(ARRAY.shape, (1, 3), order="F")
LARGE = np.random.default_rng(1).random((1024, 8192))  # 64 MiB: sockets' buffers take a few
SLABS = Distribution(LARGE.shape, (4, 1))
QUICK = {
    "distributed.comm.timeouts.tcp": "300s",
    "maestro.transfer.same-host": False,
    "maestro.transfer.chunk": "256 KiB",  # a part
    "maestro.transfer.silence": "2 s",
    "maestro.transfer.retries": 1,
}
NAME = f"mst{os.getpid() % 100000}"
NET = f"10.{200 + os.getpid() % 50}.{os.getpid() % 250}"
DASK = sys.executable, "-m", "dask"
THERE = "ip", "netns", "exec", NAME


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr)


@contextmanager
def namespace():
    """A network namespace with one link to this one; skips where that is not allowed."""
    if shutil.which("ip") is None:
        pytest.skip("there is no ip command")
    with ExitStack() as stack:
        try:
            ip("netns", "add", NAME)
            stack.callback(ip, "netns", "del", NAME)  # takes the devices with it
            ip("link", "add", f"{NAME}a", "type", "veth", "peer", "name", f"{NAME}b")
            ip("link", "set", f"{NAME}b", "netns", NAME)
            ip("addr", "add", f"{NET}.1/30", "dev", f"{NAME}a")
            ip("link", "set", f"{NAME}a", "up")
            ip("-n", NAME, "addr", "add", f"{NET}.2/30", "dev", f"{NAME}b")
            ip("-n", NAME, "link", "set", f"{NAME}b", "up")
            ip("-n", NAME, "link", "set", "lo", "up")
        except OSError as error:
            pytest.skip(f"network namespaces are not allowed here: {error}")
        yield


@contextmanager
def program(*words):
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextmanager
def scheduler(tmp_path):
    """A scheduler on this side of the link; gives its address."""
    contact = tmp_path / "scheduler.json"
    where = "--host", f"{NET}.1", "--port", "0", "--dashboard-address", ":0"
    with program(*DASK, "scheduler", *where, "--scheduler-file", str(contact)):
        until(lambda: contact.exists() and contact.read_text().endswith("}"))
        yield json.loads(contact.read_text())["address"]


def node(address, host, *prefix):
    """A node at the address of one end of the link."""
    how = "--no-nanny", "--no-dashboard", "--nthreads", "1", "--host", f"{NET}.{host}"
    return program(*prefix, *DASK, "worker", *how, address)


@contextmanager
def link_down():
    """Nothing gets through, which nobody is told."""
    ip("-n", NAME, "link", "set", f"{NAME}b", "down")
    try:
        yield
    finally:
        ip("-n", NAME, "link", "set", f"{NAME}b", "up")


def test_from_one_host_to_another(tmp_path):
    with namespace(), scheduler(tmp_path) as address, node(address, 2, *THERE):
        with maestro.connect(address) as app:
            until(lambda: len(app.pool.nodes) == 1)
            app.offer("x", ROWS.split(ARRAY), ROWS)
            assert set(app.pool["x"].nodes) == set(app.pool.nodes)
            assert app.pool["x"].nodes[0].startswith(f"tcp://{NET}.2:")
            parts = app.declare("x", COLUMNS).demand(timeout=300)
            for part, wanted in zip(parts, COLUMNS.split(ARRAY), strict=True):
                assert part.tobytes() == wanted.tobytes()
            check(app)


def test_a_link_that_is_cut_in_the_middle_of_a_demand(tmp_path, monkeypatch):
    """What has not come by then comes from the copies on the other side."""
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", "300s")  # nobody is taken for dead
    first, gate = threading.Lock(), threading.Event()

    def wait(place):
        assert first.acquire(blocking=False) or gate.wait(300)
        return place()

    on_each_message(monkeypatch.setattr, wait)
    with (
        dask.config.set(QUICK),
        namespace(),
        scheduler(tmp_path) as address,
        node(address, 1),
        node(address, 2, *THERE),
        maestro.connect(address) as app,
    ):
        until(lambda: len(app.pool.nodes) == 2)
        app.offer("x", SLABS.split(LARGE), SLABS, copies=2)
        far = {each for each in app.pool["x"].nodes if each.startswith(f"tcp://{NET}.2:")}
        assert len(far) == 1, "half of it is to come from there"
        want = app.declare("x", Distribution(LARGE.shape, (256, 1), order="F"))
        parts = want.demand_parts()
        came = dict([next(parts)])
        with link_down():
            gate.set()
            came.update(in_thread(list, parts)())
            assert far < set(app.pool.nodes), "it counts as alive"
        for rank, wanted in enumerate(want.distribution.split(LARGE)):
            assert came[rank].tobytes() == wanted.tobytes()
        assert want.report.bytes == LARGE.nbytes
        check(app)
