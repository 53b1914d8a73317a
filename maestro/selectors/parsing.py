"""From a selector's text to what it says, or to an error that shows where it can't be read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from maestro.errors import SelectorError
from maestro.selectors import syntax
from maestro.selectors.patterns import compiled
from maestro.timestamps import instant

if TYPE_CHECKING:
    from lark import Lark, Token

__all__ = ["DEEPEST", "LONGEST", "parse"]

#: Characters that a selector may have.
LONGEST = 65536
#: Clauses within clauses: evaluation is recursive.
DEEPEST = 100

#: What the grammar's terminals are called in errors.
_WORDS = {
    "LPAR": "'('",
    "RPAR": "')'",
    "KEY": "an attribute",
    "COMPARISON": "one of = != < <= > >=",
    "MATCHING": "~= or ~=i",
    "NUMBER": "a number",
    "TIMESTAMP": "a time",
    "TRUTH": "true or false",
    "STRING": "a quoted string",
    "$END": "the end",
}
_PARENTHESES = re.compile(r"""[()]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", re.DOTALL)
_ESCAPED = re.compile(r"""\\(["'\\])""")
_SHOWN = 60  # characters of a line that are shown on either side of what is wrong


def parse(text: str) -> syntax.Clause:
    """Read a selector.

    Raises
    ------
    SelectorError
        Naming the column, with the line and a caret under it.
    TypeError
        If it is no string.

    Examples
    --------
    >>> parse("(and (has .my.step)(.my.level <= 10))")
    All(clauses=(Has(key='.my.step'), Compare(key='.my.level', operator='<=', value=10)))
    """
    if not isinstance(text, str):
        raise TypeError(f"selector: got {text!r}, expected a string or None")
    if len(text) > LONGEST:
        raise SelectorError(f"selector: {len(text)} characters, expected {LONGEST} at most")
    _refuse_depth(text)
    from lark.exceptions import UnexpectedInput

    try:
        clause: syntax.Clause = _parser().parse(text)  # type: ignore[assignment]
    except UnexpectedInput as error:
        raise _explained(text, error) from None
    except _WrongToken as error:
        raise _error(text, error.token.start_pos or 0, error.reason) from None
    return clause


@cache
def _parser() -> Lark:
    from lark import Lark  # 50 ms, only where somebody selects

    grammar = files("maestro.selectors").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", transformer=_Meaning())


class _WrongToken(Exception):
    """A token that is of the right form and yet means nothing."""

    def __init__(self, token: Token, reason: str) -> None:
        super().__init__(reason)
        self.token = token
        self.reason = reason


class _Meaning:
    """What each rule of the grammar means; called while the text is parsed, innermost first."""

    def all_of(self, found: list[Any]) -> syntax.Clause:
        return syntax.All(tuple(found))

    def any_of(self, found: list[Any]) -> syntax.Clause:
        return syntax.Any(tuple(found))

    def none_of(self, found: list[Any]) -> syntax.Clause:
        return syntax.Not(found[0])

    def has(self, found: list[Any]) -> syntax.Clause:
        return syntax.Has(str(found[0]))

    def comparison(self, found: list[Any]) -> syntax.Clause:
        return syntax.Compare(str(found[0]), str(found[1]), found[2])

    def matching(self, found: list[Any]) -> syntax.Clause:
        key, operator, token = found
        pattern, ignore_case = _unquoted(token), operator == "~=i"
        try:
            compiled(pattern, ignore_case)
        except ValueError as error:
            raise _WrongToken(token, f"no regular expression: {error}") from None
        return syntax.Match(str(key), pattern, ignore_case)

    def number(self, found: list[Any]) -> float:
        token = found[0]
        try:
            value: float = int(token)
        except ValueError:
            value = float(token)
        if not math.isfinite(value):
            raise _WrongToken(token, "a number too large for a double")
        return value

    def string(self, found: list[Any]) -> str:
        return _unquoted(found[0])

    def truth(self, found: list[Any]) -> bool:
        return bool(found[0] == "true")

    def timestamp(self, found: list[Any]) -> object:
        time = instant(found[0])
        if time is None:
            raise _WrongToken(found[0], f"there is no time {found[0]}")
        return time


def _unquoted(token: Token) -> str:
    """A backslash before a quote or a backslash is dropped; before anything else it stays."""
    return _ESCAPED.sub(r"\1", token[1:-1])


def _depths(text: str) -> Iterator[tuple[int, int]]:
    """Every parenthesis outside of strings: its place, and how deep it is after it."""
    depth = 0
    for found in _PARENTHESES.finditer(text):
        depth += {"(": 1, ")": -1}.get(found.group(), 0)
        yield found.start(), depth


def _refuse_depth(text: str) -> None:
    for position, depth in _depths(text):
        if depth > DEEPEST:
            raise _error(text, position, f"more than {DEEPEST} clauses within each other")


def _explained(text: str, error: Any) -> SelectorError:
    """What lark met, in the words of whoever wrote the selector."""
    from lark.exceptions import UnexpectedToken

    if isinstance(error, UnexpectedToken):
        expected, ended = error.expected, error.token.type == "$END"
        position = len(text) if ended else error.token.start_pos or 0
        given = "the end" if ended else repr(str(error.token))
    else:
        expected, position = error.allowed, error.pos_in_stream
        given = repr(text[position])
    if given[:1] + given[1:2] in ("'\"", "\"'"):
        given += ", of a string that is not closed"
    words = [word for terminal, word in _WORDS.items() if terminal in (expected or ())]
    before = [depth for place, depth in _depths(text) if place < position]
    if before and before[-1] == 0:  # lark names what could follow inside of a clause
        words = ["the end"]
    elif text[:position].rstrip().endswith("("):
        words = ["and", "or", "not", "has", "an attribute"]
    return _error(text, position, f"got {given}, expected {_listed(words)}")


def _listed(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _error(text: str, position: int, reason: str) -> SelectorError:
    """The reason with the line and a caret under the place."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    line, column = text[start : end if end >= 0 else len(text)], position - start
    shown_from = max(0, column - _SHOWN)
    shown = line[shown_from : column + _SHOWN]
    shown = "".join(c if c.isprintable() else " " for c in shown)
    where = f"line {text.count(chr(10), 0, position) + 1}, " if "\n" in text else ""
    caret = " " * (column - shown_from) + "^"
    return SelectorError(f"selector: {where}column {column + 1}: {reason}\n  {shown}\n  {caret}")
