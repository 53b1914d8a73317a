"""Where parts go for which a node's memory has no room: files on a disk, up to a limit.

What is there is mapped like what is in memory, by the node and by every program of the host. So who
wants a part need not know where it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from maestro.arena import Arena, Segment
from maestro.arena.segments import HEADER

__all__ = ["Spill"]


class Spill:
    """The files of one node. Safe to use from any thread.

    Parameters
    ----------
    parent : Path
        Where pools have their directories. Made if it is not there.
    pool : str
        Which pool the node is of.
    limit : int
        Bytes that the files may take.

    Attributes
    ----------
    files : Arena
        The files, as segments.

    Raises
    ------
    OSError
        If there can be no such directory.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     spill = Spill(Path(directory), "example", 1 << 20)
    ...     part = spill.reserve(1 << 16, version=3, rank=0)
    ...     print(spill.used, spill.owns(part))
    ...     spill.release(part)
    ...     print(spill.used)
    ...     spill.close()
    65536 True
    0
    """

    def __init__(self, parent: Path, pool: str, limit: int) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        self.limit = limit
        self.files = Arena(parent, pool, limit, keep=False)
        self._directories = [self.files.directory]
        self._lock = Lock()

    @property
    def used(self) -> int:
        """Bytes of the files."""
        return self.files.used

    def owns(self, segment: Segment) -> bool:
        """Whether a segment is one of the files."""
        return os.path.dirname(segment.path) in self._directories

    def reserve(self, nbytes: int, version: int, rank: int) -> Segment:
        """A file for a part; the disk has room for all of it.

        Raises
        ------
        MemoryError
            If it has not, or the limit would be exceeded; nothing is left of the try.
        """
        with self._lock:
            if self.used + nbytes <= self.limit:
                return self.files.reserve(nbytes, version, rank)
        raise MemoryError(
            f"{self.files.directory}: {self.limit - self.used} of {self.limit} bytes free for what"
            " memory has no room for (maestro.node.spill.limit)"
        )

    def take(self, home: Segment | NDArray[np.uint8], version: int, rank: int) -> Segment:
        """A copy of a part that is in memory.

        Raises
        ------
        MemoryError
            As for `reserve`.
        """
        copy = self.reserve(home.nbytes, version, rank)
        try:
            if isinstance(home, Segment):
                _copy(home.path, copy.path, home.nbytes)
            else:
                with open(copy.path, "r+b") as file:
                    file.seek(HEADER)
                    file.write(home.data)
            return copy.complete()
        except BaseException:
            self.release(copy)
            raise

    def release(self, segment: Segment) -> None:
        """Remove a file that nobody writes to any more."""
        self.files.release(segment)

    def discard(self, segment: Segment) -> None:
        """Remove a file that somebody may still write to."""
        self.files.discard(segment)

    def adopt(self, directory: str, wanted: Mapping[tuple[int, int], int]) -> list[Segment]:
        """Take over what a dead node of this host has left; as `Arena.adopt`."""
        found = self.files.adopt(directory, wanted)
        self._directories.append(directory)
        return found

    @property
    def directory(self) -> str:
        """Where the files are."""
        return self.files.directory

    def close(self) -> None:
        """As `Arena.close`."""
        self.files.close()


def _copy(source: str, target: str, nbytes: int) -> None:
    """Copy a part's bytes, through no memory of this process."""
    with open(source, "rb") as given, open(target, "r+b", buffering=0) as taken:
        taken.seek(HEADER)
        done = 0
        while done < nbytes:
            sent = os.sendfile(taken.fileno(), given.fileno(), HEADER + done, nbytes - done)
            if not sent:
                raise OSError(f"{source}: it ends after {done} bytes, expected {nbytes}")
            done += sent
