"""What goes into which message: the same on both sides, so that no message has to say it.

A stream serves pairs of ranks (target, source), in this order. Each pair's product of pieces is cut
into slabs of bounded size, and neighbours that fit together share a message::

    pairs      (0, 3)          (0, 4)   (1, 3)  (1, 4)
    slabs      a | b | c       d        e       f
    messages   a   b   c+d              e+f

A slab lies in its message as a small array in the order that the request names: the source's, where
that is tiles the order within a tile. So it is the target's side that changes the order: sending
takes longer than receiving (64 MiB between two processes: 21 and 9 ms of CPU, a transposition 10 to
15), and what lies in long runs need not be packed at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kernels
from kernels.moving import move_whole
from layouts import Plan
from layouts.orders import AxisOrder, in_order, slowest_first
from layouts.tiled import AnyArray, TiledArray, move
from maestro.transport.payload import as_bytes, as_part, message_order
from maestro.transport.vectors import Runs

__all__ = [
    "Slab",
    "as_it_lies",
    "messages",
    "nbytes",
    "pack",
    "runs_given",
    "runs_taken",
    "unpack",
]

#: Bytes that a slab's runs have at least, if the part has them: in the source, and in the target.
GIVEN, TAKEN = 1 << 14, 1 << 12

#: Bytes of a slab from which on it is written past the caches into the target's part (transposed,
#: 2.4 to 4 MB each, 61 MiB: 11 ms, not 26).
PAST = 1 << 20


@dataclass(frozen=True)
class Slab:
    """Some of what one source rank has for one target rank.

    Attributes
    ----------
    pair, number : int
        Which of the stream's pairs, and which slab of that.
    target, source : int
        The ranks.
    pieces : tuple of Pieces
        One per axis.
    nbytes : int
        Size in bytes.
    """

    pair: int
    number: int
    target: int
    source: int
    pieces: tuple[kernels.Pieces, ...]
    nbytes: int


def messages(
    way: Plan,
    pairs: NDArray[np.int64],
    itemsize: int,
    order: AxisOrder,
    chunk: int,
    skip: int = 0,
) -> Iterator[list[Slab]]:
    """The slabs of each message, worked out as they are asked for.

    Parameters
    ----------
    way : Plan
        From the source's distribution to the target's.
    pairs : int64 array, shape (n, 2)
        Target rank and source rank of each pair.
    itemsize : int
        Bytes per element.
    order : "C", "F" or tuple of int
        How a slab lies in its message.
    chunk : int
        Bytes of a message; one element is the least.
    skip : int
        Slabs of the first pair that are not wanted.
    """
    message: list[Slab] = []
    room = chunk
    for slab in _slabs(way, pairs, itemsize, order, chunk):
        if slab.pair == 0 and slab.number < skip:
            continue
        if message and slab.nbytes > room:
            yield message
            message, room = [], chunk
        message.append(slab)
        room -= slab.nbytes
    if message:
        yield message


def _slabs(
    way: Plan, pairs: NDArray[np.int64], itemsize: int, order: AxisOrder, chunk: int
) -> Iterator[Slab]:
    ndim = len(way.target.shape)
    given = slowest_first(order, ndim)
    taken = slowest_first(message_order(way.target.order), ndim)
    incoming = None
    for pair, (target, source) in enumerate(pairs.tolist()):
        if incoming is None or incoming.rank != target:
            incoming = way.incoming(target)
        pieces = incoming.pieces(source)
        extents = _extents(kernels.shape(pieces), given, taken, itemsize, chunk)
        cuts = _cuts([pieces[axis] for axis in given], [extents[axis] for axis in given])
        for number, cut in enumerate(cuts):
            slab = tuple(cut[given.index(axis)] for axis in range(ndim))
            size = math.prod(kernels.shape(slab)) * itemsize
            yield Slab(pair, number, target, source, slab, size)


def _extents(
    shape: Sequence[int], given: Sequence[int], taken: Sequence[int], itemsize: int, chunk: int
) -> list[int]:
    """How long slabs are along each axis.

    Long enough for runs in the source that can be sent as they lie, then for runs in the target
    that are worth writing, and from there on as long in the source as the chunk allows.
    """
    extents = [1] * len(shape)
    limit = max(1, chunk // max(1, itemsize))
    for axes, run in ((given, GIVEN), (taken, TAKEN), (given, chunk)):
        least = -(-run // max(1, itemsize))
        for axis in reversed(axes):
            room = limit // math.prod(extents) * extents[axis]
            extents[axis] = max(extents[axis], min(shape[axis], least, room))
            least = -(-least // extents[axis])
            if least == 1:
                break
    return extents


def _cuts(
    pieces: Sequence[kernels.Pieces], extents: Sequence[int]
) -> Iterator[tuple[kernels.Pieces, ...]]:
    """Sub-products of these extents, in C order, made as they are asked for."""
    if not pieces:
        yield ()
        return
    axis, extent = pieces[0], extents[0]
    for low in range(0, axis.size, extent):
        part = axis.slice(low, min(low + extent, axis.size))
        for cut in _cuts(pieces[1:], extents[1:]):
            yield (part, *cut)


def nbytes(message: Sequence[Slab]) -> int:
    """Bytes of a message."""
    return sum(slab.nbytes for slab in message)


def as_it_lies(
    message: Sequence[Slab], part: AnyArray, order: AxisOrder
) -> NDArray[np.uint8] | None:
    """The bytes of a message that lie in the source's part as they are to be sent; a view.

    None where they have to be packed: several slabs, several pieces, gaps, tiles, or another order.
    """
    if len(message) != 1:
        return None
    region = _region(part, message[0].pieces, [axis.source_extent for axis in message[0].pieces])
    return as_bytes(region, order) if region is not None and in_order(region, order) else None


def runs_given(slab: Slab, part: AnyArray, order: AxisOrder, least: int) -> Runs | None:
    """Where a slab's bytes lie in the source's part, in the order in which they are to be sent.

    None where they have to be packed, which is better for runs of fewer bytes than ``least``.
    """
    region = _region(part, slab.pieces, [axis.source_extent for axis in slab.pieces])
    return None if region is None else Runs.of(region, order, least)


def runs_taken(slab: Slab, part: AnyArray, order: AxisOrder, least: int) -> Runs | None:
    """As `runs_given`, in the target's part."""
    region = _region(part, slab.pieces, [axis.target_extent for axis in slab.pieces])
    return None if region is None else Runs.of(region, order, least)


