"""A plan as a picture, in SVG: who holds what before and after, and who gives whom how much.

Drawn are the two axes that are cut the most, as far as their blocks can be told apart: so the
picture of a plan between millions of ranks takes no longer than that of a small one.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from layouts.cost import in_bytes
from layouts.cuts import Cut, Int64, Whole
from layouts.distribution import Distribution

if TYPE_CHECKING:
    from layouts.plan import Plan

__all__ = ["svg"]

#: Blocks along an axis, and ranks of a side in the matrix, that are drawn at most.
BLOCKS, RANKS = 32, 24

#: How many ranks are named of those that hold copies of a block.
NAMED = 4

SIDE, GAP, TOP = 300.0, 90.0, 64.0  # in pixels: of the two maps, between them, above them
SHADES = (
    *("#88b4d4", "#e3b872", "#8fc28f", "#d99a9a", "#b3a2d3", "#c9b39a"),
    *("#9ad0cf", "#e8d27a", "#a7b7c9", "#d6a5c9", "#b7cf8b", "#c2c2c2"),
)
INK = "#333333"


def svg(plan: Plan, itemsize: int = 8) -> str:
    """Draw a plan; `Plan.picture` is the same.

    Parameters
    ----------
    plan : Plan
        From where to where.
    itemsize : int
        Bytes per element.

    Returns
    -------
    str
        An SVG document.
    """
    source, target = plan.read, plan.target
    axes = _axes(source, target)
    cost = plan.cost(itemsize)
    body = [
        *_map(source, axes, 40, f"source: {_ranks(source)}"),
        _arrow(40 + SIDE, in_bytes(cost.moved)),
        *_map(target, axes, 40 + SIDE + GAP, f"target: {_ranks(target)}"),
    ]
    width, height = 80 + 2 * SIDE + GAP, TOP + SIDE + 70
    if source.size <= RANKS and target.size <= RANKS:
        body += _matrix(plan.matrix(itemsize), width, TOP)
        width += GAP / 2 + SIDE + 40
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
            f' width="{width:g}" height="{height:g}" font-family="sans-serif" font-size="12"'
            f' fill="{INK}">',
            f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
            *body,
            "</svg>",
        ]
    )


def _axes(source: Distribution, target: Distribution) -> list[int]:
    """The two axes that are cut the most, in their order."""
    cuts = [max(pair) for pair in zip(source.grid, target.grid, strict=True)]
    return sorted(sorted(range(len(cuts)), key=lambda axis: -cuts[axis])[:2])


def _end(cut: Cut) -> int:
    """How far an axis is drawn: `BLOCKS` blocks at most."""
    if cut.blocks(cut.extent) <= BLOCKS:
        return cut.extent
    return int(cut.edge(np.array(BLOCKS, np.int64)))


def _map(held: Distribution, axes: list[int], left: float, title: str) -> Iterator[str]:
    """One side: its title, who holds what, and the two axes."""
    yield _text(left + SIDE / 2, TOP - 40, title, weight="bold")
    kinds = " x ".join(repr(held.axes[axis]).removesuffix("()") for axis in axes)
    yield _text(left + SIDE / 2, TOP - 22, f"{kinds or 'scalar'}, order {held.order}")
    strips = [list(_blocks(held.cuts[axis])) for axis in axes]
    while len(strips) < 2:
        strips.insert(0, [(0.0, 1.0, (0,))])
    whole = [axis for axis in range(held.ndim) if axis not in axes]
    for (y, dy, rows), (x, dx, columns) in product(*strips):
        ranks = [_rank(held, axes, (row, column)) for row in rows for column in columns]
        place = left + x * SIDE, TOP + y * SIDE, dx * SIDE, dy * SIDE
        yield _box(*place, SHADES[ranks[0] % len(SHADES)])
        if place[2] >= 16 and place[3] >= 12:
            size = min(13.0, place[3] * 0.8, 1.6 * place[2] / max(2, len(_listed(ranks))))
            middle = place[0] + place[2] / 2, place[1] + place[3] / 2 + size / 3
            yield _text(*middle, _listed(ranks), size=size)
    words = [f"axis {axis}: {_extent(held.cuts[axis])}" for axis in axes]
    if whole:
        words.append(f"at the beginning of axis {', '.join(map(str, whole))}")
    for line, said in enumerate(words):
        yield _text(left + SIDE / 2, TOP + SIDE + 20 + 16 * line, said)


def _extent(cut: Cut) -> str:
    end = _end(cut)
    return f"{cut.extent:,}" if end == cut.extent else f"the first {end:,} of {cut.extent:,}"


def _blocks(cut: Cut) -> Iterator[tuple[float, float, tuple[int, ...]]]:
    """The blocks that are drawn of an axis: begin and length, as shares, and who has them."""
    end = _end(cut)
    count = cut.blocks(end)
    edges = np.minimum(cut.edge(np.arange(count + 1)), end)
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        everyone = tuple(range(min(cut.ranks, NAMED + 1))) if isinstance(cut, Whole) else ()
        if high > low:
            owners = everyone or (int(cut.owner(np.array(low, np.int64))),)
            yield low / end, (high - low) / end, owners


def _rank(held: Distribution, axes: list[int], place: tuple[int, int]) -> int:
    """The rank of these coordinates on the drawn axes, 0 on the others."""
    coordinates = np.zeros(held.ndim, np.int64)
    if axes:
        coordinates[axes] = place[-len(axes) :]
    return int(np.ravel_multi_index(coordinates.tolist(), held.grid)) if held.ndim else 0


def _matrix(matrix: Int64, left: float, top: float) -> Iterator[str]:
    """Bytes from each source rank to each target rank, the darker the more."""
    rows, columns = matrix.shape
    cell = min(SIDE / rows, SIDE / columns, 60.0)
    most = max(1, int(matrix.max(initial=0)))
    left += GAP / 2
    yield _text(left + columns * cell / 2, top - 40, "bytes, source to target", weight="bold")
    for (row, column), value in np.ndenumerate(matrix):
        if value:
            shade = f"rgb({', '.join(str(int(250 - c * value / most)) for c in (150, 100, 60))})"
            yield _box(left + column * cell, top + row * cell, cell, cell, shade)
            if cell >= 40:
                middle = left + (column + 0.5) * cell, top + (row + 0.5) * cell + 3
                yield _text(*middle, in_bytes(int(value)), size=9)
    if cell >= 12:
        for row in range(rows):
            yield _text(left - 10, top + (row + 0.5) * cell + 4, str(row))
        for column in range(columns):
            yield _text(left + (column + 0.5) * cell, top - 8, str(column))
    yield _box(left, top, columns * cell, rows * cell, "none")


def _arrow(left: float, moved: str) -> str:
    x, y = left + 14, TOP + SIDE / 2
    end = left + GAP - 14
    return (
        f'<path d="M{x:g} {y - 7:g}H{end - 18:g}v-11L{end:g} {y:g}l-18 18v-11H{x:g}z"'
        f' fill="{INK}"/>'
        + _text((x + end) / 2, y - 28, moved)
        + _text((x + end) / 2, y + 34, "moves")
    )


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}"'
        f' stroke="{INK}" stroke-width="0.5"/>'
    )


def _text(x: float, y: float, words: str, size: float = 12.0, weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}" font-weight="{weight}"'
        f' text-anchor="middle">{escape(words)}</text>'
    )


def _listed(ranks: list[int]) -> str:
    return ",".join(map(str, ranks)) if len(ranks) <= NAMED else f"{ranks[0]},{ranks[1]}…"


def _ranks(held: Distribution) -> str:
    shape = " x ".join(map(str, held.shape)) or "scalar"
    return f"{shape} over {held.size:,} rank{'' if held.size == 1 else 's'}"
