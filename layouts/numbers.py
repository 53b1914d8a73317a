"""Checks of the integers that users hand in, with errors that name them."""

from __future__ import annotations

import operator
from typing import SupportsIndex

__all__ = ["as_count", "as_index", "as_rank"]


def as_index(value: SupportsIndex, name: str) -> int:
    """``value`` as a non-negative Python int; TypeError or ValueError naming ``name`` otherwise."""
    if isinstance(value, bool):
        raise TypeError(f"{name}: got {value!r}, expected an integer")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: got {value!r}, expected an integer") from None
    if number < 0:
        raise ValueError(f"{name}: got {number}, expected 0 or more")
    return number


def as_count(value: SupportsIndex, name: str) -> int:
    """``value`` as a positive Python int; TypeError or ValueError naming ``name`` otherwise."""
    number = as_index(value, name)
    if number == 0:
        raise ValueError(f"{name}: got 0, expected 1 or more")
    return number


def as_rank(value: SupportsIndex, ranks: int, name: str = "rank") -> int:
    """``value`` as a rank number in ``[0, ranks)``.

    Raises
    ------
    TypeError
        If it is no integer.
    IndexError
        If it is out of range.
    """
    try:
        number = as_index(value, name)
    except ValueError:
        number = -1
    if not 0 <= number < ranks:
        raise IndexError(f"{name}: got {value}, expected 0 to {ranks - 1} ({ranks} ranks)")
    return number
