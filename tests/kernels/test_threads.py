"""Many callers at once, calls from within the pool, errors, and forks."""

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from kernels import Pieces, permute, threads
from kernels.moving import share
from kernels.threads import run_all, usable_cpus

ROOT = Path(threads.__file__).parents[1]


@pytest.fixture
def three_cpus(monkeypatch):
    """As on a machine with three, so with two threads of our own, and no others."""
    monkeypatch.setattr(threads, "usable_cpus", lambda: 3)
    monkeypatch.setattr(threads, "_calls", None)


def test_eight_threads_permute_at_once():
    sources = [np.random.default_rng(k).random((60, 70, 80)) for k in range(8)]
    start = threading.Barrier(8)

    def work(source):
        start.wait()
        return [permute(source, (2, 0, 1), threads=k % 3 + 1).tobytes() for k in range(6)]

    with ThreadPoolExecutor(8) as pool:
        for source, results in zip(sources, pool.map(work, sources), strict=True):
            assert set(results) == {source.transpose(2, 0, 1).tobytes()}


def test_calls_from_within_the_threads_end(three_cpus):
    source = np.random.default_rng(0).random((50, 60, 70))
    results = []

    def task():
        results.append(permute(source, (1, 2, 0), threads=4))

    run_all([lambda: run_all([task] * 3)] * 8)
    assert len(results) == 24
    assert all(np.array_equal(result, source.transpose(1, 2, 0)) for result in results)


def test_all_tasks_run_once_though_the_threads_are_busy(three_cpus):
    begun, release = threading.Semaphore(0), threading.Event()

    def block():
        begun.release()
        release.wait()

    done = []
    with ThreadPoolExecutor(1) as other:
        blocked = other.submit(run_all, [block] * 3)
        for _ in range(3):
            begun.acquire()
        try:
            run_all([lambda k=k: done.append((k, threading.get_ident())) for k in range(9)])
        finally:
            release.set()
        blocked.result()
    assert done == [(k, threading.get_ident()) for k in range(9)]


def test_threads_share_the_tasks_of_a_call(three_cpus):
    together = threading.Barrier(3)
    run_all([together.wait] * 3)


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


def test_an_interrupted_call_leaves_no_task_running(three_cpus):
    begun, release, ended = threading.Barrier(3), threading.Event(), []

    def task():
        begun.wait()
        if threading.current_thread() is threading.main_thread():
            threading.Timer(0.05, release.set).start()
            raise KeyboardInterrupt
        release.wait()
        ended.append(1)

    with pytest.raises(KeyboardInterrupt):
        run_all([task] * 5)
    assert len(ended) == 2  # those under way; no other was begun


def test_control_c_while_waiting_for_another_thread(three_cpus):
    begun, release, ended = threading.Barrier(3), threading.Event(), []

    def task():
        begun.wait()
        if threading.current_thread() is threading.main_thread():
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            threading.Timer(0.2, release.set).start()
            return
        release.wait()
        ended.append(1)

    # Where the tests run in the background, the signal is ignored from the start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_all([task] * 3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(ended) == 2


def test_an_error_does_not_keep_the_tasks_alive():
    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)

    def fail(held):
        raise ZeroDivisionError

    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError) as caught:
            run_all([partial(fail, held), partial(fail, held)])
        del held, caught
        assert gone() is None
    finally:
        gc.enable()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 1 << 30),
        ({"cpu.max": "max 100000\n"}, 1 << 30),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "what is this\n"}, 1 << 30),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1 << 30),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_control_groups_limit_the_cpus(tmp_path, monkeypatch, files, cpus):
    monkeypatch.setattr(threads, "CONTROL_GROUPS", tmp_path)
    for name, text in files.items():
        write(tmp_path / name, text)
    assert threads._quota.__wrapped__() == cpus


def test_there_is_at_least_one_cpu(monkeypatch):
    monkeypatch.setattr(threads, "_quota", lambda: 0)
    assert usable_cpus() == 1


MANY = """
import threading
import numba, numpy as np, kernels
kernels.by_numpy.SMALL_BYTES = kernels.by_numpy.KERNEL_BYTES = -1  # nothing is left to NumPy
kernels.warmup()
source = np.random.default_rng(0).random((64, 64, 64))
expected = source.transpose(2, 0, 1).tobytes()
wrong = []
def work():
    for _ in range(20):
        if kernels.permute(source, (2, 0, 1), threads=2).tobytes() != expected: wrong.append(1)
threads = [threading.Thread(target=work) for _ in range(16)]
for t in threads: t.start()
for t in threads: t.join()
assert not wrong
"""


@pytest.mark.parametrize("layer", ["workqueue", "omp", "tbb"])
def test_many_threads_under_any_threading_layer(layer):
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_THREADING_LAYER": layer},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
