"""Hypothesis strategies for distributions: uneven, coprime, empty, more ranks than indices."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Replicated

shapes = st.lists(st.integers(0, 12), min_size=0, max_size=4).map(tuple)


@st.composite
def kinds(draw, extent, ranks):
    match draw(st.sampled_from(["block", "block-cyclic", "cyclic", "irregular", "replicated"])):
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


@st.composite
def distributions(draw, shape, most_ranks=12):
    grid = []
    for _ in shape:
        grid.append(draw(st.integers(1, max(1, min(5, most_ranks // math.prod(grid))))))
    axes = [draw(kinds(n, p)) for n, p in zip(shape, grid, strict=True)]
    order = draw(st.one_of(st.sampled_from(["C", "F"]), st.permutations(range(len(shape)))))
    return Distribution(shape, grid, axes, order if isinstance(order, str) else tuple(order))


@st.composite
def pairs(draw, shapes=shapes):
    """Two distributions of one shape."""
    shape = draw(shapes)
    return draw(distributions(shape)), draw(distributions(shape))
