"""Hosts that are hosts: the node in a network namespace of its own, behind a pair of devices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

import maestro
from layouts import Distribution
from tests.maestro.conftest import check
from tests.maestro.waiting import until

ARRAY = np.random.default_rng(0).random((256, 512))
ROWS, COLUMNS = Distribution(ARRAY.shape, (4, 1)), Distribution(ARRAY.shape, (1, 3), order="F")
NAME = f"mst{os.getpid() % 100000}"
NET = f"10.{200 + os.getpid() % 50}.{os.getpid() % 250}"


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
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def test_from_one_host_to_another(tmp_path):
    contact = tmp_path / "scheduler.json"
    dask = sys.executable, "-m", "dask"
    with namespace():
        here = "scheduler", "--host", f"{NET}.1", "--port", "0", "--dashboard-address", ":0"
        there = "ip", "netns", "exec", NAME, *dask, "worker", "--no-nanny", "--no-dashboard"
        with program(*dask, *here, "--scheduler-file", str(contact)):
            until(lambda: contact.exists() and contact.read_text().endswith("}"), 60)
            address = json.loads(contact.read_text())["address"]
            with program(*there, "--nthreads", "1", "--host", f"{NET}.2", address):
                with maestro.connect(address) as app:
                    until(lambda: len(app.pool.nodes) == 1, 60)
                    app.offer("x", ROWS.split(ARRAY), ROWS)
                    assert set(app.pool["x"].nodes) == set(app.pool.nodes)
                    assert app.pool["x"].nodes[0].startswith(f"tcp://{NET}.2:")
                    parts = app.declare("x", COLUMNS).demand(timeout=60)
                    for part, wanted in zip(parts, COLUMNS.split(ARRAY), strict=True):
                        assert part.tobytes() == wanted.tobytes()
                    check(app)
