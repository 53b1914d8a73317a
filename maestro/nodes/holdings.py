"""What one node holds: parts, in the arena, in its own memory or on disk, and those on their way.

No Dask and no events here: `maestro.nodes.node` lets programs at it.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from layouts import Distribution
from layouts.tiled import AnyArray
from maestro.arena import Arena, Mappings, Segment
from maestro.errors import PoolFullError
from maestro.nodes.showing import Shown
from maestro.nodes.spilling import Spill
from maestro.transport.bringing import Delivery
from maestro.transport.payload import as_part, element

if TYPE_CHECKING:
    from maestro.nodes.lodger import Lodger

__all__ = ["Arrival", "Holdings", "Part"]

logger = logging.getLogger("maestro.node")

Home: TypeAlias = Segment | NDArray[np.uint8]
Key: TypeAlias = tuple[int, int]  # version and rank

#: Versions of dead producers that are remembered, for something of them may still be on its way.
REMEMBERED = 4096


@dataclass
class Part:
    """One rank's bytes of one version.

    Attributes
    ----------
    home : Segment or uint8 array
        Where they are: in the arena or on disk, or in the node's own memory.
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
    spill : Spill, optional
        Where parts go for which there is no memory, those that were used the longest ago first.
    lodger : Lodger, optional
        The same, if they go to a store rather than to files.

    Attributes
    ----------
    parts : dict
        Parts by version and rank.
    arriving : dict
        Those that are on their way.
    lent : dict
        By path, segments that programs of this host have as memory of their own; they may be parts
        as well.
    own : int
        Bytes of the parts in the node's own memory.
    mappings : Mappings
        What of the parts this process has mapped.
    """

    def __init__(
        self,
        arena: Arena,
        map_from: int,
        spill: Spill | None = None,
        lodger: Lodger | None = None,
    ) -> None:
        self.arena, self.map_from, self.spill = arena, map_from, spill
        self.parts: dict[Key, Part] = {}
        self.arriving: dict[Key, Arrival] = {}
        self.lent: dict[str, Segment] = {}
        self.own = 0
        self.mappings = Mappings(limit=0)
        self._uses: Counter[str] = Counter()  # of what was lent: parts in it, dropped or not yet
        self._given_back: dict[str, Segment] = {}  # the latest of those, of what is lent no more
        self._tainted: set[str] = set()
        self._dead: OrderedDict[int, None] = OrderedDict()
        self._lodger, self._moves = lodger, spill is not None or lodger is not None
        self._leaving: dict[Key, Part] = {}  # that live in a store by now, and are still read here
        self._in_memory: OrderedDict[Key, None] = OrderedDict()  # that used last is the last
        self._reading: Counter[Key] = Counter()
        self._shown = Shown()
        self._lock = Lock()  # of all that threads change: a part may be spilled at any moment
        self._spilling = Lock()

    def where(self, version: int, ranks: Iterable[int]) -> dict[int, str]:
        """The segments of those parts that can be mapped, by rank."""
        found = {}
        for rank in ranks:
            part = self.parts.get((version, rank))
            if part is not None and isinstance(part.home, Segment):
                self._touch((version, rank))
                found[rank] = part.home.path
        return found

    @contextmanager
    def reading(self, keys: Iterable[Key]) -> Iterator[None]:
        """Leave parts where they are for as long as they are read here."""
        keys = list(keys)
        if not self._moves:
            yield
            return
        with self._lock:
            self._reading.update(keys)
        try:
            yield
        finally:
            with self._lock:
                self._reading -= Counter(keys)
                unread = set(keys) & self._leaving.keys() - self._reading.keys()
                left = [self._leaving.pop(key) for key in unread]
            self.drop([part.home for part in left], settled=True)
            for key in keys:
                self._touch(key)

    def show(self, version: int, rank: int, dtype: np.dtype[Any]) -> AnyArray | None:
        """A part where it lies, not to be written to; None if it is not here.

        It stays as it is for as long as an array refers to it, whatever is dropped meanwhile. Of
        one that its producer has as memory of its own, and may write to soon, this is a copy.
        """
        with self._lock:
            part = self.parts.get((version, rank))
            if part is None:
                return None
            memory = part.memory
            if isinstance(part.home, Segment) and part.home.path in self.lent:
                memory = memory.copy()
                memory.flags.writeable = False
            else:
                memory = self._shown.view((version, rank), memory)
        layout = part.distribution
        shown: AnyArray = as_part(memory, layout.local_shape(rank), dtype, layout.order)
        return shown

    def _touch(self, key: Key) -> None:
        if not self._moves:
            return
        with self._lock:
            if key in self._in_memory:
                self._in_memory.move_to_end(key)

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
        with self._lock:
            for rank in ranks:
                self.arriving.pop((version, rank), None)
                self._in_memory.pop((version, rank), None)
                part = self.parts.pop((version, rank), None)
                if part is not None:
                    left.append(part.home)
        return left

    def drop(self, homes: Iterable[Home], settled: bool) -> None:
        """Give memory back. Takes its time where it is much; for a thread."""
        for home in homes:
            if not isinstance(home, Segment):
                with self._lock:
                    self.own -= home.nbytes
                continue
            with self._lock:
                more, lent = self._used_once_less(home.path), self.lent.get(home.path)
                if lent is not None:
                    if lent.generation == home.generation:  # not offered anew meanwhile
                        home.cleared()
                    continue
                if not settled or (home.version, home.rank) in self._shown:
                    self._tainted.add(home.path)
                if more:  # it was lent, and offered more than once: the last one frees it
                    continue
                home = self._given_back.pop(home.path, home)
                tainted = home.path in self._tainted
                self._tainted.discard(home.path)
            place = self.spill if self.spill and self._is_on_disk(home) else self.arena
            if tainted:
                self.mappings.forget(home.path)
                place.discard(home)
            else:
                place.release(home)

    def _used_once_less(self, path: str) -> int:
        """How many more parts there were in a segment that are still to be dropped."""
        left = self._uses.pop(path, 1) - 1
        if left:
            self._uses[path] = left
        return left

    @property
    def homes(self) -> list[tuple[str, str]]:
        """Where parts are that outlive this node, and what proves that one sees them."""
        places = [self.arena] if self.spill is None else [self.arena, self.spill.files]
        # The last is let go of last: once its lock is free, all are.
        return [(place.directory, place.token) for place in reversed(places)]

    def adopt(
        self, homes: Sequence[str], left: Mapping[Key, tuple[Distribution, int]]
    ) -> list[Key]:
        """Take over parts that a dead node has left. For a thread.

        Parameters
        ----------
        homes : sequence of str
            Its directories.
        left : mapping
            The parts that are wanted, with their distributions and bytes per element.

        Returns
        -------
        list of (int, int)
            Those that are there.

        Raises
        ------
        BlockingIOError
            If it lives.
        """
        parts: dict[Key, Part] = {}
        wanted = {
            key: layout.local_size(key[1]) * itemsize for key, (layout, itemsize) in left.items()
        }
        places: list[Arena | Spill] = [self.arena]
        if self.spill is not None:
            places.append(self.spill)
        for directory in homes:
            for place in places:
                if os.path.dirname(place.directory) == os.path.dirname(directory):
                    segments = place.adopt(directory, wanted)
                    break
            else:
                continue
            for segment in segments:
                key = segment.version, segment.rank
                del wanted[key]
                layout, itemsize = left[key]
                parts[key] = Part(layout, key[1], itemsize, segment, self.mappings)
                if segment.lent:  # to a program that may live, and write to it some day
                    self._tainted.add(segment.path)
        self.enter(parts)
        return list(parts)

    # Room

    @property
    def in_memory(self) -> int:
        """Bytes of parts in memory, the arena's or the node's own, and of what is lent."""
        return self.arena.used + self.own

    def fits(self, nbytes: int) -> bool:
        """Whether memory has room for so much more; always where nothing goes elsewhere."""
        return not self._moves or self.in_memory + nbytes <= self.arena.limit

    def make_room(self, nbytes: int) -> None:
        """Let parts go elsewhere until memory has room, or no other can go. For a thread."""
        while not self.fits(nbytes) and self._spill_oldest():
            pass

    def home(self, key: Key, nbytes: int) -> Home:
        """A place for a part: in the arena if it is large enough and there is room, or on disk.

        Raises
        ------
        PoolFullError
            If there is none; everything is as it was.
        """
        self.make_room(nbytes)
        full: MemoryError | None = None
        while self.fits(nbytes) and nbytes >= self.map_from:
            try:
                return self.arena.reserve(nbytes, *key)
            except MemoryError as error:  # less is there than was thought
                full = error
                if not self._spill_oldest():
                    break
        if self.spill is not None and (full or not self.fits(nbytes)):
            try:
                return self.spill.reserve(nbytes, *key)
            except MemoryError as error:
                raise PoolFullError(
                    f"rank {key[1]}: no room for its {nbytes} bytes: {error}"
                ) from None
        if not self.fits(nbytes):
            raise PoolFullError(
                f"rank {key[1]}: no room for its {nbytes} bytes: {self.in_memory} of"
                f" {self.arena.limit} in use, by parts that cannot go to the store just now"
            )
        if full:
            logger.warning(
                "A part of %d bytes goes into the node's own memory, which nobody can map: %s; set"
                " maestro.arena.directory to a directory with more room",
                nbytes,
                full,
            )
        with self._lock:
            self.own += nbytes
        return np.empty(nbytes, np.uint8)

    def _spill_oldest(self) -> bool:
        """Let the part that was used the longest ago, of those that can, go elsewhere."""
        if not self._moves:
            return False
        with self._spilling:
            with self._lock:
                candidates = [
                    key
                    for key in self._in_memory
                    if not self._reading[key] and key not in self._shown
                ]
            for key in candidates:
                part = self.parts.get(key)
                if part is None or not self._is_settled(part.home):
                    continue
                if self.spill is None:
                    return self._lodge(key, part)
                try:
                    home = self.spill.take(part.home, *key)
                except MemoryError:  # it is full
                    return False
                with self._lock:
                    moved = self.parts.get(key) is part and not self._reading[key]
                    moved = moved and key not in self._shown
                    if moved:
                        self.parts[key] = replace(part, home=home)
                        del self._in_memory[key]
                self.drop([part.home if moved else home], settled=True)
                return True
        return False

    def _lodge(self, key: Key, part: Part) -> bool:
        """Let a part live in a store from now on; whether it does."""
        assert self._lodger is not None
        if not self._lodger.lodge(part.array, part.distribution, *key):
            return False
        with self._lock:
            gone = self.parts.get(key) is not part  # it was freed meanwhile
            if not gone:
                del self.parts[key], self._in_memory[key]
                if self._reading[key]:
                    self._leaving[key], gone = part, True
        if not gone:
            self.drop([part.home], settled=True)
        return True

    def _is_settled(self, home: Home) -> bool:
        """Whether a part is all there, and nobody has its memory to write to."""
        if not isinstance(home, Segment):
            return True
        if home.path in self.lent or home.path in self._tainted:
            return False
        try:
            return Segment.found(home.path).filled
        except OSError:  # it goes just now
            return False

    def lend(self, nbytes: int) -> str:
        """Memory for a program to write its part into; the path of a segment.

        Raises
        ------
        MemoryError
            If there is no room.
        """
        self.make_room(nbytes)
        if self.arena.used + nbytes > self.arena.limit:
            raise MemoryError(
                f"{self.arena.limit - self.arena.used} of {self.arena.limit} bytes free"
            )
        segment = self.arena.reserve(nbytes, 0, 0, lent=True)
        self.lent[segment.path] = segment
        return segment.path

    def give_back(self, path: str) -> None:
        """A program has let go of what it was lent; where that is a part, it stays one."""
        segment = self._lent_no_more(path)
        if segment is not None:
            self.arena.release(segment)

    def abandon(self, path: str) -> None:
        """Whoever was lent this is gone, or out of reach, and may still write to it."""
        segment = self._lent_no_more(path, tainted=True)
        if segment is not None:
            self.arena.discard(segment)

    def _lent_no_more(self, path: str, tainted: bool = False) -> Segment | None:
        """What was lent, if no part is in it; else it is freed with the last of them."""
        with self._lock:
            segment = self.lent.pop(path, None)
            if segment is None or path not in self._uses:
                return segment
            self._given_back[path] = segment
            if tainted:
                self._tainted.add(path)
            return None

    def lent_part(self, path: str, part: tuple[int, int], nbytes: int) -> Segment | None:
        """What was lent, as the part that was written into it."""
        with self._lock:
            segment = self.lent.get(path)
            if segment is None or segment.capacity < nbytes:
                return None
            self.lent[path] = segment = self.arena.reuse(segment, nbytes, *part, filled=True)
            self._uses[path] += 1
            return segment

    def enter(self, parts: Mapping[Key, Part]) -> list[Part]:
        """Hold parts from now on; those whose places they take are to be dropped."""
        before = [self.parts[key] for key in parts if key in self.parts]
        with self._lock:
            self.parts.update(parts)
            for key, part in parts.items() if self._moves else ():
                if not self._is_on_disk(part.home):
                    self._in_memory[key] = None
        return before

    def _is_on_disk(self, home: Home) -> bool:
        return self.spill is not None and isinstance(home, Segment) and self.spill.owns(home)

    def expects(self, version: int) -> bool:
        """Whether parts of a version may still come."""
        return version not in self._dead

    def close(self) -> None:
        """Let go of everything; what others may adopt is left to them."""
        self.arena.close()
        if self.spill is not None:
            self.spill.close()

    def part(self, delivery: Delivery, rank: int, home: Home) -> Part:
        """A part of a delivery, wherever it is."""
        return Part(delivery.distribution, rank, delivery.itemsize, home, self.mappings)


class Arrival:
    """Parts that are on their way to a node: theirs is the memory until all are there.

    To be used in ``with``; what has not entered by its end is dropped.
    """

    def __init__(self, holdings: Holdings, delivery: Delivery) -> None:
        self._holdings, self._delivery = holdings, delivery
        self._parts: dict[int, Part] = {}
        self._to_fill: set[int] = set()  # those whose bytes go through this process

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
        home = self._holdings.home(self._key(rank), self._delivery.size(rank))
        part = self._parts[rank] = self._holdings.part(self._delivery, rank, home)
        self._to_fill.add(rank)
        return part.memory

    def segments(self, written: Mapping[int, str]) -> dict[int, str]:
        """Files to map for the parts, by rank; without those for which there are none.

        Parameters
        ----------
        written : mapping
            Segments that were lent, and hold the parts of these ranks already.
        """
        paths = {}
        for rank in self._delivery.ranks:
            key, size = self._key(rank), self._delivery.size(rank)
            home: Home | None = None
            if rank in written:
                home = self._holdings.lent_part(written[rank], key, size)
            if home is None:
                home = self._holdings.home(key, size)
            if not isinstance(home, Segment):
                self._holdings.drop([home], settled=True)
            else:
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
        for rank in self._to_fill & self._parts.keys():
            part = self._parts[rank]
            if isinstance(part.home, Segment):
                self._parts[rank] = replace(part, home=part.home.complete())
        before = holdings.enter({self._key(rank): part for rank, part in self._parts.items()})
        self._parts = {}
        holdings.drop([part.home for part in before], settled=True)
        return None
