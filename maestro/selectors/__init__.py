"""Selectors: which CDOs somebody means, by their attributes.

::

    (has .maestro.core.cdo.name)
    (and (.maestro.gsv.param = 130) (.maestro.gsv.levelist <= 10))
    (or (units = "K") (not (name ~=i "^wind")))

`Selector` is one, read and compiled; `maestro.selectors.index` finds those of many that an event
meets.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from maestro.selectors import syntax
from maestro.selectors.compiling import Predicate, compile_clause
from maestro.selectors.parsing import parse

__all__ = ["Selector"]


class Selector:
    """Which CDOs are meant; two are equal where they say the same.

    Parameters
    ----------
    text : str or None
        ``(has key)``; ``(key operator value)`` with ``= != < <= > >=`` and a number, a quoted
        string, ``true``, ``false``, or a time such as ``2026-01-01T00:00:00Z``, compared with
        string attributes that are times; ``(key ~= "pattern")`` for a regular expression found
        anywhere in a string, ``~=i`` whatever the case, in the syntax of RE2; ``and``, ``or`` and
        ``not`` around these. None selects everything.

    Raises
    ------
    SelectorError
        If it can't be read, naming the column.
    TypeError
        If it is no string.

    Examples
    --------
    >>> selector = Selector("(and (step >= 6) (name ~= '^t'))")
    >>> selector.matches({"step": 12, "name": "t2m"})
    True
    >>> Selector("(step >= )")
    Traceback (most recent call last):
    ...
    maestro.errors.SelectorError: selector: column 10: got ')', expected a number, ...
      (step >= )
               ^
    """

    __slots__ = ("_said", "clause", "matches", "text")

    clause: syntax.Clause | None
    matches: Predicate

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self.clause, self.matches = _everything if text is None else _compiled(text)
        self._said = str(self.clause)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and self._said == other._said

    def __hash__(self) -> int:
        return hash(self._said)

    def __repr__(self) -> str:
        return f"Selector({self.text!r})"


def _always(attributes: Mapping[str, Any]) -> bool:
    return True


_everything: tuple[None, Predicate] = (None, _always)


def _compiled(text: str) -> tuple[syntax.Clause, Predicate]:
    if not isinstance(text, str):
        raise TypeError(f"selector: got {text!r}, expected a string or None")
    return _read(text)


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[syntax.Clause, Predicate]:
    clause = parse(text)
    return clause, compile_clause(clause)
