"""Python's garbage collection in a process that is a pool manager.

Now and then Python looks through all objects, and nobody is answered meanwhile: those of Dask's and
our modules take 60 ms, those of a pool of 100 000 CDOs several times as long. What has outlived one
look is put aside, so each object is looked at once. Reference counts see to nearly all that ends;
what is left of it, in cycles, waits for a quiet moment, in which everything is looked through.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

__all__ = ["Collection"]

#: Seconds without a call after which a moment is a quiet one.
QUIET = 10.0

#: How many more objects than after the last look make another one worth it: a third, and so many.
GROWN, FEW = 4 / 3, 100_000


class Collection:
    """Garbage collection of this process, from its making on until it is closed.

    Parameters
    ----------
    count : callable
        How many calls there have been.
    """

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._counted = count()
        self._kept = 0
        self.look_through()
        gc.callbacks.append(self._collected)
        self._timer = self._loop.call_later(QUIET, self._look)

    def look_through(self) -> None:
        """Look through everything, once more."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._kept = gc.get_freeze_count()

    def close(self) -> None:
        """Leave it to Python again."""
        self._timer.cancel()
        if self._collected in gc.callbacks:
            gc.callbacks.remove(self._collected)
            gc.unfreeze()

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"] == 2:
            gc.freeze()

    def _look(self) -> None:
        """Look through everything if nobody is there to be kept waiting, and it may be worth it."""
        counted = self._count()
        if counted == self._counted and gc.get_freeze_count() > self._kept * GROWN + FEW:
            self.look_through()
        self._counted = counted
        self._timer = self._loop.call_later(QUIET, self._look)
