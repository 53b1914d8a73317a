"""What Dask's memory monitor sees of a node, kept small.

The monitor goes by the pages that are in the worker's process, and those that it shares with others
are among them: a worker that has read the parts of a full arena would be paused, or restarted, for
memory that is not its own. So pages of parts are put out of the process when they become many. They
stay where they are; to touch them again costs less than half of the speed of copying them.

What the process keeps for demanded arrays to come is let go as well before Dask minds it.
"""

from __future__ import annotations

from collections.abc import Iterable

from maestro.arena import Mappings, Recycler
from maestro.arena.mappings import resident
from maestro.config import get_number

__all__ = ["Footprint"]

#: Share of the memory limit from which on nothing is kept: below all thresholds of Dask's.
HIGH = 0.5


class Footprint:
    """The pages of one process.

    Parameters
    ----------
    memory_limit : int
        Bytes from which Dask reckons the shares at which it spills, pauses and restarts a worker.

    Attributes
    ----------
    may_map : int
        Bytes of pages of parts that may be in the process.
    """

    def __init__(self, memory_limit: int) -> None:
        self._high = int(memory_limit * HIGH)
        self.may_map = int(memory_limit * get_number("node.mapped"))

    def trim(self, mapped: Iterable[Mappings], memory: Recycler) -> None:
        """Put pages out of the process if they have become many; to be called time and again."""
        mapped = list(mapped)
        if not (memory.kept or sum(mappings.nbytes for mappings in mapped) > self.may_map):
            return
        pages, shared = resident()
        if shared > self.may_map:
            for mappings in mapped:
                mappings.empty()
        if memory.kept and pages - shared > self._high:
            memory.clear()
