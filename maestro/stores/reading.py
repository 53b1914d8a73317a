"""Parts that live in a store: a way that bytes take like any other, for whoever demands them.

What is read is what the pieces need, as far as the bytes lie in the store as they do in memory: of
such an object the rows from the first to the last, straight to where they are wanted if they lie
there alike. Of another, all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import kernels
from kernels import Pieces
from layouts import Distribution
from layouts.orders import slowest_first
from layouts.tiled import AnyArray, move
from maestro.errors import StoreError
from maestro.locations import Location
from maestro.stores.datasets import Variable, is_file
from maestro.stores.store import open_store
from maestro.stores.stored import StoredArray
from maestro.transport.payload import as_part, box_bytes

__all__ = ["Readable", "fill", "located"]

#: What can be read object by object.
Readable: TypeAlias = StoredArray | Variable

#: One target rank's share of an object: rank, its part, and the pieces.
Wanted: TypeAlias = tuple[int, AnyArray, Sequence[Pieces]]


def located(location: Location, layout: Distribution, dtype: np.dtype[Any]) -> Readable:
    """The array at a location, checked to be what is expected there. Blocks.

    Raises
    ------
    StoreError
        If it cannot be opened, or is another one.
    """
    store = open_store(location.store)
    if is_file(store):
        variable = Variable(store, location.path, layout)
        if (variable.shape, variable.dtype) != (layout.shape, dtype):
            raise StoreError(
                f"{variable.name} has shape {variable.shape}, dtype {variable.dtype}, expected"
                f" {layout.shape}, {dtype}"
            )
        return variable
    array = StoredArray.found(store, location.path)
    if location.whole and array.form is not None and array.dtype == f"V{dtype.itemsize}":
        array.form = replace(array.form, dtype=dtype)  # a node does not know what its parts are of
    if array.dtype != dtype or not (location.whole or _alike(array.layout, layout)):
        raise StoreError(
            f"{array.name} is {array.layout}, dtype {array.dtype}, expected {layout}, {dtype}"
        )
    return array


def _alike(one: Distribution, other: Distribution) -> bool:
    """Whether two distributions give the ranks the same indices."""
    return (one.shape, one.grid, one.axes) == (other.shape, other.grid, other.axes)


def fill(
    array: Readable, rank: int, wanted: Sequence[Wanted], empty: Callable[[int], Any]
) -> list[tuple[int, int, float]]:
    """Fill parts with the pieces that they want of one object. Blocks, and is for threads.

    Parameters
    ----------
    array : StoredArray or Variable
        Where it is.
    rank : int
        The object.
    wanted : sequence
        Target ranks, their parts and their pieces.
    empty : callable
        Gives memory, so many bytes.

    Returns
    -------
    list of tuple
        For each target rank, bytes and seconds.

    Raises
    ------
    StoreError
        If it can't be read.
    """
    begun = perf_counter()
    if not _fill_directly(array, rank, wanted):
        source, low = _rows(array, rank, wanted, empty)
        for _, part, pieces in wanted:
            move(part, source, [_from(p, start) for p, start in zip(pieces, low, strict=True)])
    sizes = [
        math.prod(int(n) for n in kernels.shape(pieces)) * part.itemsize
        for _, part, pieces in wanted
    ]
    seconds, total = perf_counter() - begun, max(sum(sizes), 1)
    return [
        (target, size, seconds * size / total)
        for (target, _, _), size in zip(wanted, sizes, strict=True)
    ]


def _rows(
    array: Readable, rank: int, wanted: Sequence[Wanted], empty: Callable[[int], Any]
) -> tuple[AnyArray, list[int]]:
    """What there is of an object from the first index along its slowest axis that is wanted on.

    And where that is, along every axis.
    """
    ndim = array.layout.ndim
    shape, order = list(array.layout.local_shape(rank)), array.plain_order(rank)
    if order is None or not ndim:
        return array.read(rank, empty), [0] * ndim
    axis = slowest_first(order, ndim)[0]
    ends = [pieces[axis].source_extent for _, _, pieces in wanted]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    row = math.prod(shape) // shape[axis] * array.dtype.itemsize
    shape[axis] = high - low
    memory: NDArray[np.uint8] = empty(row * shape[axis])
    array.read_into(rank, memory, low * row)
    start = [low if each == axis else 0 for each in range(ndim)]
    return as_part(memory, shape, array.dtype, order), start


def _from(pieces: Pieces, start: int) -> Pieces:
    return replace(pieces, source=pieces.source - start) if start else pieces


def _fill_directly(array: Readable, rank: int, wanted: Sequence[Wanted]) -> bool:
    """Read what is wanted to where it is wanted, if it lies there as it does in the store."""
    if len(wanted) != 1 or (order := array.plain_order(rank)) is None:
        return False
    _, part, pieces = wanted[0]
    if any(p.count != 1 for p in pieces):
        return False
    shape = array.layout.local_shape(rank)
    offset, inside = 0, False
    for axis in slowest_first(order, len(shape)):
        low, high = pieces[axis].source_extent
        if inside and (low, high) != (0, shape[axis]):
            return False
        inside = inside or high - low > 1
        offset = offset * shape[axis] + low
    place = box_bytes(part, [p.target_extent for p in pieces], order)
    if place is None:
        return False
    array.read_into(rank, place, offset * part.itemsize)
    return True
