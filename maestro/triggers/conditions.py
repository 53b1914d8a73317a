"""What triggers wait for: CDOs that selectors match, and that belong together. Plain state."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from maestro.selectors import Selector

__all__ = ["Condition", "Joining"]

T = TypeVar("T")


@dataclass(frozen=True)
class Condition:
    """Which CDOs a task is given.

    Attributes
    ----------
    selectors : tuple of Selector
        One for each of them.
    by : tuple of str
        Attributes that they have in common.

    Examples
    --------
    >>> condition = Condition.of(['(name = "u")', '(name = "v")'], by="step")
    >>> condition.text
    '(and (or (name = "u") (name = "v")) (has step))'
    >>> condition.places({"name": "v", "step": 6}), condition.key({"name": "v", "step": 6})
    ([1], (6,))
    """

    selectors: tuple[Selector, ...]
    by: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, selectors: Sequence[str | None], by: str | Sequence[str] | None = None
    ) -> Condition:
        """The condition that somebody asks for.

        Raises
        ------
        SelectorError
            If a selector, or one of ``by``, can't be read.
        """
        keys = () if by is None else (by,) if isinstance(by, str) else tuple(by)
        condition = cls(tuple(Selector(text) for text in selectors or [None]), keys)
        Selector(condition.text)
        return condition

    @property
    def text(self) -> str | None:
        """One selector for all that may be of use."""
        has = "".join(f" (has {key})" for key in self.by)
        texts = [selector.text for selector in self.selectors]
        if None in texts:
            return f"(and{has})" if has else None
        either = texts[0] if len(texts) == 1 else f"(or {' '.join(map(str, texts))})"
        return f"(and {either}{has})" if has else either

    def places(self, attributes: Mapping[str, Any]) -> list[int]:
        """For which of the selectors a CDO will do."""
        if not all(key in attributes for key in self.by):
            return []
        return [k for k, each in enumerate(self.selectors) if each.matches(attributes)]

    def key(self, attributes: Mapping[str, Any]) -> tuple[Hashable, ...]:
        """What a CDO has in common with those that belong to it."""
        return tuple(_hashable(attributes[key]) for key in self.by)


def _hashable(value: Any) -> Hashable:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return tuple((key, _hashable(value[key])) for key in sorted(value))
    return value


class Joining(Generic[T]):
    """Things that wait until there is one for every place of a set.

    Those of one key belong together. Where several have come for a place, the first is taken first:
    so the n-th set of a key has the n-th thing of each of its places.

    Parameters
    ----------
    places : int
        Things that a set has.

    Examples
    --------
    >>> pairs = Joining(2)
    >>> pairs.add(6, 0, "u+6")
    >>> pairs.add(12, 0, "u+12")
    >>> pairs.add(6, 1, "v+6")
    ('u+6', 'v+6')
    >>> pairs.clear()
    ['u+12']
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._waiting: dict[Hashable, tuple[deque[T], ...]] = {}

    def add(self, key: Hashable, place: int, thing: T) -> tuple[T, ...] | None:
        """Let something take a place; the set that is complete now, if one is."""
        queues = self._waiting.setdefault(key, tuple(deque() for _ in range(self._places)))
        queues[place].append(thing)
        if not all(queues):
            return None
        complete = tuple(queue.popleft() for queue in queues)
        if not any(queues):
            del self._waiting[key]
        return complete

    def clear(self) -> list[T]:
        """Let go of what waits, once for each place that it waits in."""
        left = [thing for queues in self._waiting.values() for queue in queues for thing in queue]
        self._waiting.clear()
        return left
