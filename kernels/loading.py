"""The compiled kernels of this process: each kind and element width on its own, at first use.

What was compiled before on this machine is read from disk (:mod:`kernels.object_cache`) and linked
(:mod:`kernels.machine_code`), which does not import numba. Otherwise Numba compiles it, and of many
processes that start together one does so for all. If nothing can be kept, because there is no place
to write to or the disk is full, the kernel is compiled in each process, and that is all.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernels import object_cache
from kernels.nest import FIXED_WIDTHS

Entry = Callable[..., None]

#: What there are compiled functions for; `kernels._compiled.ENTRIES` has one maker for each.
KINDS = ("move",)
# Arguments of each, all int64 or addresses: known here, so that numba need not be asked.
ARGUMENTS = {"move": 9}

_loaded: dict[tuple[str, int], Entry] = {}
_kept: list[Any] = []  # what Numba compiled and could not be kept on disk; it runs from there
_lock = threading.RLock()


def kernel(kind: str, itemsize: int) -> Entry:
    """The compiled function of this kind for elements of `itemsize` bytes.

    It takes integers and addresses, returns nothing and lets other threads run.
    """
    key = kind, itemsize if itemsize in FIXED_WIDTHS else 0
    found = _loaded.get(key)
    if found is None:
        with _lock:
            found = _loaded.get(key)
            if found is None:
                found = _loaded[key] = _load(*key)
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
        for kind in KINDS:
            kernel(kind, int(size))


def _load(kind: str, width: int) -> Entry:
    # Here, for `import kernels` must not wait for llvmlite.
    from kernels import machine_code

    name = object_cache.name_of(f"{kind}-{width}", *machine_code.processor())
    code = object_cache.read(name)
    if code is None:
        with object_cache.compiling():
            code = object_cache.read(name)  # somebody else's, while we waited
            if code is None:
                compiled = _compile(kind, width)
                code = machine_code.stand_alone(compiled.inspect_llvm(), compiled.native_name)
                if code is None:  # compiled with checks, say, which raise Python's errors
                    _kept.append(compiled)
                    return machine_code.at(compiled.address, ARGUMENTS[kind])
                object_cache.write(name, code)
    return machine_code.link(code, ARGUMENTS[kind])


def _compile(kind: str, width: int) -> Any:
    """Numba's C callback."""
    from numba import cfunc

    from kernels import _compiled

    function, signature = _compiled.ENTRIES[kind](width)
    return cfunc(signature, error_model="numpy")(function)


if hasattr(os, "register_at_fork"):
    # A fork waits for a compilation to end, or the child would inherit a lock that nobody opens.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
