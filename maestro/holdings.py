"""What one node holds: parts, in the arena or in its own memory, and those that are on their way.

No Dask and no events here: `maestro.node` lets programs at it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from layouts import Distribution
from layouts.tiled import AnyArray
from maestro.arena import Arena, Mappings, Segment
from maestro.bringing import Delivery
from maestro.payload import as_part, element

__all__ = ["Arrival", "Holdings", "Part"]

logger = logging.getLogger("maestro.node")

Home: TypeAlias = Segment | NDArray[np.uint8]

#: Versions of dead producers that are remembered, for something of them may still be on its way.
REMEMBERED = 4096


@dataclass
class Part:
    """One rank's bytes of one version.

    Attributes
    ----------
    home : Segment or uint8 array
        Where they are: in the arena, or in the node's own memory.
    """

    distribution: Distribution
    rank: int
    itemsize: int
    home: Home
    mappings: Mappings

    @property
    def nbytes(self) -> int:
        """Size in bytes, what pads tiles included."""
        return self.distribution.local_size(self.rank) * self.itemsize

    @cached_property
    def memory(self) -> NDArray[np.uint8]:
        """The bytes."""
        if isinstance(self.home, Segment):
            return self.mappings.attach(self.home.path, self.nbytes)
        return self.home

    @cached_property
    def array(self) -> AnyArray:
        """The bytes as the rank's part."""
        layout = self.distribution
        shape = layout.local_shape(self.rank)
        part: AnyArray = as_part(self.memory, shape, element(self.itemsize), layout.order)
        return part


class Holdings:
    """The parts of one node.

    Parameters
    ----------
    arena : Arena
        Memory that programs of this host map.
    map_from : int
        Bytes from which on a part is kept there. What is smaller, or does not fit there, is in the
        node's own memory.

    Attributes
    ----------
    parts : dict
        Parts by version and rank.
    arriving : dict
        Those that are on their way.
    lent : dict
        By path, segments that programs of this host have as memory of their own; they may be parts
        as well.
    """

    def __init__(self, arena: Arena, map_from: int) -> None:
        self.arena, self.map_from = arena, map_from
        self.parts: dict[tuple[int, int], Part] = {}
        self.arriving: dict[tuple[int, int], Arrival] = {}
        self.lent: dict[str, Segment] = {}
        self._tainted: set[str] = set()
        self._mappings = Mappings(populate=False)
        self._dead: OrderedDict[int, None] = OrderedDict()

    def where(self, version: int, ranks: Iterable[int]) -> dict[int, tuple[str, int, int]]:
        """Path, bytes and generation of those parts that are in the arena, by rank."""
        found = {}
        for rank in ranks:
            part = self.parts.get((version, rank))
            if part is not None and isinstance(part.home, Segment):
                found[rank] = (part.home.path, part.nbytes, part.home.generation)
        return found

    def take_out(self, version: int, ranks: Iterable[int], settled: bool) -> list[Home]:
        """Forget parts, also those that are on their way; what is left of them is to be dropped.

        Parameters
        ----------
        settled : bool
            Whether nobody writes to them any more. Otherwise their producer is gone, or out of
            reach, and nothing more of this version is taken.
        """
        if not settled:
            self._dead[version] = None
            while len(self._dead) > REMEMBERED:
                self._dead.popitem(last=False)
        left = []
        for rank in ranks:
            self.arriving.pop((version, rank), None)
            part = self.parts.pop((version, rank), None)
            if part is not None:
                left.append(part.home)
        return left

    def drop(self, homes: Iterable[Home], settled: bool) -> None:
        """Give memory back. Takes its time where it is much; for a thread."""
        for home in homes:
            if not isinstance(home, Segment):
                continue
            lent = self.lent.get(home.path)
            if lent is not None:
                if lent.generation == home.generation:  # not offered anew meanwhile
                    home.cleared()
            elif settled and home.path not in self._tainted:
                self.arena.release(home)
            else:
                self._tainted.discard(home.path)
                self.arena.discard(home)

    def lend(self, nbytes: int) -> str:
        """Memory for a program to write its part into; the path of a segment.

        Raises
        ------
        MemoryError
            If there is no room.
        """
        if self.arena.used + nbytes > self.arena.limit:
            raise MemoryError(
                f"{self.arena.limit - self.arena.used} of {self.arena.limit} bytes free"
            )
        segment = self.arena.reserve(nbytes, 0, 0)
        self.lent[segment.path] = segment
        return segment.path

    def give_back(self, path: str) -> None:
        """A program has let go of what it was lent; where that is a part, it stays one."""
        segment = self.lent.pop(path, None)
        if segment is not None and not self._is_part(path):
            self.arena.release(segment)

    def abandon(self, path: str) -> None:
        """Whoever was lent this is gone, or out of reach, and may still write to it."""
        segment = self.lent.pop(path, None)
        if segment is None:
            return
        if self._is_part(path):
            self._tainted.add(path)
        else:
            self.arena.discard(segment)

    def _is_part(self, path: str) -> bool:
        homes = (part.home for part in self.parts.values())
        return any(isinstance(home, Segment) and home.path == path for home in homes)

    def lent_part(self, path: str, part: tuple[int, int], nbytes: int) -> Segment | None:
        """What was lent, as the part that was written into it."""
        segment = self.lent.get(path)
        if segment is None or segment.capacity < nbytes:
            return None
        self.lent[path] = segment = self.arena.reuse(segment, nbytes, *part)
        return segment

    def expects(self, version: int) -> bool:
        """Whether parts of a version may still come."""
        return version not in self._dead

    def segment(self, part: tuple[int, int], nbytes: int) -> Segment | None:
        """A place in the arena, if the part is large enough for it and there is room."""
        if nbytes < self.map_from:
            return None
        try:
            return self.arena.reserve(nbytes, *part)
        except MemoryError as error:
            logger.warning(
                "A part of %d bytes goes into the node's own memory, which nobody can map: %s; set"
                " maestro.arena.directory to a directory with more room",
                nbytes,
                error,
            )
            return None

    def part(self, delivery: Delivery, rank: int, home: Home) -> Part:
        """A part of a delivery, wherever it is."""
        return Part(delivery.distribution, rank, delivery.itemsize, home, self._mappings)


