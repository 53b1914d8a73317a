"""Hypothesis strategies for distributions: uneven, coprime, empty, more ranks than indices."""

from __future__ import annotations

import math
from functools import cache

from hypothesis import strategies as st

from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Replicated, Tiled

shapes = st.lists(st.integers(0, 12), min_size=0, max_size=4).map(tuple)


# Strategies are made once for each of their arguments: to make them, and for Hypothesis to look at
# them, took half of the time of the tests that draw from them.

KINDS = st.sampled_from(["block", "block-cyclic", "cyclic", "irregular", "replicated"])


@cache
@st.composite
def kinds(draw, extent, ranks):
    match draw(KINDS):
        case "block":
            return Block()
        case "block-cyclic":
            return BlockCyclic(draw(st.integers(1, 9)))
        case "cyclic":
            return Cyclic()
        case "irregular":
            cuts = draw(st.lists(st.integers(0, extent), min_size=ranks - 1, max_size=ranks - 1))
            return Irregular([0, *sorted(cuts), extent])
        case _:
            return Replicated()


@cache
def plain_orders(ndim):
    return st.one_of(st.sampled_from(["C", "F"]), st.permutations(range(ndim)).map(tuple))


@cache
def tiled(ndim, longest=5):
    """Tiles of any extents, elements and tiles in any order."""
    tiles = st.lists(st.integers(1, longest), min_size=ndim, max_size=ndim)
    return st.builds(Tiled, tiles, plain_orders(ndim), plain_orders(ndim))


@cache
def orders(ndim):
    return st.one_of(plain_orders(ndim), tiled(ndim))


@st.composite
def distributions(draw, shape, most_ranks=12, orders=plain_orders):
    grid = []
    for _ in shape:
        grid.append(draw(st.integers(1, max(1, min(5, most_ranks // math.prod(grid))))))
    axes = [draw(kinds(n, p)) for n, p in zip(shape, grid, strict=True)]
    return Distribution(shape, grid, axes, draw(orders(len(shape))))


@st.composite
def pairs(draw, shapes=shapes):
    """Two distributions of one shape."""
    shape = draw(shapes)
    return draw(distributions(shape, orders=orders)), draw(distributions(shape, orders=orders))
