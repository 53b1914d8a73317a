"""Python's garbage collection in a process that is a pool manager.

Now and then Python looks through all objects, and nobody is answered meanwhile: those of Dask's and
our modules take 60 ms, those of a pool of 100 000 CDOs several times as long. So what has outlived
a look at the latest few thousand is put aside. Reference counts see to nearly all that ends; what
is left of it, in cycles, waits for a quiet moment, in which everything is looked through.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

__all__ = ["Collection"]

#: Seconds without a call after which a moment is a quiet one.
QUIET = 10.0

#: How often something was put aside before everything is looked through again: some 100 000
#: objects, as Python's thresholds are.
OFTEN = 16


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
        self._aside = 0
        self.look_through()
        gc.callbacks.append(self._collected)
        self._timer = self._loop.call_later(QUIET, self._look)

    def look_through(self) -> None:
        """Look through everything, once more."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._aside = 0

    def close(self) -> None:
        """Leave it to Python again."""
        self._timer.cancel()
        if self._collected in gc.callbacks:
            gc.callbacks.remove(self._collected)
            gc.unfreeze()

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "stop" and info["generation"]:
            gc.freeze()
            self._aside += 1

    def _look(self) -> None:
        """Look through everything if nobody is there to be kept waiting, and it may be worth it."""
        counted = self._count()
        if counted == self._counted and self._aside > OFTEN:
            self.look_through()
        self._counted = counted
        self._timer = self._loop.call_later(QUIET, self._look)