class Arrival:
    """Parts that are on their way to a node: theirs is the memory until all are there.

    To be used in ``with``; what has not entered by its end is dropped.
    """

    def __init__(self, holdings: Holdings, delivery: Delivery) -> None:
        self._holdings, self._delivery = holdings, delivery
        self._parts: dict[int, Part] = {}

    def __enter__(self) -> Arrival:
        # What was under way for the same ranks is superseded.
        self._holdings.arriving.update(dict.fromkeys(map(self._key, self._delivery.ranks), self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        arriving = self._holdings.arriving
        for key in map(self._key, self._delivery.ranks):
            if arriving.get(key) is self:
                del arriving[key]
        self._holdings.drop([part.home for part in self._parts.values()], settled=True)

    def _key(self, rank: int) -> tuple[int, int]:
        return self._delivery.version, rank

    def allocate(self, rank: int) -> NDArray[np.uint8]:
        """Memory for a part, of any content."""
        nbytes = self._delivery.size(rank)
        segment = self._holdings.segment(self._key(rank), nbytes)
        home = np.empty(nbytes, np.uint8) if segment is None else segment
        part = self._parts[rank] = self._holdings.part(self._delivery, rank, home)
        return part.memory

    def segments(self, written: Mapping[int, str]) -> dict[int, str]:
        """Files in the arena for the parts, by rank; without those for which there are none.

        Parameters
        ----------
        written : mapping
            Segments that were lent, and hold the parts of these ranks already.
        """
        paths = {}
        for rank in self._delivery.ranks:
            key, size, home = self._key(rank), self._delivery.size(rank), None
            if rank in written:
                home = self._holdings.lent_part(written[rank], key, size)
            if home is None:
                home = self._holdings.segment(key, size)
            if home is not None:
                self._parts[rank] = self._holdings.part(self._delivery, rank, home)
                paths[rank] = home.path
        return paths

    def enter(self) -> int | None:
        """Store the parts; or store none, and say a rank that is not expected any more."""
        holdings = self._holdings
        for rank in self._parts:
            if holdings.arriving.get(self._key(rank)) is not self:
                return rank
            if not holdings.expects(self._delivery.version):
                return rank
        before = [holdings.parts.get(self._key(rank)) for rank in self._parts]
        holdings.parts.update({self._key(rank): part for rank, part in self._parts.items()})
        self._parts = {}
        holdings.drop([part.home for part in before if part is not None], settled=True)
        return None
