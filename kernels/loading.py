"""The compiled kernels of this process: each kind on its own, at first use.

What was compiled before on this machine is read from disk (:mod:`kernels.object_cache`) and linked
(:mod:`kernels.machine_code`), which does not import numba. Otherwise Numba compiles it
(:mod:`kernels.compiling`), and of many processes that start together one does so for all. If
nothing can be kept, because there is no place to write to or the disk is full, the kernel is
compiled in each process, and that is all.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from kernels import object_cache

Entry = Callable[..., None]

#: What there are compiled functions for; `kernels.compiled.product.ENTRIES` has one maker for each.
KINDS = ("move",)
# Arguments of each, all int64 or addresses: known here, so that numba need not be asked.
ARGUMENTS = {"move": 10}

_loaded: dict[str, Entry] = {}
_kept: list[Any] = []  # what Numba compiled and could not be kept on disk; it runs from there
_lock = threading.RLock()


def kernel(kind: str) -> Entry:
    """The compiled function of this kind.

    It takes integers and addresses, returns nothing and lets other threads run.
    """
    found = _loaded.get(kind)
    if found is None:
        with _lock:
            found = _loaded.get(kind)
            if found is None:
                found = _loaded[kind] = _load(kind)
    return found


def warmup() -> None:
    """Compile all kernels, or load them from disk, so that no later call waits for it.

    Examples
    --------
    >>> warmup()
    """
    for kind in KINDS:
        kernel(kind)


def _load(kind: str) -> Entry:
    # Here, for `import kernels` must not wait for llvmlite.
    from kernels import compiling, machine_code

    name = object_cache.name_of(kind, *machine_code.processor())
    code = object_cache.read(name)
    if code is None:
        with object_cache.compiling():
            code = object_cache.read(name)  # somebody else's, while we waited
            if code is None:
                code = machine_code.stand_alone(*compiling.in_another_process(kind))
                if code is None:  # compiled with checks, say, which raise Python's errors
                    compiled = compiling.compiled(kind)
                    _kept.append(compiled)
                    return machine_code.at(compiled.address, ARGUMENTS[kind])
                object_cache.write(name, code)
    return machine_code.link(code, ARGUMENTS[kind])


if hasattr(os, "register_at_fork"):
    # A fork waits for a compilation to end, or the child would inherit a lock that nobody opens.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
