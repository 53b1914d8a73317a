"""Dask: the chunks of an array, as ``array.chunks`` has them: the lengths along each axis.

There is one rank for each chunk. Block ``(i, j, ...)`` is rank ``ravel_multi_index((i, j, ...),
grid)`` in C order, the order of ``array.to_delayed().ravel()`` as well::

    chunks ((3, 3, 2), (5, 4))        columns 0-4  5-8
                              rows 0-2     0       1
                              rows 3-5     2       3
                              rows 6-7     4       5

An axis whose chunks are all alike but the last, which may be shorter, becomes ``BlockCyclic`` of
that length; any other ``Irregular``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex

from layouts.distribution import Distribution
from layouts.foreign.intervals import kind_of, lengths_of
from layouts.numbers import as_index
from layouts.orders import Order

__all__ = ["from_chunks", "to_chunks"]


def from_chunks(
    chunks: Sequence[Sequence[SupportsIndex]], order: Order | Sequence[int] = "C"
) -> Distribution:
    """The distribution with one rank for each chunk of a Dask array.

    Parameters
    ----------
    chunks : sequence of sequences of int
        Normalized chunks, ``array.chunks``: for each axis the length of each chunk. Empty chunks
        and ``()`` are fine.
    order : "C", "F" or tuple of int
        How a part lies in memory. Dask itself does not say; its own functions make C order.

    Raises
    ------
    ValueError
        If a length is unknown (NaN) or negative, or an axis has no chunks.
    TypeError
        If the chunks are not normalized.

    Examples
    --------
    >>> print(from_chunks(((3, 3, 2), (5, 1, 3))))
    (8, 9) over 3x3 ranks: BlockCyclic(3) x Irregular([0, 5, 6, 9]), order C
    """
    try:
        axes = [tuple(lengths) for lengths in chunks]
    except TypeError:
        raise TypeError(
            f"chunks: got {chunks!r}, expected one tuple of chunk lengths for each axis, as in"
            " array.chunks"
        ) from None
    checked = []
    for axis, lengths in enumerate(axes):
        if not lengths:
            raise ValueError(f"chunks[{axis}]: got (), expected at least one chunk length")
        checked.append([_length(n, f"chunks[{axis}][{i}]") for i, n in enumerate(lengths)])
    return Distribution(
        tuple(sum(lengths) for lengths in checked),
        grid=tuple(len(lengths) for lengths in checked),
        axes=tuple(kind_of(lengths) for lengths in checked),
        order=order,
    )


def to_chunks(distribution: Distribution) -> tuple[tuple[int, ...], ...]:
    """The chunks of a Dask array of which each rank's part is one block.

    Parameters
    ----------
    distribution : Distribution
        One whose coordinates each hold one interval of every axis, in rising order; its order in
        memory is not part of the result.

    Returns
    -------
    tuple of tuples of int
        For each axis the length of each chunk; empty parts are empty chunks.

    Raises
    ------
    ValueError
        If an axis is replicated, or dealt in several rounds.

    Examples
    --------
    >>> to_chunks(Distribution((10, 4), grid=(4, 1)))
    ((3, 3, 3, 1), (4,))
    """
    return tuple(lengths_of(distribution, axis) for axis in range(distribution.ndim))


def _length(value: SupportsIndex, name: str) -> int:
    if value != value:  # NaN is the only one: what Dask puts where it has not computed a length
        raise ValueError(
            f"{name}: got {value}, expected a known length (array.compute_chunk_sizes() finds it)"
        )
    return as_index(value, name)
