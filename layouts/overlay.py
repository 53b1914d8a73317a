"""Two cuts of one axis laid over each other: the pieces, and how many indices each pair shares.

A piece is a longest run of indices with one source owner, one target owner, contiguous in both
parts::

    source: block-cyclic 2 over 2      0 0 1 1 0 0 1 1 0 0 1 1
    target: block over 3               0 0 0 0 1 1 1 1 2 2 2 2
    pieces (source->target)            0->0 1->0 0->1 1->1 0->2 1->2

Between two round-robin cuts the pattern repeats after ``lcm(b*P, c*Q)`` indices; between one of
them and a single interval after the one's own period. So the pieces of a pair are kept as those of
one period with their steps, whatever the extent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from kernels import Pieces
from layouts.cuts import Cut, Int64, Whole

__all__ = ["between", "senders", "shared"]

#: Counts held at once while tallying: so many of int64 that a few arrays of them stay below 5 MB.
_BATCH = 1 << 17


def between(source: Cut, target: Cut, s: int, t: int) -> Pieces:
    """The pieces that source coordinate ``s`` has for target coordinate ``t``, in closed form."""
    one, other = source.span(s), target.span(t)
    if one is not None and other is not None:  # two intervals share at most one
        low, high = max(one[0], other[0]), min(one[1], other[1])
        if low >= high:
            return Pieces.whole(0)
        return Pieces.explicit([low - one[0]], [low - other[0]], [high - low])
    low, high, period = _window(source, target, one, other)
    stop = min(high, low + period)
    starts, lengths = _intersection(source.runs(s, low, stop), target.runs(t, low, stop))
    here, there = np.array(s, np.int64), np.array(t, np.int64)
    offsets = source.count_below(starts, here), target.count_below(starts, there)
    if not len(starts) or stop == high:
        return Pieces.explicit(*offsets, lengths)
    rounds, rest = divmod(high - low, period)
    tail = int(np.searchsorted(starts - low, rest))  # pieces that begin in the last, short round
    last = int(lengths[-1])
    if tail:
        last = min(int(lengths[tail - 1]), rest - int(starts[tail - 1] - low))
    ends = np.array([low, stop], np.int64)
    steps = [cut.count_below(ends, c) for cut, c in ((source, here), (target, there))]
    return Pieces(
        source=offsets[0],
        target=offsets[1],
        length=lengths,
        count=rounds * len(starts) + tail,
        source_step=int(steps[0][1] - steps[0][0]),
        target_step=int(steps[1][1] - steps[1][0]),
        last=last,
    )


def senders(source: Cut, target: Cut, t: int) -> Int64:
    """How many indices each source coordinate shares with target coordinate ``t``.

    Of a replicated source every coordinate could serve all that ``t`` holds, and says so.

    Returns
    -------
    int64 array, shape (source.ranks,)
    """
    if isinstance(source, Whole):
        return np.full(source.ranks, target.count(t))
    if isinstance(target, Whole):
        return source.counts

    def below(stop: int) -> Int64:
        starts, stops = target.runs(t, 0, stop)
        if not len(starts):
            return np.zeros(source.ranks, np.int64)
        # The cheapest of three: count below the ends of the target's runs, cut these runs at the
        # edges of the source's blocks, or count below all of those edges.
        first, last = source.block_at(starts), source.block_at(stops - 1)
        by_runs, by_cuts = len(starts) * source.ranks, int((last - first).sum()) + len(starts)
        if source.blocks(stop) < min(by_runs, by_cuts):
            return _tally_blocks(source, target, np.array([t]), stop).ravel()
        if by_cuts <= by_runs:
            return _tally_cuts(source, starts, stops, first, last)
        everyone = np.arange(source.ranks)
        return _tally(starts, stops, np.zeros_like(starts), source, everyone, rows=1).ravel()

    return _over_rounds(source, target, below)


def shared(source: Cut, target: Cut) -> Int64:
    """How many indices each source coordinate shares with each target coordinate.

    Returns
    -------
    int64 array, shape (source.ranks, target.ranks)
        Of a replicated source, each row says what that copy could serve.
    """
    if isinstance(source, Whole):
        return np.tile(target.counts, (source.ranks, 1))
    if isinstance(target, Whole):
        return np.tile(source.counts[:, np.newaxis], target.ranks)

    def below(stop: int) -> Int64:
        # The cheapest of three: count below the edges of either cut's blocks, or walk the pieces.
        by_source = source.blocks(stop) * target.ranks
        by_target = target.blocks(stop) * source.ranks
        by_pieces = source.blocks(stop) + target.blocks(stop)
        if by_pieces <= min(by_source, by_target):
            return _tally_pieces(source, target, stop)
        if by_source <= by_target:
            return _tally_blocks(source, target, np.arange(target.ranks), stop)
        return _tally_blocks(target, source, np.arange(source.ranks), stop).T

    return _over_rounds(source, target, below)


def _window(
    source: Cut, target: Cut, one: tuple[int, int] | None, other: tuple[int, int] | None
) -> tuple[int, int, int]:
    """Where a pair can share anything, low and high, and the period of its pieces from low on.

    ``one`` and ``other`` are the intervals that source and target hold; at most one is not None.
    """
    if one is not None:
        return *one, target.period
    if other is not None:
        return *other, source.period
    return 0, source.extent, math.lcm(source.period, target.period)


def _intersection(one: tuple[Int64, Int64], other: tuple[Int64, Int64]) -> tuple[Int64, Int64]:
    """Starts and lengths of what two rising lists of disjoint, non-empty intervals share."""
    first = np.searchsorted(other[1], one[0], side="right")
    last = np.searchsorted(other[0], one[1], side="left")
    partners = np.maximum(last - first, 0)
    mine = np.repeat(np.arange(len(partners)), partners)
    theirs = np.arange(partners.sum()) + np.repeat(
        first - (np.cumsum(partners) - partners), partners
    )
    starts = np.maximum(one[0][mine], other[0][theirs])
    return starts, np.minimum(one[1][mine], other[1][theirs]) - starts


def _over_rounds(source: Cut, target: Cut, below: Callable[[int], Int64]) -> Int64:
    """Extend a count over ``[0, stop)`` to the whole axis, by the period of the two cuts."""
    period = math.lcm(source.period, target.period)
    if period >= source.extent:
        return below(source.extent)
    rounds, rest = divmod(source.extent, period)
    return rounds * below(period) + below(rest)


def _tally_pieces(source: Cut, target: Cut, stop: int) -> Int64:
    """Walk all pieces below ``stop``, a window of them at a time."""
    result = np.zeros(source.ranks * target.ranks, np.int64)
    step = max(1, stop * _BATCH // max(1, source.blocks(stop) + target.blocks(stop)))
    for low in range(0, stop, step):
        high = min(low + step, stop)
        edges = np.concatenate([_edges(source, low, high), _edges(target, low, high)])
        edges.sort(kind="stable")  # merges the two rising runs; equal edges make empty pieces
        lengths = np.diff(edges, append=high)
        np.add.at(result, source.owner(edges) * target.ranks + target.owner(edges), lengths)
    return result.reshape(source.ranks, target.ranks)


def _edges(cut: Cut, low: int, high: int) -> Int64:
    """Where the blocks begin that reach into ``[low, high)``, or ``low``."""
    first, last = cut.block_at(np.array([low, high - 1], np.int64))
    return np.maximum(cut.edge(np.arange(first, last + 1)), low)


def _tally_cuts(cut: Cut, starts: Int64, stops: Int64, first: Int64, last: Int64) -> Int64:
    """Add up, by owner, what each block holds of intervals that reach from first to last block."""
    result = np.zeros(cut.ranks, np.int64)
    pieces = last - first + 1
    ends = np.cumsum(pieces)
    for low, high in _batches(ends):
        some = slice(low, high)
        within = np.arange(pieces[some].sum()) - np.repeat(
            ends[some] - pieces[some] - (ends[low] - pieces[low]), pieces[some]
        )
        blocks = np.repeat(first[some], pieces[some]) + within
        begin = np.maximum(cut.edge(blocks), np.repeat(starts[some], pieces[some]))
        end = np.minimum(cut.edge(blocks + 1), np.repeat(stops[some], pieces[some]))
        np.add.at(result, cut.owner(begin), end - begin)
    return result


def _batches(ends: Int64) -> Iterator[tuple[int, int]]:
    """Ranges of items whose sizes, given by where each ends, come to about one batch."""
    bounds = np.searchsorted(ends, np.arange(_BATCH, ends[-1], _BATCH), side="right")
    points = np.unique([0, *bounds.tolist(), len(ends)])
    yield from pairwise(points.tolist())


def _tally_blocks(walked: Cut, counted: Cut, coordinates: Int64, stop: int) -> Int64:
    """Add up, in the row of each block's owner, what the coordinates hold in it."""
    starts = _edges(walked, 0, stop) if stop else np.empty(0, np.int64)
    stops = np.append(starts[1:], stop)
    owners = walked.owner(starts)
    return _tally(starts, stops, owners, counted, coordinates, rows=walked.ranks)


def _tally(
    starts: Int64, stops: Int64, owners: Int64, counted: Cut, coordinates: Int64, rows: int
) -> Int64:
    """Add up, in the row of each interval's owner, what the coordinates hold in the interval."""
    result = np.zeros((rows, len(coordinates)), np.int64)
    step = max(1, _BATCH // max(1, len(coordinates)))
    for first in range(0, len(starts), step):
        batch = slice(first, first + step)
        held = counted.count_below(stops[batch, np.newaxis], coordinates)
        held -= counted.count_below(starts[batch, np.newaxis], coordinates)
        np.add.at(result, owners[batch], held)
    return result
