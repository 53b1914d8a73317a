"""Zarr: the grid of chunks of an array, or of shards, regular or rectilinear.

There is one rank for each chunk, or for each shard where the array has them: a shard is what must
have a single writer. Chunk ``(i, j, ...)`` is rank ``ravel_multi_index((i, j, ...), grid)`` in C
order. Chunks at the upper edge are clipped to the array; an axis of extent 0, which has no chunks,
has one rank with an empty part.

The metadata form is the ``chunk_grid`` member of a Zarr v3 ``zarr.json``: a regular grid of the
core specification, or the ``rectilinear`` grid of the registered extension. It speaks of shards
where there are any, and says nothing about memory: pass ``order`` as your codecs have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, repeat
from typing import Any, SupportsIndex

from layouts.axes import BlockCyclic, Kind
from layouts.distribution import Distribution
from layouts.foreign.intervals import kind_of, lengths_of, regular
from layouts.numbers import as_count, as_index
from layouts.orders import Order

__all__ = ["from_chunk_grid", "from_regular_grid", "to_chunk_grid", "to_regular_grid"]


def from_regular_grid(
    shape: Sequence[SupportsIndex],
    chunks: Sequence[SupportsIndex],
    shards: Sequence[SupportsIndex] | None = None,
    order: Order | Sequence[int] = "C",
) -> Distribution:
    """The distribution with one rank for each chunk, or each shard, of a Zarr array.

    Parameters
    ----------
    shape, chunks, shards : sequence of int
        As the attributes of a ``zarr.Array``; ``shards`` is None where there are none.
    order : "C", "F" or tuple of int
        How a part lies in memory.

    Returns
    -------
    Distribution
        Every axis ``BlockCyclic`` of its chunk's or shard's length, in one round.

    Raises
    ------
    ValueError
        If a length is below 1, or a shard is not a whole number of chunks.

    Examples
    --------
    >>> print(from_regular_grid((10, 6), (4, 3)))
    (10, 6) over 3x2 ranks: BlockCyclic(4) x BlockCyclic(3), order C
    >>> print(from_regular_grid((10, 6), (4, 3), shards=(8, 6)))
    (10, 6) over 2x1 ranks: BlockCyclic(8) x BlockCyclic(6), order C
    """
    extents = [as_index(n, "shape") for n in shape]
    inner = _sizes(chunks, "chunks", len(extents))
    outer = inner if shards is None else _sizes(shards, "shards", len(extents))
    for axis, (shard, chunk) in enumerate(zip(outer, inner, strict=True)):
        if shard % chunk:
            raise ValueError(
                f"shards[{axis}]: got {shard}, expected a multiple of the chunk length {chunk}"
            )
    axes = [_step(n, size) for n, size in zip(extents, outer, strict=True)]
    return _distribution(extents, axes, order)


def to_regular_grid(distribution: Distribution) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape and the chunk shape of a Zarr array of which each rank's part is one chunk.

    Raises
    ------
    ValueError
        If an axis is replicated, dealt in several rounds, has parts of different lengths before the
        last, or an empty part: a Zarr grid has no empty chunks.

    Examples
    --------
    >>> to_regular_grid(Distribution((10, 6), grid=(4, 2)))
    ((10, 6), (3, 3))
    """
    chunk = []
    for axis in range(distribution.ndim):
        size = _step_of(distribution, axis)
        if size is None:
            raise ValueError(
                f"distribution: axis {axis} is {distribution.axes[axis]!r}, expected parts of one"
                " length but for the last, which may be shorter"
            )
        chunk.append(size)
    return distribution.shape, tuple(chunk)


def from_chunk_grid(
    shape: Sequence[SupportsIndex],
    chunk_grid: Mapping[str, Any],
    order: Order | Sequence[int] = "C",
) -> Distribution:
    """The distribution with one rank for each chunk, or shard, that the metadata speaks of.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array.
    chunk_grid : mapping
        The member ``chunk_grid`` of the array's Zarr v3 metadata, named ``"regular"`` or
        ``"rectilinear"``. Edges of a rectilinear grid that lie outside of the array are left away.
    order : "C", "F" or tuple of int
        How a part lies in memory.

    Raises
    ------
    ValueError, TypeError
        If the metadata are not of that form or do not cover the shape.

    Examples
    --------
    >>> regular = {"name": "regular", "configuration": {"chunk_shape": [4, 3]}}
    >>> print(from_chunk_grid((10, 6), regular))
    (10, 6) over 3x2 ranks: BlockCyclic(4) x BlockCyclic(3), order C
    >>> uneven = {"kind": "inline", "chunk_shapes": [[5, [2, 2], 1], 3]}
    >>> print(from_chunk_grid((10, 6), {"name": "rectilinear", "configuration": uneven}))
    (10, 6) over 4x2 ranks: Irregular([0, 5, 7, 9, 10]) x BlockCyclic(3), order C
    """
    if not isinstance(chunk_grid, Mapping):
        raise TypeError(
            f'chunk_grid: got {chunk_grid!r}, expected {{"name": ..., "configuration": ...}}'
        )
    name, configuration = chunk_grid.get("name"), chunk_grid.get("configuration", {})
    expected = {"regular": {"chunk_shape"}, "rectilinear": {"kind", "chunk_shapes"}}.get(str(name))
    if expected is None:
        raise ValueError(f'chunk_grid: its name is {name!r}, expected "regular" or "rectilinear"')
    if set(configuration) != expected:
        raise ValueError(
            f"chunk_grid: the configuration of this {name} grid has {sorted(configuration)},"
            f" expected {sorted(expected)}"
        )
    if name == "regular":
        return from_regular_grid(shape, configuration["chunk_shape"], order=order)
    if configuration["kind"] != "inline":
        raise ValueError(f'chunk_grid: its kind is {configuration["kind"]!r}, expected "inline"')
    extents = [as_index(n, "shape") for n in shape]
    edges = configuration["chunk_shapes"]
    if len(edges) != len(extents):
        raise ValueError(
            f"chunk_shapes: got {len(edges)} entries, expected {len(extents)}: one for each axis"
        )
    axes = [
        _step(n, as_count(given, f"chunk_shapes[{axis}]"))
        if isinstance(given, SupportsIndex)
        else _explicit(n, given, f"chunk_shapes[{axis}]")
        for axis, (n, given) in enumerate(zip(extents, edges, strict=True))
    ]
    return _distribution(extents, axes, order)


