"""Layouts and dtypes in words that msgpack knows, and back; no pickles."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgpack
import numpy as np

from layouts import Distribution
from layouts.orders import Order

__all__ = [
    "REMEMBERED",
    "dtype_from_wire",
    "dtype_to_wire",
    "layout_from_wire",
    "layout_to_wire",
    "whole",
]

#: Layouts and dtypes whose words are remembered: they are said again and again.
REMEMBERED = 256


def layout_to_wire(distribution: Distribution | None) -> dict[str, Any] | None:
    """A distribution in plain words; not to be changed, for others get the same."""
    return None if distribution is None else _layout_words(distribution)


def layout_from_wire(words: Mapping[str, Any]) -> Distribution:
    """The distribution of `layout_to_wire`'s words.

    Raises
    ------
    ValueError, TypeError, KeyError
        If they are none.
    """
    return _layout(msgpack.packb(words, unicode_errors="surrogatepass"))


@lru_cache(maxsize=REMEMBERED)
def _layout_words(distribution: Distribution) -> dict[str, Any]:
    return distribution.to_dict()


@lru_cache(maxsize=REMEMBERED)
def _layout(packed: bytes) -> Distribution:
    """Made once: most of a pool's CDOs lie in a few ways, and each is spoken of many times."""
    words = msgpack.unpackb(packed, unicode_errors="surrogatepass", strict_map_key=False)
    return Distribution.from_dict(words)


@lru_cache(maxsize=REMEMBERED)
def whole(shape: tuple[int, ...], order: Order = "C") -> Distribution:
    """The layout of a whole array; made once, as those that come in words."""
    return Distribution(shape, order=order)


def dtype_to_wire(dtype: np.dtype[Any], name: str) -> str:
    """A dtype in words, from which the very same one can be made again.

    Raises
    ------
    TypeError
        If it holds Python objects or cannot be put in words, naming the CDO.
    """
    if dtype.hasobject:
        raise TypeError(f"CDO {name!r}: dtype {dtype} holds Python objects, expected plain bytes")
    words = _dtype_words(dtype)
    if words is None:
        raise TypeError(f"CDO {name!r}: dtype {dtype} cannot be put in words that NumPy reads back")
    return words


@lru_cache(maxsize=REMEMBERED)
def _dtype_words(dtype: np.dtype[Any]) -> str | None:
    for text in (repr(np.lib.format.dtype_to_descr(dtype)), repr(dtype.name)):
        try:
            if dtype_from_wire(text) == dtype:
                return text
        except (TypeError, ValueError):
            continue
    return None


@lru_cache(maxsize=REMEMBERED)
def dtype_from_wire(text: str) -> np.dtype[Any]:
    """The dtype of `dtype_to_wire`'s words."""
    return np.lib.format.descr_to_dtype(ast.literal_eval(text))
