"""What a selector says, as values.

A comparison is false wherever the CDO has no such attribute, whatever the operator; values of
different types (number, string, true or false, anything else) are unequal and have no order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

__all__ = ["All", "Any", "Clause", "Compare", "Has", "Literal", "Match", "Not"]

#: What an attribute can be compared with. A datetime is a point in time, in UTC.
Literal: TypeAlias = bool | int | float | str | datetime


@dataclass(frozen=True)
class All:
    """``(and ...)``: all of the clauses hold."""

    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return f"(and {' '.join(map(str, self.clauses))})"


@dataclass(frozen=True)
class Any:
    """``(or ...)``: one of the clauses holds, or more."""

    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return f"(or {' '.join(map(str, self.clauses))})"


@dataclass(frozen=True)
class Not:
    """``(not ...)``: the clause does not hold."""

    clause: Clause

    def __str__(self) -> str:
        return f"(not {self.clause})"


@dataclass(frozen=True)
class Has:
    """``(has key)``: the attribute is set."""

    key: str

    def __str__(self) -> str:
        return f"(has {self.key})"


@dataclass(frozen=True)
class Compare:
    """``(key operator value)``, with one of the operators ``= != < <= > >=``."""

    key: str
    operator: str
    value: Literal

    def __str__(self) -> str:
        return f"({self.key} {self.operator} {_spelt(self.value)})"


@dataclass(frozen=True)
class Match:
    """``(key ~= pattern)``: somewhere in a string attribute; ``~=i`` whatever the case."""

    key: str
    pattern: str
    ignore_case: bool = False

    def __str__(self) -> str:
        return f"({self.key} {'~=i' if self.ignore_case else '~='} {_spelt(self.pattern)})"


Clause: TypeAlias = All | Any | Not | Has | Compare | Match


def _spelt(value: Literal) -> str:
    """The literal as the grammar reads it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
    return repr(value)
