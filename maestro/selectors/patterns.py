"""Regular expressions that take time linear in the text, whatever the pattern.

Selectors come from any app and are tried in the pool manager, so no pattern may stall it: RE2 has
no backtracking, and thus neither look-around nor back-references.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

__all__ = ["LARGEST", "compiled", "searching"]

#: Instructions that a compiled pattern may have; each costs time for each character of the text.
LARGEST = 2000


@lru_cache(maxsize=1024)
def compiled(pattern: str, ignore_case: bool = False) -> Any:
    """The pattern, compiled by RE2.

    Raises
    ------
    ValueError
        If it is none, saying why.
    """
    import re2  # only where a selector or a schema has a pattern

    options = re2.Options()
    options.log_errors = False  # RE2 would write to the process's standard error
    options.never_capture = True
    options.case_sensitive = not ignore_case
    try:
        regex = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "it is none"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(text) from None
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no character") from None
    if regex.programsize > LARGEST:
        raise ValueError(
            f"it is too large: {regex.programsize} instructions, expected {LARGEST} at most"
        )
    return regex


def searching(pattern: str, ignore_case: bool = False) -> Callable[[str], bool]:
    """A function that says whether the pattern is found anywhere in a text.

    Examples
    --------
    >>> searching("^t[0-9]+m$", ignore_case=True)("T2M")
    True
    """
    search = compiled(pattern, ignore_case).search

    def found(text: str) -> bool:
        try:
            return search(text) is not None
        except UnicodeEncodeError:  # half of a surrogate pair: no text, so no pattern is in it
            return False

    return found
