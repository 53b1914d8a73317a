"""Redistributions in each of which a node is killed: no wrong byte, no hang, every failure named.

``MAESTRO_TEST_KILLS`` says how many; each number makes the same layouts, and another moment.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
import pytest

import maestro
from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Replicated
from tests.maestro.conftest import check
from tests.maestro.test_onhost import pool
from tests.maestro.waiting import in_thread, until

ROUNDS = int(os.environ.get("MAESTRO_TEST_KILLS", "20"))
NODES = 4
MOMENTS = 0.25  # seconds from the beginning, or after the offer, within which the node is killed
MAP_FROM = 16 << 10
LONG = 300
CONFIG = {
    "maestro.transfer.map-from": MAP_FROM,
    "maestro.transfer.chunk": "64 KiB",
    "maestro.transfer.in-flight": "256 KiB",
}


@dataclass
class Case:
    """What is redistributed in one round, and how."""

    array: Any
    source: Distribution
    target: Distribution
    copies: int
    lent: bool
    mapped: bool

    @classmethod
    def of(cls, number):
        rng = np.random.default_rng(number)
        shape = tuple(int(n) for n in rng.integers(8, [0, 700, 90][rng.integers(1, 3)], 2))
        shape += tuple(int(n) for n in rng.integers(1, 5, rng.integers(2)))
        dtype = rng.choice(["u1", "f4", "f8", "c16"])
        array = rng.integers(0, 100, shape).astype(dtype)
        source, target = cls.layout(rng, shape), cls.layout(rng, shape)
        copies = int(rng.choice([1, 1, 2]))
        lent = bool(rng.integers(2)) and copies == 1
        return cls(array, source, target, copies, lent, mapped=bool(rng.integers(2)))

    @staticmethod
    def layout(rng, shape):
        grid, axes = [], []
        for n in shape:
            ranks = int(rng.integers(1, 4))
            kinds = [Block(), Cyclic(), BlockCyclic(int(rng.integers(1, 40))), Replicated()]
            cuts = np.sort(rng.integers(0, n + 1, ranks - 1))
            kinds.append(Irregular((0, *(int(cut) for cut in cuts), n)))
            grid.append(ranks)
            axes.append(kinds[int(rng.integers(len(kinds)))])
        return Distribution(shape, tuple(grid), tuple(axes), str(rng.choice(["C", "F"])))

    @property
    def safe(self):
        """Whether no node can take anything along: parts outlive it, or are elsewhere as well."""
        sizes = [part.nbytes for part in self.source.split(self.array)]
        return self.copies > 1 or all(size >= MAP_FROM or not size for size in sizes)

    def right(self, parts):
        for part, wanted in zip(parts, self.target.split(self.array), strict=True):
            assert np.asarray(part).tobytes() == np.asarray(wanted).tobytes()


@pytest.fixture(scope="module")
def apps(tmp_path_factory):
    """A producer and a consumer."""
    with pool(NODES, tmp_path_factory.mktemp("arena"), "1 GiB", **CONFIG) as app:
        with maestro.connect(app.address, component="consumer") as other:
            yield app, other


def tried(case, name, call, *args):
    """The result of a call; None if it failed as it may."""
    try:
        return call(*args)
    except maestro.DataLostError as error:
        said = str(error)
    assert not case.safe, f"nothing can have been lost: {said}"
    assert f"'{name}'" in said
    assert "rank" in said
    return None


def bring(case, cdo):
    """Offer it, in whichever way."""
    parts = case.source.split(case.array)
    if case.lent:
        for memory, part in zip(cdo.empty(), parts, strict=True):
            memory[...] = part
        parts = None
    cdo.offer(parts, copies=case.copies)
    return True


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_node_is_killed_meanwhile(apps, number):
    app, other = apps
    case, name, killed = Case.of(number), f"x-{number}", threading.Event()
    victim, pid = random.choice(list(app.client.run(os.getpid).items()))

    def kill():
        os.kill(pid, signal.SIGKILL)
        killed.set()

    with dask.config.set({"maestro.transfer.same-host": case.mapped}):
        have = app.declare(name, case.source, case.array.dtype)
        first = in_thread(tried, case, name, other.declare(name, case.target).demand, LONG)
        timer, early = threading.Timer(random.uniform(0, MOMENTS), kill), random.random() < 0.5
        if early:
            timer.start()
        while tried(case, name, bring, case, have) is None:
            pass  # the next time on nodes that live
        if not early:
            timer.start()
        came = [first()]
        while case.safe and (not killed.is_set() or len(came) < 2):  # else it may be gone by then
            want = other.declare(name, case.target)
            came.append(tried(case, name, want.demand, LONG))
            want.dispose()
        killed.wait()
        have.withdraw(timeout=LONG)
        have.dispose()
    for parts in came:
        if parts is not None:
            case.right(parts)
    until(lambda: victim not in app.pool.nodes)
    until(lambda: len(app.pool.nodes) == NODES)
    until(lambda: not app.client.run_on_scheduler(_estates))
    check(app)


def _estates(dask_scheduler):
    return list(dask_scheduler.extensions["maestro"].registry.estates)
