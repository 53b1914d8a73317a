"""Compiling the kernel, or loading it from disk, once per process.

Numba keeps compiled code in a directory of its choice, as an index file and data files, and two
processes that write the index at once can leave it in pieces (numba issues 4807, 10128, 10434). So
each load or compilation happens under an advisory lock on a file next to the index: of many
processes that start cold, one compiles and the others load. Where there is no such lock, or no
directory to write to, nothing is cached. A damaged cache is emptied and the kernel compiled anew.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

try:
    import fcntl
except ImportError:  # a platform without advisory locks
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = "maestro-kernels.lock"

Kernel = Callable[..., None]

_loaded: Kernel | None = None
_lock = threading.RLock()


def kernel() -> Kernel:
    """The compiled kernel."""
    global _loaded
    if _loaded is None:
        with _lock:
            if _loaded is None:
                _loaded = _load()
    return _loaded


def warmup() -> None:
    """Compile the kernel, or load it from disk: later calls then find it ready.

    Examples
    --------
    >>> warmup()
    """
    kernel()


def _load() -> Callable[..., None]:
    from kernels import _compiled

    signature = _compiled.SIGNATURE
    cached = _compiled.dispatcher()
    with _cache_lock(cached) as locked:
        if locked:
            with contextlib.suppress(Exception):
                return _entry(cached, signature)
            # Damaged files fail in as many ways as pickle can; an error of the compilation itself
            # comes back below.
            with contextlib.suppress(Exception):
                cached._cache.flush()
                return _entry(cached, signature)
    return _entry(_compiled.dispatcher(), signature)


def _entry(dispatcher: Any, signature: Any) -> Callable[..., None]:
    """The entry point itself: types need not be looked up at each call."""
    entry: Callable[..., None] = dispatcher.compile(signature)
    return entry


@contextlib.contextmanager
def _cache_lock(dispatcher: Any) -> Iterator[bool]:
    """Switch the cache on and hold its lock; False if there can be none."""
    descriptor = _open_lock(dispatcher) if fcntl is not None else None
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        # Closing is not enough: a child forked meanwhile has the same open file.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _open_lock(dispatcher: Any) -> int | None:
    """Wait for the lock next to the cache index."""
    try:
        dispatcher.enable_caching()  # raises RuntimeError where no directory can be written to
        directory = dispatcher.stats.cache_path
        os.makedirs(directory, exist_ok=True)
        descriptor = os.open(os.path.join(directory, LOCK_NAME), os.O_RDWR | os.O_CREAT, 0o666)
    except (OSError, RuntimeError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    return descriptor


if hasattr(os, "register_at_fork"):
    # A fork waits for a compilation to end, or the child would inherit a lock that nobody opens.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
