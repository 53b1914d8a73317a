"""Compiling the kernel, or loading it from disk, once per process and element width.

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
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kernels.nest import FIXED_WIDTHS

try:
    import fcntl
except ImportError:  # a platform without advisory locks
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = "maestro-kernels.lock"

# The compiled entry point, and a value whose type says how wide an element is.
Kernel = tuple[Callable[..., None], Any]

_ELEMENTS = {1: np.uint8(0), 2: np.uint16(0), 4: np.uint32(0), 8: np.uint64(0), 16: 0j, 0: None}

_loaded: dict[int, Kernel] = {}
_lock = threading.RLock()


def kernel(itemsize: int) -> Kernel:
    """The compiled kernel for elements of `itemsize` bytes, and its first argument."""
    width = itemsize if itemsize in FIXED_WIDTHS else 0
    found = _loaded.get(width)
    if found is None:
        with _lock:
            found = _loaded.get(width)
            if found is None:
                found = _loaded[width] = (_load(width), _ELEMENTS[width])
    return found


def warmup(itemsizes: Sequence[int] = FIXED_WIDTHS) -> None:
    """Compile the kernels for these element sizes, or load them from disk.

    Parameters
    ----------
    itemsizes : sequence of int
        Sizes in bytes. All but 1, 2, 4, 8 and 16 share one kernel.

    Raises
    ------
    ValueError
        If a size is below 1.

    Examples
    --------
    >>> warmup([8])
    """
    for size in itemsizes:
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise ValueError(f"itemsizes must be integers of at least 1 byte, got {size!r}")
        kernel(int(size))


def _load(width: int) -> Callable[..., None]:
    from kernels import _compiled

    signature = _compiled.signature(width)
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
