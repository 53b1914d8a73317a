"""The types that schemas know, as yamale validators.

yamale's own, with what the pool needs beyond: numbers of the original's sizes, times as RFC 3339
has them, and patterns that take linear time (yamale's would backtrack).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from yamale import validators as v

from maestro.selectors.patterns import searching
from maestro.timestamps import instant

__all__ = ["TYPES"]

_LARGEST_FLOAT = float.fromhex("0x1.fffffep+127")


def _beginning(pattern: Any, options: dict[str, Any]) -> Callable[[str], bool]:
    """Whether a text begins with what the pattern describes, as yamale's patterns do.

    The options that yamale has for it are taken out of those given.
    """
    if not isinstance(pattern, str):
        raise SyntaxError(f"got the pattern {pattern!r}, expected a string")
    flags = "".join(
        flag
        for option, flag in (("multiline", "m"), ("dotall", "s"), ("ignore_case", "i"))
        if options.get(option)
    )
    try:
        return searching(f"\\A(?{flags}:{pattern})" if flags else f"\\A(?:{pattern})")
    except ValueError as error:
        raise SyntaxError(f"no regular expression: {pattern!r}: {error}") from None


class String(v.String):
    """``str(min, max, matches, equals, starts_with, ends_with, exclude)``."""

    constraints = [c for c in v.String.constraints if c.__name__ != "StringMatches"]  # noqa: RUF012

    def __init__(self, *args: Any, **options: Any) -> None:
        self.pattern = options.pop("matches", None)
        self.begins = None if self.pattern is None else _beginning(self.pattern, options)
        super().__init__(*args, **options)

    def validate(self, value: Any) -> list[str]:
        errors: list[str] = super().validate(value)
        if not errors and self.begins is not None and not self.begins(value):
            errors.append(f"'{value}' does not match {self.pattern!r}")
        return errors


class Regex(v.Validator):
    """``regex("pattern", ...)``: a string that begins as one of the patterns says."""

    tag = "regex"

    def __init__(self, *patterns: Any, **options: Any) -> None:
        self.title = options.pop("name", None) or f"match of {' or '.join(map(repr, patterns))}"
        self.begins = [_beginning(pattern, options) for pattern in patterns]
        super().__init__(**options)

    def _is_valid(self, value: Any) -> bool:
        return isinstance(value, str) and any(begins(value) for begins in self.begins)

    def get_name(self) -> str:
        return str(self.title)


class Integer(v.Integer):
    """``int(min, max)`` of 64 bits."""

    def _is_valid(self, value: Any) -> bool:
        return super()._is_valid(value) and -(2**63) <= value < 2**63


class Unsigned(v.Integer):
    """``uint(min, max)`` of 64 bits."""

    tag = "uint"

    def _is_valid(self, value: Any) -> bool:
        return super()._is_valid(value) and 0 <= value < 2**64


class Double(v.Number):
    """``double(min, max)``."""

    tag = "double"


class Float(v.Number):
    """``float(min, max)``: what a float of 32 bits can hold, if not as precisely."""

    tag = "float"

    def _is_valid(self, value: Any) -> bool:
        return super()._is_valid(value) and (
            not math.isfinite(value) or abs(value) <= _LARGEST_FLOAT
        )


class Timestamp(v.Validator):
    """``timestamp(min, max)``: a string, a time with its offset as in RFC 3339."""

    tag = "timestamp"

    def __init__(self, *args: Any, **options: Any) -> None:
        self.bounds = {key: options.pop(key, None) for key in ("min", "max")}
        super().__init__(*args, **options)
        self.least, self.most = (
            None if text is None else self._bound(text) for text in self.bounds.values()
        )

    @staticmethod
    def _bound(text: Any) -> Any:
        time = instant(text) if isinstance(text, str) else None
        if time is None:
            raise SyntaxError(f"got the bound {text!r}, expected a time as in RFC 3339")
        return time

    def _is_valid(self, value: Any) -> bool:
        time = instant(value) if isinstance(value, str) else None
        if time is None:
            return False
        early = self.least is not None and time < self.least
        late = self.most is not None and time > self.most
        return not (early or late)

    def get_name(self) -> str:
        given = ", ".join(f"{k}={text!r}" for k, text in self.bounds.items() if text is not None)
        return f"timestamp({given}) as in RFC 3339"


#: By the names that schemas use.
TYPES: dict[str, type[v.Validator]] = {
    kind.tag: kind
    for kind in (
        *(String, Regex, Integer, Unsigned, v.Number, Double, Float, Timestamp),
        *(v.Boolean, v.Enum, v.List, v.Map, v.Any, v.Null),
    )
}
