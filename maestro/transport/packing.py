"""What goes into which message: the same on both sides, so that no message has to say it.

A stream serves pairs of ranks (target, source), in this order. Each pair's product of pieces is cut
along the target's slowest axis into slabs of bounded size, and neighbours that fit together share a
message::

    pairs      (0, 3)          (0, 4)   (1, 3)  (1, 4)
    slabs      a | b | c       d        e       f
    messages   a   b   c+d              e+f

A slab lies in its message as a small array in the target's order; where that is tiles, in the order
within a tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kernels
from layouts import Plan
from layouts.orders import Order, in_order, slowest_first
from layouts.tiled import AnyArray, TiledArray, move
from maestro.transport.payload import as_bytes, as_part, message_order
from maestro.transport.vectors import Runs

__all__ = ["Slab", "as_it_lies", "messages", "nbytes", "pack", "runs_given", "runs_taken", "unpack"]


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
    way: Plan, pairs: NDArray[np.int64], itemsize: int, chunk: int, skip: int = 0
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
    chunk : int
        Bytes of a message; one element is the least.
    skip : int
        Slabs of the first pair that are not wanted.
    """
    message: list[Slab] = []
    room = chunk
    for slab in _slabs(way, pairs, itemsize, chunk):
        if slab.pair == 0 and slab.number < skip:
            continue
        if message and slab.nbytes > room:
            yield message
            message, room = [], chunk
        message.append(slab)
        room -= slab.nbytes
    if message:
        yield message


def _slabs(way: Plan, pairs: NDArray[np.int64], itemsize: int, chunk: int) -> Iterator[Slab]:
    axes = slowest_first(message_order(way.target.order), len(way.target.shape))
    back = [axes.index(axis) for axis in range(len(axes))]
    limit = max(1, chunk // max(1, itemsize))
    incoming = None
    for pair, (target, source) in enumerate(pairs.tolist()):
        if incoming is None or incoming.rank != target:
            incoming = way.incoming(target)
        pieces = incoming.pieces(source)
        for number, cut in enumerate(kernels.slabs([pieces[axis] for axis in axes], limit)):
            size = math.prod(kernels.shape(cut)) * itemsize
            yield Slab(pair, number, target, source, tuple(cut[k] for k in back), size)


def nbytes(message: Sequence[Slab]) -> int:
    """Bytes of a message."""
    return sum(slab.nbytes for slab in message)


def as_it_lies(message: Sequence[Slab], part: AnyArray, order: Order) -> NDArray[np.uint8] | None:
    """The bytes of a message that lie in the source's part as they are to be sent; a view.

    None where they have to be packed: several slabs, several pieces, gaps, tiles, or another order.
    """
    if len(message) != 1:
        return None
    region = _region(part, message[0].pieces, [axis.source_extent for axis in message[0].pieces])
    order = message_order(order)
    return as_bytes(region, order) if region is not None and in_order(region, order) else None


def runs_given(slab: Slab, part: AnyArray, order: Order, least: int) -> Runs | None:
    """Where a slab's bytes lie in the source's part, in the order in which they are to be sent.

    None where they have to be packed, which is better for runs of fewer bytes than ``least``.
    """
    region = _region(part, slab.pieces, [axis.source_extent for axis in slab.pieces])
    return None if region is None else Runs.of(region, message_order(order), least)


def runs_taken(slab: Slab, part: AnyArray, order: Order, least: int) -> Runs | None:
    """As `runs_given`, in the target's part."""
    region = _region(part, slab.pieces, [axis.target_extent for axis in slab.pieces])
    return None if region is None else Runs.of(region, message_order(order), least)


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
    order: Order,
    memory: NDArray[np.uint8],
) -> None:
    """Fill the memory of a message from the source ranks' parts."""
    offset = 0
    for slab in message:
        part = parts[slab.source]
        buffer = _view(memory, offset, slab, part.dtype, order)
        move(buffer, part, [axis.packed() for axis in slab.pieces], threads=1)
        offset += slab.nbytes


def unpack(
    message: Sequence[Slab],
    parts: Mapping[int, AnyArray],
    order: Order,
    memory: NDArray[np.uint8],
) -> None:
    """Bring a message's bytes to their places in the target ranks' parts."""
    offset = 0
    for slab in message:
        part = parts[slab.target]
        buffer = _view(memory, offset, slab, part.dtype, order)
        move(part, buffer, [axis.unpacked() for axis in slab.pieces], threads=1)
        offset += slab.nbytes


def _view(
    memory: NDArray[np.uint8], offset: int, slab: Slab, dtype: np.dtype[Any], order: Order
) -> NDArray[Any]:
    data = memory[offset : offset + slab.nbytes]
    view: NDArray[Any] = as_part(data, kernels.shape(slab.pieces), dtype, message_order(order))
    return view