def to_chunk_grid(distribution: Distribution) -> dict[str, Any]:
    """The ``chunk_grid`` metadata of a Zarr array of which each rank's part is one chunk.

    Returns
    -------
    dict
        Ready for JSON: a regular grid wherever there is one, else a rectilinear one, its equal
        neighbours run-length encoded.

    Raises
    ------
    ValueError
        If an axis is replicated, dealt in several rounds, or has an empty part.

    Examples
    --------
    >>> to_chunk_grid(Distribution((10, 6), grid=(4, 2)))
    {'name': 'regular', 'configuration': {'chunk_shape': [3, 3]}}
    >>> d = from_chunk_grid((10,), {"name": "rectilinear", "configuration":
    ...                             {"kind": "inline", "chunk_shapes": [[5, 2, 2, 1]]}})
    >>> to_chunk_grid(d)["configuration"]
    {'kind': 'inline', 'chunk_shapes': [[5, [2, 2], 1]]}
    """
    steps = [_step_of(distribution, axis) for axis in range(distribution.ndim)]
    if None not in steps:
        return {"name": "regular", "configuration": {"chunk_shape": steps}}
    edges = [
        _encoded(lengths_of(distribution, axis)) if step is None else step
        for axis, step in enumerate(steps)
    ]
    return {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": edges}}


def _step(extent: int, size: int) -> tuple[Kind, int]:
    """A regular axis: its kind and its number of ranks."""
    return BlockCyclic(size), max(1, -(-extent // size))


def _step_of(distribution: Distribution, axis: int) -> int | None:
    """The chunk length of a regular axis, None for an irregular one."""
    kind, lengths = distribution.axes[axis], lengths_of(distribution, axis)
    if len(lengths) > 1 and 0 in lengths:
        raise ValueError(
            f"distribution: coordinate {lengths.index(0)} along axis {axis} holds nothing, expected"
            " no empty parts: a Zarr grid has no empty chunks"
        )
    if isinstance(kind, BlockCyclic) and _step(sum(lengths), kind.size)[1] == len(lengths):
        return kind.size  # which the lengths do not tell where the only chunk is clipped
    return regular(lengths)


def _explicit(extent: int, edges: Iterable[Any], name: str) -> tuple[Kind, int]:
    """An axis of the given edges, some run-length encoded, clipped to the extent."""
    lengths: list[int] = []
    left = extent
    for position, edge in enumerate(edges):
        where = f"{name}[{position}]"
        value, times = (edge, 1) if isinstance(edge, SupportsIndex) else _pair(edge, where)
        for length in repeat(as_count(value, where), as_count(times, where)):
            if not left:
                break
            lengths.append(min(length, left))
            left -= lengths[-1]
    if left:
        raise ValueError(f"{name}: its edges sum up to {extent - left}, expected at least {extent}")
    return kind_of(lengths or [0]), max(1, len(lengths))


def _pair(edge: Any, name: str) -> tuple[Any, Any]:
    try:
        value, times = edge
    except (TypeError, ValueError):
        raise ValueError(f"{name}: got {edge!r}, expected a length or [length, times]") from None
    return value, times


def _encoded(lengths: Iterable[int]) -> list[int | list[int]]:
    """The lengths, runs of two and more as ``[length, times]``."""
    runs = [(length, len(list(run))) for length, run in groupby(lengths)]
    return [length if times == 1 else [length, times] for length, times in runs]


def _sizes(sizes: Sequence[SupportsIndex], name: str, ndim: int) -> list[int]:
    given = tuple(sizes)
    if len(given) != ndim:
        raise ValueError(f"{name}: got {len(given)} lengths {given}, expected {ndim}: one per axis")
    return [as_count(size, f"{name}[{axis}]") for axis, size in enumerate(given)]


def _distribution(
    shape: Sequence[int], axes: Sequence[tuple[Kind, int]], order: Order | Sequence[int]
) -> Distribution:
    return Distribution(shape, [ranks for _, ranks in axes], [kind for kind, _ in axes], order)
