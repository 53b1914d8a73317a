"""Distributions as one word, for command lines: shape, grid, axes and order between slashes.

::

    8192x8192/2x2/cyclic64,cyclic64/F     block-cyclic over a grid of 2 x 2, column-major
    8192x8192/4x1                         blocks of rows, row-major
    12x5x7/2x1x3/irregular0:5:12,block,replicated/1-2-0
    8192x8192/tiled64x64                  one rank, in tiles

Axes are ``block``, ``cyclic``, ``cyclicN``, ``irregularB:B:B`` and ``replicated``; ``KIND@S:N`` is
a section from S on of an axis of N. Orders are ``C``, ``F``, the axes from slowest to fastest, and
``tiledTxT``, with ``:ORDER`` for within the tiles and another for between them. What is left out at
the end is one rank, blocks, row-major; the order may follow at once. Without axes: ``scalar``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from layouts.axes import Block, BlockCyclic, Irregular, Kind, Replicated, Section
from layouts.distribution import Distribution
from layouts.orders import AxisOrder, Order, Tiled

__all__ = ["from_text", "to_text"]

_NUMBERS = re.compile(r"\d+(x\d+)*")
_PLAIN_ORDER = re.compile(r"C|F|\d+(-\d+)+")
_TILED = re.compile(
    r"tiled(?P<tiles>(?:\d+(?:x\d+)*)?)(?::(?P<inner>[^:]+)(?::(?P<outer>[^:]+))?)?"
)
_KIND = re.compile(
    r"(?P<name>block|replicated|cyclic(?P<size>\d*)|irregular(?P<bounds>\d+(:\d+)+))"
    r"(?P<sections>(@\d+:\d+)*)"
)
_SCALAR = "scalar"


def from_text(text: str) -> Distribution:
    """Read a distribution.

    Raises
    ------
    ValueError
        If it can't be read, naming the part; or if its parts do not fit each other.

    Examples
    --------
    >>> print(from_text("8192x8192/2x2/cyclic64,block/F"))
    (8192, 8192) over 2x2 ranks: BlockCyclic(64) x Block, order F
    >>> from_text("8x8/2x2/cycle")
    Traceback (most recent call last):
    ...
    ValueError: axes: got 'cycle', expected block, cyclic, cyclicN, irregularB:B:B or replicated
    """
    shape, *parts = text.strip().split("/")
    order = _order(parts.pop()) if parts and _is_order(parts[-1]) else "C"
    if len(parts) > 2:
        raise ValueError(f"order: got {parts[2]!r}, expected C, F, axes such as 1-2-0, or tiledTxT")
    grid = _numbers(parts[0], "grid") if parts else None
    axes = [_kind(word) for word in parts[1].split(",")] if len(parts) == 2 else None
    return Distribution(_numbers(shape, "shape"), grid, axes, order)


def to_text(distribution: Distribution) -> str:
    """Write a distribution, in as few words as it takes.

    Examples
    --------
    >>> to_text(Distribution((12, 5), grid=(3, 1), order="F"))
    '12x5/3x1/F'
    """
    parts = ["x".join(map(str, distribution.shape)) or _SCALAR]
    blocks = all(kind == Block() for kind in distribution.axes)
    if distribution.size > 1 or not blocks:
        parts.append("x".join(map(str, distribution.grid)))
    if not blocks:
        parts.append(",".join(map(_kind_text, distribution.axes)))
    if distribution.order != "C":
        parts.append(_order_text(distribution.order))
    return "/".join(parts)


def _numbers(text: str, name: str) -> list[int]:
    if text == _SCALAR:
        return []
    if not _NUMBERS.fullmatch(text):
        raise ValueError(f"{name}: got {text!r}, expected numbers such as 8x6")
    return [int(word) for word in text.split("x")]


def _kind(word: str) -> Kind:
    found = _KIND.fullmatch(word)
    if found is None:
        raise ValueError(
            f"axes: got {word!r}, expected block, cyclic, cyclicN, irregularB:B:B or replicated"
        )
    kind: Kind
    if found["size"] is not None:
        kind = BlockCyclic(int(found["size"] or 1))
    elif found["bounds"] is not None:
        kind = Irregular(map(int, found["bounds"].split(":")))
    else:
        kind = Block() if found["name"] == "block" else Replicated()
    for section in filter(None, found["sections"].split("@")):
        start, whole = section.split(":")
        kind = Section(kind, int(start), int(whole))
    return kind


def _kind_text(kind: Kind) -> str:
    match kind:
        case BlockCyclic(size=size):
            return "cyclic" if size == 1 else f"cyclic{size}"
        case Irregular(bounds=bounds):
            return f"irregular{':'.join(map(str, bounds))}"
        case Section(kind=inner, start=start, whole=whole):
            return f"{_kind_text(inner)}@{start}:{whole}"
    return type(kind).__name__.lower()


def _is_order(word: str) -> bool:
    return bool(_PLAIN_ORDER.fullmatch(word)) or word.startswith("tiled")


def _order(word: str) -> Order:
    found = _TILED.fullmatch(word)
    if found is not None:
        within, between = (_order(found[name] or "C") for name in ("inner", "outer"))
        if isinstance(within, Tiled) or isinstance(between, Tiled):
            raise ValueError(f"order: got {word!r}, expected C, F or axes within tiles")
        return Tiled(_numbers(found["tiles"] or _SCALAR, "tiles"), within, between)
    if not _PLAIN_ORDER.fullmatch(word):
        raise ValueError(f"order: got {word!r}, expected C, F, axes such as 1-2-0, or tiledTxT")
    return word if word in ("C", "F") else tuple(map(int, word.split("-")))


def _order_text(order: Order) -> str:
    if isinstance(order, str):
        return order
    if isinstance(order, tuple):
        return "-".join(map(str, order))
    within: Callable[[AxisOrder], str] = _order_text
    tiles = f"tiled{'x'.join(map(str, order.tiles))}"
    if order.outer != "C":
        return f"{tiles}:{within(order.inner)}:{within(order.outer)}"
    return tiles if order.inner == "C" else f"{tiles}:{within(order.inner)}"
