"""A small pool of threads of our own, made at first use and shared by all callers.

Who asks for work takes part in it: the caller runs the first task, then takes back every task that
no thread has begun. So a call ends even if the pool is full, or if it was made in a pool thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def usable_cpus() -> int:
    """Number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(threads: int | None) -> None:
    """Raise unless `threads` is None or an integer of at least 1."""
    if threads is None:
        return
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise TypeError(f"threads must be None or an integer, got {threads!r}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")


def run_all(tasks: Sequence[Callable[[], None]]) -> None:
    """Run the tasks on this thread and on free ones of the pool; return when all have ended.

    The first error is raised, after the others have ended: no task outlives the call.
    """
    futures = _submit(tasks[1:])
    try:
        tasks[0]()
        for task, future in zip(tasks[len(tasks) - len(futures) :], futures, strict=True):
            if future.cancel():
                task()
        for task in tasks[1 : len(tasks) - len(futures)]:
            task()
    finally:
        errors = [_outcome(future) for future in futures]
    for error in errors:
        if error is not None:
            raise error


def _submit(tasks: Sequence[Callable[[], None]]) -> list[Future[None]]:
    """Hand tasks to the pool, the last ones first; fewer if the interpreter is shutting down."""
    futures: list[Future[None]] = []
    try:
        pool = _shared_pool()
        for task in reversed(tasks):
            futures.insert(0, pool.submit(task))
    except RuntimeError:
        pass  # no new threads at shutdown; the caller does the rest
    return futures


def _outcome(future: Future[None]) -> BaseException | None:
    return None if future.cancel() or future.cancelled() else future.exception()


def _shared_pool() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(usable_cpus(), 1), thread_name_prefix="maestro-kernels")
        return _pool


def _forget_pool() -> None:
    """In a forked child: the threads of the pool are gone, and the lock may be held by nobody."""
    global _lock, _pool
    _lock = threading.Lock()
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
