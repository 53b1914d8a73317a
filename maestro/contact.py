"""Where a pool is: contact files, and the environment variables that name one.

A contact file is what Dask calls a scheduler file, JSON with the scheduler's ``address``, so each
of the two serves for the other. Ours also says on which host its pool is, and stays locked for as
long as that lives: so a program of this host knows at once that a pool is gone, and a pool that
another one has left its contact file.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maestro.config import get_path
from maestro.errors import PoolNotFoundError

__all__ = ["VARIABLES", "default_file", "find", "read", "written"]

#: Environment variables that name a pool, the first one that is set; the last is the original's.
VARIABLES = ("MAESTRO_POOL_MANAGER", "MSTRO_POOL_MANAGER_INFO")


def find(pool: str | None = None) -> str:
    """The address of a pool.

    Parameters
    ----------
    pool : str, optional
        Its address, or the path of its contact file; by default what the first of `VARIABLES` says
        that is set, else the contact file of this user's pool on this machine.

    Raises
    ------
    PoolNotFoundError
        If there is no such file, or the pool that wrote it is gone.

    Examples
    --------
    >>> find("tcp://10.0.0.1:8786")
    'tcp://10.0.0.1:8786'
    """
    told, source = pool, "pool"
    for variable in VARIABLES:
        if not told:
            told, source = os.environ.get(variable), variable
    if told and "://" in told:
        return told
    path = Path(told) if told else default_file()
    if told and not path.exists():
        raise PoolNotFoundError(
            f"{source}: got {told!r}, expected an address such as tcp://host:8786 or the path of a"
            " contact file"
        )
    if not path.exists():
        raise PoolNotFoundError(
            f"pool: none is named, by --pool or {VARIABLES[0]}, and there is no contact file"
            f" {path}: start one with `maestro pool`"
        )
    return read(path)


def read(path: Path) -> str:
    """The address in a contact file, ours or Dask's.

    Raises
    ------
    PoolNotFoundError
        If it can't be read, is none, or its pool is gone.
    """
    try:
        words = json.loads(path.read_text())
        address = words["address"]
    except OSError as error:
        raise PoolNotFoundError(f"pool: {path} can't be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise PoolNotFoundError(f"pool: {path} is no contact file") from None
    if words.get("maestro") and words.get("host") == _this_host() and not _held(path):
        raise PoolNotFoundError(f"pool: the one that wrote {path}, at {address}, is gone")
    return str(address)


def default_file() -> Path:
    """The contact file of this user's pool on this machine: ``maestro.contact``, or a usual place.

    That is ``maestro/pool.json`` among what the system keeps for the user until logout, or else
    for good.
    """
    given = get_path("contact")
    if given is not None:
        return given
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime, "maestro", "pool.json")
    return (
        Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state")
        .expanduser()
        .joinpath("maestro", f"pool-{socket.gethostname()}.json")
    )


@contextmanager
def written(address: str, path: Path) -> Iterator[None]:
    """Say where a pool is for as long as this lasts.

    The file is there all at once, for its owner alone: whoever may speak to a Dask scheduler may
    run programs there.

    Parameters
    ----------
    address : str
        The pool's.
    path : Path

    Raises
    ------
    PoolNotFoundError
        If it is the file of another pool that lives, or can't be written.
    """
    if path.exists() and _held(path):
        raise PoolNotFoundError(
            f"contact: {path} is that of another pool, which lives: name another file"
        )
    words = {"type": "Scheduler", "address": address, "maestro": True, "host": _this_host()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise PoolNotFoundError(f"contact: {path} can't be written: {error.strerror}") from None
    with open(fresh, "w") as file:
        try:
            with suppress(OSError):  # a file system without locks: then nobody knows
                fcntl.flock(file, fcntl.LOCK_EX)
            json.dump(words, file)
            file.flush()
            os.replace(name, path)
            yield
        finally:
            for left in (Path(name), path):
                with suppress(OSError):
                    if left.stat().st_ino == os.fstat(file.fileno()).st_ino:
                        left.unlink()


def _this_host() -> str:
    """What no other host is called: names are shared by containers."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _held(path: Path) -> bool:
    """Whether the pool that wrote a file still has it locked."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # it has, or nobody can tell
        return True
    return False