def _region(
    part: AnyArray, pieces: Sequence[kernels.Pieces], extents: Sequence[tuple[int, int]]
) -> NDArray[Any] | None:
    """What a slab is of a part, if that is one region of it; a view."""
    if isinstance(part, TiledArray) or any(axis.count != 1 for axis in pieces):
        return None
    # The ellipsis makes it an array also where there are no axes.
    where: tuple[Any, ...] = tuple(slice(*ends) for ends in extents)
    return part[(*where, ...)]


def pack(
    message: Sequence[Slab],
    parts: Mapping[int, AnyArray],
    order: AxisOrder,
    memory: NDArray[np.uint8],
) -> None:
    """Fill the memory of a message, which is read next, from the source ranks' parts."""
    offset = 0
    for slab in message:
        part = parts[slab.source]
        buffer = _view(memory, offset, slab, part.dtype, order)
        region = _region(part, slab.pieces, [axis.source_extent for axis in slab.pieces])
        if region is None:
            move(buffer, part, [axis.packed() for axis in slab.pieces], threads=1, stream=False)
        else:
            move_whole(buffer, region, 1 if slab.nbytes >= PAST else None, stream=False)
        offset += slab.nbytes


def unpack(
    message: Sequence[Slab],
    parts: Mapping[int, AnyArray],
    order: AxisOrder,
    memory: NDArray[np.uint8],
) -> None:
    """Bring a message's bytes to their places in the target ranks' parts."""
    offset = 0
    for slab in message:
        part = parts[slab.target]
        buffer = _view(memory, offset, slab, part.dtype, order)
        region = _region(part, slab.pieces, [axis.target_extent for axis in slab.pieces])
        past = slab.nbytes >= PAST
        if region is None:
            move(part, buffer, [axis.unpacked() for axis in slab.pieces], threads=1, stream=past)
        else:  # one shape after the other is the same: 64 MiB by 4 MiB take 10 ms, not 14
            move_whole(region, buffer, 1 if past else None, stream=past)
        offset += slab.nbytes


def _view(
    memory: NDArray[np.uint8], offset: int, slab: Slab, dtype: np.dtype[Any], order: AxisOrder
) -> NDArray[Any]:
    data = memory[offset : offset + slab.nbytes]
    view: NDArray[Any] = as_part(data, kernels.shape(slab.pieces), dtype, order)
    return view
