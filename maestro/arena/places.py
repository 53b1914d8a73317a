"""Directories of pools and nodes on one host: made, proven, locked, and cleared away.

Who lives is known by locks, which the system lets go with the process: never by age.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["Lock", "default_parent", "is_same_host", "node_directory", "pool_directory", "reap"]

logger = logging.getLogger("maestro.arena")

LOCK, TOKEN = "lock", "token"

#: How often a directory that is being cleared away is made again.
TRIES = 100


class Lock:
    """A lock on a directory, for as long as this object, or its process, lives.

    Parameters
    ----------
    directory : Path
        Where its file is, or is made.
    shared : bool
        Whether others may hold it too; then it is waited for, else not.

    Raises
    ------
    BlockingIOError
        If somebody else holds it, and it is not waited for.
    FileNotFoundError
        If the directory is gone, or was cleared away just now.
    """

    def __init__(self, directory: Path, shared: bool = False) -> None:
        path = directory / LOCK
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path).st_ino != os.fstat(self._file).st_ino:
                raise FileNotFoundError(str(path))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others have it."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def default_parent() -> Path:
    """Memory if the system has a file system for it, else the directory of temporary files."""
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK | os.X_OK):
        return shared
    parent = Path(tempfile.gettempdir())
    logger.warning(
        "There is no %s to write to: parts are kept in %s, which may be a disk; set"
        " maestro.arena.directory to a directory in memory",
        shared,
        parent,
    )
    return parent


def pool_directory(parent: Path, pool: str) -> tuple[Path, Lock]:
    """The directory of a pool on this host, and a share of its lock."""
    directory = parent / f"maestro-{os.getuid()}-{re.sub('[^A-Za-z0-9_-]', '_', pool)}"
    for _ in range(TRIES):
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        with suppress(FileNotFoundError):
            if directory.stat().st_uid != os.getuid():
                raise PermissionError(f"{directory} belongs to somebody else")
            return directory, Lock(directory, shared=True)
    raise FileNotFoundError(f"{directory} is cleared away again and again")


def node_directory(pool: Path) -> tuple[Path, Lock, str]:
    """A new directory for a node, its lock, and the token that proves who can see it."""
    directory = Path(tempfile.mkdtemp(prefix="node-", dir=pool))
    lock = Lock(directory)
    token = secrets.token_hex(16)
    file = os.open(directory / TOKEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(file, "w") as out:
        out.write(token)
    return directory, lock, token


def is_same_host(directory: str, token: str) -> bool:
    """Whether this process sees the directory of the one that names them.

    Names of hosts prove nothing: containers share them, or differ in them.
    """
    try:
        return bool(token) and Path(directory, TOKEN).read_text() == token
    except (OSError, ValueError):
        return False


def reap(parent: Path) -> list[Path]:
    """Clear away the directories of pools of which no node lives on this host any more.

    Returns
    -------
    list of Path
        What was cleared away.
    """
    gone = []
    for directory in parent.glob(f"maestro-{os.getuid()}-*"):
        with suppress(OSError):  # somebody lives there, or somebody else is clearing it away
            lock = Lock(directory)
            try:
                for entry in directory.iterdir():
                    if entry.name != LOCK:
                        shutil.rmtree(entry, ignore_errors=True)
                (directory / LOCK).unlink()
                directory.rmdir()
            finally:
                lock.release()
            gone.append(directory)
    return gone
