"""The oracle of layouts: owners index by index, parts by fancy indexing. Slow and obvious."""

from __future__ import annotations

import numpy as np

from layouts import (
    Block,
    BlockCyclic,
    Distribution,
    Irregular,
    Replicated,
    Section,
    Tiled,
    TiledArray,
)
from layouts.orders import slowest_first


def holds(kind, extent, ranks, coordinate):
    """The global indices of one axis that a grid coordinate holds, in rising order."""
    match kind:
        case Block():
            size = max(1, -(-extent // ranks))
            return [i for i in range(extent) if i // size == coordinate]
        case BlockCyclic(size=size):
            return [i for i in range(extent) if i // size % ranks == coordinate]
        case Irregular(bounds=bounds):
            return [i for i in range(extent) if bounds[coordinate] <= i < bounds[coordinate + 1]]
        case Replicated():
            return list(range(extent))
        case Section(kind=inner, start=start, whole=whole):
            held = holds(inner, whole, ranks, coordinate)
            return [i - start for i in held if start <= i < start + extent]
    raise TypeError(kind)


def indices(distribution: Distribution, rank: int):
    """Global indices of a rank's part, one list per axis; ranks run through the grid in C order."""
    coordinates = np.argwhere(np.ones(distribution.grid, bool))[rank]
    return [
        holds(kind, n, p, int(c))
        for kind, n, p, c in zip(
            distribution.axes, distribution.shape, distribution.grid, coordinates, strict=True
        )
    ]


def scatter(distribution: Distribution, array):
    """The parts of an array, by rank, whatever their order in memory."""
    ranks = int(np.prod(distribution.grid, dtype=int))
    return [array[np.ix_(*indices(distribution, rank))] for rank in range(ranks)]


def labels(shape):
    """An array in which every element is different and none is zero."""
    return np.arange(1, 1 + int(np.prod(shape, dtype=int)), dtype=np.int64).reshape(shape)


def fill(array, value):
    """Set every element, and all that pads tiles."""
    memory = array.tiles if isinstance(array, TiledArray) else array
    memory[...] = value


def lies_at(shape, order):
    """Where each element of an array lies in its memory, in elements from the first byte."""
    n = len(shape)
    grid = [-(-extent // tile) for extent, tile in zip(shape, order.tiles, strict=True)]
    between, within = slowest_first(order.outer, n), slowest_first(order.inner, n)
    index = np.indices(shape)
    places = np.zeros(shape, int)
    for axis in between:
        places = places * grid[axis] + index[axis] // order.tiles[axis]
    for axis in within:
        places = places * order.tiles[axis] + index[axis] % order.tiles[axis]
    return places, int(np.prod(grid, dtype=int) * np.prod(order.tiles, dtype=int))


def memory_size(distribution: Distribution, rank: int):
    """Elements that a rank's part takes in memory, with what pads its tiles."""
    shape = [len(held) for held in indices(distribution, rank)]
    if isinstance(distribution.order, Tiled):
        return lies_at(shape, distribution.order)[1]
    return int(np.prod(shape, dtype=int))


def matrix(source: Distribution, target: Distribution):
    """Elements that each source rank has which each target rank wants, replicas counted in full."""
    return (holders(source) @ holders(target).T).astype(int)


def holders(distribution: Distribution):
    """Whether each rank has each element: 1 or 0, in a row of all elements for each rank."""
    array = labels(distribution.shape)
    return np.array(
        [np.isin(array, part).ravel() for part in scatter(distribution, array)], dtype=float
    )
