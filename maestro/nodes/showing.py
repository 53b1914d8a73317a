"""Parts that tasks of a node's own worker look at where they lie, and which must stay meanwhile."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from typing import Any, cast
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shown"]


class Shown:
    """The views of parts that somebody refers to.

    Examples
    --------
    >>> shown = Shown()
    >>> part = np.arange(4, dtype=np.uint8)
    >>> some = shown.view("part", part)[1:3]
    >>> "part" in shown, some.flags.writeable
    (True, False)
    >>> del some
    >>> "part" in shown
    False
    """

    def __init__(self) -> None:
        self._views: Counter[Hashable] = Counter()
        self._gone: deque[Hashable] = deque()  # by whichever thread let go of a view, at any moment

    def view(self, key: Hashable, memory: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The memory of a part, not to be written to."""
        if not len(memory):
            return np.empty(0, np.uint8)
        self._views[key] += 1
        # What all views of it refer to, and nobody can make writeable.
        view = np.frombuffer(memoryview(cast(Any, memory)).toreadonly(), np.uint8)
        finalize(view, self._gone.append, key).atexit = False
        return view

    def __contains__(self, key: Hashable) -> bool:
        while self._gone:
            gone = self._gone.popleft()
            self._views[gone] -= 1
            if not self._views[gone]:
                del self._views[gone]
        return key in self._views
