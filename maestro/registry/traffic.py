"""What demands moved, as the apps say it: by workflow and component. Plain state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from maestro.report import MOVED

__all__ = ["Traffic"]

#: Components that are told apart; what more of them do is summed.
MOST = 1024


class Traffic:
    """Sums over all demands of a pool, those of apps that are gone among them.

    Examples
    --------
    >>> traffic = Traffic()
    >>> traffic.add("forecast", "products", {"demands": 1, "seconds": 0.5, "host": 800})
    >>> traffic.total["host"], traffic.rows()[0]["component"]
    (800, 'products')
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], Counter[str]] = {}

    def add(self, workflow: str, component: str, moved: Mapping[str, float]) -> None:
        """Add what an app has just told."""
        key = workflow, component
        if key not in self._sums and len(self._sums) >= MOST:
            key = "(others)", ""
        self._sums.setdefault(key, Counter()).update(moved)

    @property
    def total(self) -> Counter[str]:
        """All of it."""
        total: Counter[str] = Counter()
        for moved in self._sums.values():
            total.update(moved)
        return total

    def rows(self) -> list[dict[str, Any]]:
        """A row for each component."""
        return [
            {"workflow": workflow, "component": component, **{key: moved[key] for key in MOVED}}
            for (workflow, component), moved in self._sums.items()
        ]
