"""One node's segments: reserved before they are used, kept warm, never lent twice."""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import shutil
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock as ThreadLock

from maestro.arena import places
from maestro.arena.recycler import fits
from maestro.arena.segments import CLEAR, HEADER, Segment, link_of

__all__ = ["Arena"]


class Arena:
    """The segments of one node. Safe to use from any thread.

    Parameters
    ----------
    parent : Path
        Where pools have their directories.
    pool : str
        Which pool the node is of.
    limit : int
        Bytes that segments in use and segments kept may take together; in use they may take more.
    keep : bool
        Whether segments that are not in use are kept. In memory that saves touching them again.
    linked : bool
        Whether programs find parts by links of their names, without a word to the node.

    Attributes
    ----------
    directory : str
        Where they are.
    token : str
        Proves that whoever reads it there sees the directory.
    used, kept : int
        Bytes of segments that hold parts, and of those that wait to.

    Examples
    --------
    >>> arena = Arena(places.default_parent(), "example", 1 << 20)
    >>> segment = arena.reserve(1 << 16, version=3, rank=0)
    >>> arena.used, arena.kept
    (65536, 0)
    >>> arena.release(segment)
    >>> arena.used, arena.kept
    (0, 65536)
    >>> arena.close()
    """

    def __init__(
        self, parent: Path, pool: str, limit: int, keep: bool = True, linked: bool = False
    ) -> None:
        self.limit = limit
        self.used = 0
        self.kept = 0
        root, self._share = places.pool_directory(parent, pool)
        directory, self._own, self.token = places.node_directory(root)
        self.directory = str(directory)
        self._keep, self._linked = keep, linked
        self._adopted: list[tuple[Path, places.Lock]] = []
        self._names = itertools.count()
        self._generations = itertools.count(1)
        self._free: dict[int, list[Segment]] = {}
        self._lock = ThreadLock()

    def reserve(self, nbytes: int, version: int, rank: int, lent: bool = False) -> Segment:
        """A segment for a part, or to be lent; its pages are there, whatever they contain.

        Raises
        ------
        MemoryError
            If the file system has no room; nothing is left of the try.
        """
        with self._lock:
            segment = self._kept_segment(nbytes) or self._new_segment(nbytes)
            self.used += segment.capacity
        return self.reuse(replace(segment, lent=lent), nbytes, version, rank)

    def reuse(
        self, segment: Segment, nbytes: int, version: int, rank: int, filled: bool = False
    ) -> Segment:
        """The same segment in another use."""
        with self._lock:
            generation = next(self._generations)
            self._unlink(segment)
        used = replace(
            segment,
            generation=generation,
            version=version,
            rank=rank,
            nbytes=nbytes,
            filled=filled,
        ).stamp()
        with self._lock:
            self._link(used)
        return used

    def release(self, segment: Segment) -> None:
        """Take back a segment that nobody writes to any more; readers see that it is gone."""
        segment = replace(segment, lent=False)
        with self._lock:
            self.used -= segment.capacity
            self._unlink(segment)
            if self._keep and self._make_room(segment.capacity):
                self._free.setdefault(segment.capacity, []).append(segment.cleared())
                self.kept += segment.capacity
            else:
                _drop(segment)

    def discard(self, segment: Segment) -> None:
        """Let go of a segment that somebody may still write to: nobody else gets it ever."""
        with self._lock:
            self.used -= segment.capacity
            self._unlink(segment)
        with suppress(FileNotFoundError):
            os.unlink(segment.path)

    def adopt(self, directory: str, wanted: Mapping[tuple[int, int], int]) -> list[Segment]:
        """Take over what a dead node of this host has left.

        Parameters
        ----------
        directory : str
            The dead node's.
        wanted : mapping
            Bytes of the parts to be taken over, by version and rank. Everything else in the
            directory is cleared away.

        Returns
        -------
        list of Segment
            What was found of them, with all their bytes.

        Raises
        ------
        BlockingIOError
            If the node lives.
        """
        dead = Path(directory)
        if dead.parent != Path(self.directory).parent:
            return []
        try:
            self._adopted.append((dead, places.Lock(dead)))
        except FileNotFoundError:  # there is nothing left of it
            return []
        found: dict[tuple[int, int], Segment] = {}
        for path in dead.iterdir():
            if path.name.isdecimal():
                segment = _found(path)
                part = segment.version, segment.rank
                if segment.filled and wanted.get(part) == segment.nbytes and part not in found:
                    found[part] = segment
                elif segment.filled and not segment.lent:
                    _drop(segment)
                else:  # somebody may still write there
                    path.unlink()
        with self._lock:
            self.used += sum(segment.capacity for segment in found.values())
            latest = max((segment.generation for segment in found.values()), default=0)
            self._generations = itertools.count(max(next(self._generations), latest + 1))
        return list(found.values())

    def close(self) -> None:
        """Let go of everything. Who has it mapped keeps what is there.

        Parts that are in use are left to whoever adopts them; what nobody does is cleared away with
        the pool, by the last of its nodes on this host.
        """
        with self._lock:
            while self._drop_one():
                pass
        for directory, lock in (*self._adopted, (Path(self.directory), self._own)):
            if not self.used:
                shutil.rmtree(directory, ignore_errors=True)
            lock.release()
        self._share.release()
        places.reap(Path(self.directory).parent.parent)

    def _link(self, segment: Segment) -> None:
        """Let a part be found; what cannot be linked to is asked for."""
        if self._linked:
            link = link_of(self.directory, segment.version, segment.rank)
            with suppress(OSError):
                try:
                    os.symlink(segment.path, link)
                except FileExistsError:  # another try to offer the same
                    os.unlink(link)
                    os.symlink(segment.path, link)

    def _unlink(self, segment: Segment) -> None:
        if self._linked and segment.generation:
            link = link_of(self.directory, segment.version, segment.rank)
            with suppress(OSError):
                if os.readlink(link) == segment.path:  # not of a later try
                    os.unlink(link)

    def _kept_segment(self, nbytes: int) -> Segment | None:
        capacity = min((size for size in self._free if fits(size, nbytes)), default=None)
        if capacity is None:
            return None
        segments = self._free[capacity]
        segment = segments.pop()
        if not segments:
            del self._free[capacity]
        self.kept -= capacity
        return segment

    def _new_segment(self, nbytes: int) -> Segment:
        capacity = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self._make_room(capacity)
        path = os.path.join(self.directory, str(next(self._names)))
        while True:
            try:
                _make(path, HEADER + capacity)
                return Segment(path, capacity)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT, errno.EFBIG):
                    raise
                if not self._drop_one():
                    raise MemoryError(
                        f"{self.directory}: no room for a segment of {capacity} bytes: {error}"
                    ) from None

    def _make_room(self, nbytes: int) -> bool:
        """Drop kept segments until the limit is kept; whether it can be."""
        while self.used + self.kept + nbytes > self.limit:
            if not self._drop_one():
                return False
        return True

    def _drop_one(self) -> bool:
        for capacity, segments in self._free.items():
            _drop(segments.pop(0))
            self.kept -= capacity
            if not segments:
                del self._free[capacity]
            return True
        return False


def _make(path: str, size: int) -> None:
    """A file all of whose pages are there: one that cannot grow ends in SIGBUS, not in an error."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(file, 0, size)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(file)


def _found(path: Path) -> Segment:
    try:
        return Segment.found(str(path))
    except struct.error:  # its node died as it made it
        return Segment(str(path), 0)


def _drop(segment: Segment) -> None:
    """Give the pages back at once, also where somebody still has them mapped."""
    try:
        file = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.pwrite(file, CLEAR, 0)
        os.unlink(segment.path)
        with mmap.mmap(file, 0) as memory, suppress(OSError, AttributeError):
            memory.madvise(mmap.MADV_REMOVE)  # holes, not an end: who reads there is not killed
    finally:
        os.close(file)
