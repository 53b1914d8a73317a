"""Many callers at once, calls from within the pool, errors, and forks."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kernels import Pieces, permute
from kernels.moving import share
from kernels.threads import _shared_pool, run_all, usable_cpus


def test_eight_threads_permute_at_once():
    sources = [np.random.default_rng(k).random((60, 70, 80)) for k in range(8)]
    start = threading.Barrier(8)

    def work(source):
        start.wait()
        return [permute(source, (2, 0, 1), threads=k % 3 + 1).tobytes() for k in range(6)]

    with ThreadPoolExecutor(8) as pool:
        for source, results in zip(sources, pool.map(work, sources), strict=True):
            assert set(results) == {source.transpose(2, 0, 1).tobytes()}


def test_calls_from_within_the_pool_end():
    source = np.random.default_rng(0).random((50, 60, 70))
    jobs = [
        _shared_pool().submit(permute, source, (1, 2, 0), None, 4)
        for _ in range(4 * usable_cpus() + 4)
    ]
    assert all(np.array_equal(job.result(), source.transpose(1, 2, 0)) for job in jobs)


def test_all_tasks_run_once_though_the_pool_is_busy():
    release = threading.Event()
    blockers = [_shared_pool().submit(release.wait) for _ in range(usable_cpus())]
    done = []
    try:
        run_all([lambda k=k: done.append(k) for k in range(9)])
    finally:
        release.set()
    assert sorted(done) == list(range(9))
    assert all(blocker.result() for blocker in blockers)


@pytest.mark.parametrize("bad", [0, 3])
def test_an_error_comes_out_after_all_tasks_have_ended(bad):
    running = threading.Semaphore(0)

    def task(k):
        if k == bad:
            raise ZeroDivisionError(k)
        running.release()

    with pytest.raises(ZeroDivisionError):
        run_all([lambda k=k: task(k) for k in range(5)])


def test_work_is_cut_along_the_outermost_long_axis_of_the_target():
    pieces = [Pieces.whole(64), Pieces.whole(3), Pieces.whole(32)]
    parts = share(pieces, (8, 32 * 512, 512), 4)
    assert [tuple(p.size for p in part) for part in parts] == [(64, 3, 8)] * 4
    assert share([Pieces.whole(2)], (8,), 5)[1][0].size == 1
    assert share([], (), 5) == [()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own():
    source = np.random.default_rng(0).random((60, 70, 80))
    expected = permute(source, (2, 0, 1), threads=2).tobytes()
    child = os.fork()
    if child == 0:
        same = permute(source, (2, 0, 1), threads=2).tobytes() == expected
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
