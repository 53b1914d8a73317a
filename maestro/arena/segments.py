"""A segment: a file that holds one part, and the header that says whose it is."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass, replace
from typing import NamedTuple

__all__ = ["CLEAR", "HEADER", "Segment", "Use", "link_of", "mark_filled", "read_use"]

#: Bytes before those of the part; a page, so that the part begins on one.
HEADER = mmap.PAGESIZE

#: What `Use` says, and whether a program was lent the segment.
_FIELDS = struct.Struct("<6q")
_FILLED = struct.Struct("<q")
_FILLED_AT = 4 * 8


class Use(NamedTuple):
    """What a segment's header says: see `Segment`."""

    generation: int
    version: int
    rank: int
    nbytes: int
    filled: bool


@dataclass(frozen=True)
class Segment:
    """One part's place.

    Attributes
    ----------
    path : str
        The file. Its name is never given to another one.
    capacity : int
        Bytes that it can hold beside the header.
    generation : int
        A number that no other use of any segment of the arena has. It stands in the header for as
        long as the use lasts, so whoever reads a mapped segment knows afterwards whether what was
        read is what was looked for. 0 while the segment waits to be used again.
    version, rank, nbytes : int
        The part that is in it.
    filled : bool
        Whether the part's bytes are all there. Whoever writes them says so in the header, so it is
        known of a segment that was `found`, and of no other.
    lent : bool
        Whether it is a program's memory, as long as that program likes: it may be a part as well,
        but its bytes must stay where they are.
    """

    path: str
    capacity: int
    generation: int = 0
    version: int = 0
    rank: int = 0
    nbytes: int = 0
    filled: bool = False
    lent: bool = False

    def stamp(self) -> Segment:
        """Write the header."""
        file = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            part = self.version, self.rank, self.nbytes, self.filled, self.lent
            os.pwrite(file, _FIELDS.pack(self.generation, *part), 0)
        finally:
            os.close(file)
        return self

    def cleared(self) -> Segment:
        """The same without a part; what still looks for the part in it will not find it."""
        return replace(self, generation=0, version=0, rank=0, nbytes=0, filled=False).stamp()

    def complete(self) -> Segment:
        """The same with all of the part's bytes there."""
        return replace(self, filled=True).stamp()

    @classmethod
    def found(cls, path: str) -> Segment:
        """The segment that lies in a file."""
        with open(path, "rb") as file:
            generation, version, rank, nbytes, filled, lent = _FIELDS.unpack(
                file.read(_FIELDS.size)
            )
            capacity = os.fstat(file.fileno()).st_size - HEADER
            part = generation, version, rank, nbytes
            return cls(path, capacity, *part, bool(filled), bool(lent))


#: A header of no use.
CLEAR = bytes(_FIELDS.size)


def read_use(memory: bytes | memoryview) -> Use:
    """What stands in the first bytes of a segment."""
    generation, version, rank, nbytes, filled, _ = _FIELDS.unpack_from(memory)
    return Use(generation, version, rank, nbytes, bool(filled))


def link_of(directory: str, version: int, rank: int) -> str:
    """The link by which a part's segment is found in the directory of its node."""
    return os.path.join(directory, f"part-{version}-{rank}")


def mark_filled(memory: memoryview) -> None:
    """Say in a segment's first bytes that its part is there."""
    _FILLED.pack_into(memory, _FILLED_AT, True)
