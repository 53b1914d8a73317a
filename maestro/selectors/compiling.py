"""From what a selector says to a function of a CDO's attributes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from maestro.selectors import syntax
from maestro.selectors.patterns import searching
from maestro.timestamps import instant

__all__ = ["Predicate", "compile_clause"]

Predicate: TypeAlias = Callable[[Mapping[str, Any]], bool]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MISSING: Any = object()


def compile_clause(clause: syntax.Clause) -> Predicate:
    """A function that says whether the clause holds for some attributes.

    Examples
    --------
    >>> holds = compile_clause(syntax.Compare("step", "<", 12))
    >>> holds({"step": 6}), holds({"step": "6"}), holds({})
    (True, False, False)
    """
    match clause:
        case syntax.All(clauses):
            return _all([compile_clause(c) for c in clauses])
        case syntax.Any(clauses):
            return _any([compile_clause(c) for c in clauses])
        case syntax.Not(inner):
            holds = compile_clause(inner)
            return lambda attributes: not holds(attributes)
        case syntax.Has(key):
            return lambda attributes: key in attributes
        case syntax.Match(key, pattern, ignore_case):
            return _match(key, searching(pattern, ignore_case))
        case syntax.Compare(key, symbol, value):
            return _compare(key, symbol, value)


def _all(clauses: list[Predicate]) -> Predicate:
    def holds(attributes: Mapping[str, Any]) -> bool:
        for clause in clauses:  # noqa: SIM110  (half the time of all(), and so below)
            if not clause(attributes):
                return False
        return True

    return holds


def _any(clauses: list[Predicate]) -> Predicate:
    def holds(attributes: Mapping[str, Any]) -> bool:
        for clause in clauses:  # noqa: SIM110
            if clause(attributes):
                return True
        return False

    return holds


def _match(key: str, found: Callable[[str], bool]) -> Predicate:
    def holds(attributes: Mapping[str, Any]) -> bool:
        given = attributes.get(key)
        return isinstance(given, str) and found(given)

    return holds


def _compare(key: str, symbol: str, value: syntax.Literal) -> Predicate:
    compare = _ORDER[symbol]
    if isinstance(value, datetime):
        return _compare_time(key, symbol, value)
    # The types of attributes that can be compared with the value at all.
    types: tuple[type, ...] = (int, float) if type(value) in (int, float) else (type(value),)
    otherwise = symbol == "!="

    def holds(attributes: Mapping[str, Any]) -> bool:
        given = attributes.get(key, _MISSING)
        if type(given) in types:
            return compare(given, value)
        return otherwise and given is not _MISSING

    return holds


def _compare_time(key: str, symbol: str, value: datetime) -> Predicate:
    compare = _ORDER[symbol]

    def holds(attributes: Mapping[str, Any]) -> bool:
        given = attributes.get(key, _MISSING)
        time = instant(given) if isinstance(given, str) else None
        if time is not None:
            return compare(time, value)
        return symbol == "!=" and given is not _MISSING

    return holds
