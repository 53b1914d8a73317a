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
from collections.abc import Callable

import numpy as np

from kernels import Pieces
from layouts.cuts import Cut, Int64, Whole

__all__ = ["between", "senders", "shared"]

#: Counts held at once while tallying: 1 Mi of int64, so that no plan needs more than some 30 MB.
_BATCH = 1 << 20


def between(source: Cut, target: Cut, s: int, t: int) -> Pieces:
    """The pieces that source coordinate ``s`` has for target coordinate ``t``, in closed form."""
    low, high, period = _window(source, target, s, t)
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
        if len(starts) * source.ranks < source.blocks(stop):
            everyone = np.arange(source.ranks)
            counts = _tally(starts, stops, np.zeros_like(starts), source, everyone, rows=1)
        else:
            counts = _tally_blocks(source, target, np.array([t]), stop)
        return counts.ravel()

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


def _window(source: Cut, target: Cut, s: int, t: int) -> tuple[int, int, int]:
    """Where the pair can share anything: low, high, and the period of the pieces from low on."""
    one, other = source.span(s), target.span(t)
    if one is not None and other is not None:
        low, high = max(one[0], other[0]), min(one[1], other[1])
        return low, max(low, high), max(high - low, 1)
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
    edges = np.union1d(source.edges(stop), target.edges(stop))
    result = np.zeros((source.ranks, target.ranks), np.int64)
    owners = source.owner(edges), target.owner(edges)
    np.add.at(result, owners, np.diff(edges, append=stop))
    return result


def _tally_blocks(walked: Cut, counted: Cut, coordinates: Int64, stop: int) -> Int64:
    starts = walked.edges(stop)
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
