"""Compiled kernels on disk: one file each, whole or not used.

A file's name is made from all that its content depends on, so there is no index that several
processes would have to keep in step (Numba's own has been found in pieces: numba issues 4807,
10128, 10434). Files are written elsewhere and moved into place, and begin with a checksum. So they
are read without a lock. A lock is held only to compile: of many processes that start together, one
works.

Nothing that is wrong with a directory or a file is an error here: then there is no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    import fcntl
except ImportError:  # a platform without advisory locks
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = "maestro-kernels.lock"
# What the compiled code is made from.
SOURCES = ("axes.py", "box.py", "nest.py", "machine_code.py", "compiled/*.py")
PATIENCE = 300.0  # seconds to wait for another compilation: it may be slow, or have been stopped


def read(name: str) -> bytes | None:
    """What was written under this name, if it is whole."""
    for folder in folders():
        with contextlib.suppress(OSError):
            content = (folder / name).read_bytes()
            digest, data = content[:32], content[32:]
            if data and hashlib.sha256(data).digest() == digest:
                return data
    return None


def write(name: str, data: bytes) -> bool:
    """Keep it, in the first folder that takes it."""
    return any(_write(folder, name, data) for folder in folders())


def _write(folder: Path, name: str, data: bytes) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(".tmp", f"{name}.", folder)
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.chmod(temporary, 0o644)  # mkstemp lets only the owner read; others may share the folder
        os.replace(temporary, folder / name)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        return False
    return True


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Held while compiling; where there are no locks, several may compile the same."""
    descriptor = _lock() if fcntl is not None else None
    try:
        yield
    finally:
        if descriptor is not None:
            # Closing is not enough: a child forked meanwhile has the same open file.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _lock() -> int | None:
    for folder in folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            continue
        if _wait(descriptor):
            return descriptor
        os.close(descriptor)
        return None
    return None


def _wait(descriptor: int) -> bool:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        except OSError:  # a file system without locks
            return False


def folders() -> list[Path]:
    """Where compiled code may lie: in Numba's folder if one is set, else in one of these two."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given:
        return [Path(given)]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [Path(__file__).parent / "__pycache__", Path(home, "maestro-kernels")]


@cache
def stamp() -> bytes:
    """A digest of what all compiled code depends on: its source and the compilers."""
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for source in sorted(Path(__file__).parent.glob(pattern)):
            digest.update(source.read_bytes())
    for distribution in ("numba", "llvmlite", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            digest.update(version(distribution).encode())
    digest.update(sys.version.encode())
    return digest.digest()


def name_of(kernel: str, *depends: str) -> str:
    """A file name for a kernel that depends on these values, on the source and on the compilers."""
    digest = hashlib.sha256(stamp())
    for value in depends:
        digest.update(value.encode() + b"\0")
    return f"{kernel}.{digest.hexdigest()[:24]}.o"
