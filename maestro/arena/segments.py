"""A segment: a file that holds one part, and the header that says whose it is."""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass, replace

__all__ = ["CLEAR", "HEADER", "Segment", "read_header"]

#: Bytes before those of the part; a page, so that the part begins on one.
HEADER = mmap.PAGESIZE

#: Generation, version, rank and bytes of the part.
_FIELDS = struct.Struct("<4q")


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
    """

    path: str
    capacity: int
    generation: int = 0
    version: int = 0
    rank: int = 0
    nbytes: int = 0

    def stamp(self) -> Segment:
        """Write the header."""
        file = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(file, _FIELDS.pack(self.generation, self.version, self.rank, self.nbytes), 0)
        finally:
            os.close(file)
        return self

    def cleared(self) -> Segment:
        """The same without a part; what still looks for the part in it will not find it."""
        return replace(self, generation=0, version=0, rank=0, nbytes=0).stamp()

    @classmethod
    def found(cls, path: str) -> Segment:
        """The segment that lies in a file."""
        with open(path, "rb") as file:
            fields = _FIELDS.unpack(file.read(_FIELDS.size))
            return cls(path, os.fstat(file.fileno()).st_size - HEADER, *fields)


#: A header of no use.
CLEAR = _FIELDS.pack(0, 0, 0, 0)


def read_header(memory: bytes | memoryview) -> tuple[int, int, int, int]:
    """Generation, version, rank and bytes, as they stand in the first bytes of a segment."""
    generation, version, rank, nbytes = _FIELDS.unpack_from(memory)
    return generation, version, rank, nbytes
