"""What a plan costs: bytes kept and moved, messages, memory; from the axes, not from every pair."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from layouts import overlay
from layouts.cuts import Int64, Whole
from layouts.distribution import Distribution
from layouts.incoming import copy_coordinate
from layouts.numbers import as_count
from layouts.orders import Tiled

__all__ = ["Cost"]


@dataclass(frozen=True)
class Cost:
    """The figures of a plan, in bytes unless they say otherwise.

    Attributes
    ----------
    source, target : Distribution
        From where to where.
    itemsize : int
        Bytes per element that the figures are for.
    kept : int
        What every rank already holds of its own new part.
    moved : int
        What goes from one rank to another.
    messages : int
        Number of pairs of different ranks of which one gives the other anything.
    largest : int
        The largest of these messages.
    peak : int
        The most that any rank holds at once: its source part and its target part, what pads
        their tiles included.
    """

    source: Distribution
    target: Distribution
    itemsize: int
    kept: int
    moved: int
    messages: int
    largest: int
    peak: int

    @classmethod
    def of(cls, source: Distribution, target: Distribution, itemsize: int) -> Cost:
        """Work out the figures in O(target ranks x axes) steps and memory."""
        itemsize = as_count(itemsize, "itemsize")
        ranks = np.arange(target.size)
        axes = [_axis(source, target, axis, ranks) for axis in range(source.ndim)]

        own = ranks < source.size
        kept = np.where(own, _product([a.own for a in axes], ranks), 0)
        senders = _product([a.senders for a in axes], ranks)
        best = _product([a.most for a in axes], ranks)
        # Where the best sender is the rank itself, the best other one differs on one axis.
        second = np.zeros_like(best)
        for axis in range(len(axes)):
            most = [a.next_most if k == axis else a.most for k, a in enumerate(axes)]
            second = np.maximum(second, _product(most, ranks))
        itself = own & np.all([a.most_is_own for a in axes], axis=0)
        memory = _memory_sizes(source), _memory_sizes(target)
        together = np.zeros(max(map(len, memory)), np.int64)
        for sizes in memory:
            together[: len(sizes)] += sizes
        return cls(
            source,
            target,
            itemsize,
            kept=int(kept.sum()) * itemsize,
            moved=int(_sizes([cut.counts for cut in target.cuts]).sum() - kept.sum()) * itemsize,
            messages=int(senders.sum() - np.count_nonzero(kept)),
            largest=int(np.where(itself, second, best).max()) * itemsize,
            peak=int(together.max()) * itemsize,
        )

    def __str__(self) -> str:
        total = self.kept + self.moved
        share = f" ({self.kept / total:.0%} of {_bytes(total)})" if total else ""
        rows = (
            ("from", str(self.source)),
            ("to", str(self.target)),
            ("kept", f"{_bytes(self.kept)}{share}"),
            ("moved", f"{_bytes(self.moved)} in {_plural(self.messages, 'message')}"),
            ("largest message", _bytes(self.largest)),
            ("peak memory", f"{_bytes(self.peak)} per rank (its source and its target part)"),
        )
        return "\n".join(f"{name:<16}{text}" for name, text in rows)


@dataclass(frozen=True)
class _Axis:
    """Per target rank, along one axis, in indices."""

    own: Int64  # what the rank itself would give
    senders: Int64  # how many coordinates give anything
    most: Int64  # what the best giver gives
    next_most: Int64  # what the second best gives
    most_is_own: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def _axis(source: Distribution, target: Distribution, axis: int, ranks: Int64) -> _Axis:
    mine = np.unravel_index(ranks, target.grid)[axis]
    as_source = copy_coordinate(source, axis, ranks)
    cut = source.cuts[axis]
    if isinstance(cut, Whole):  # one copy is read, the rank's own where it has one
        held = target.cuts[axis].counts[mine]
        return _Axis(held, np.minimum(held, 1), held, np.zeros_like(held), held >= 0)
    shared = overlay.shared(cut, target.cuts[axis])
    rising = np.sort(shared, axis=0)
    most = rising[-1]
    second = rising[-2] if cut.ranks > 1 else np.zeros_like(most)
    own = shared[as_source, mine]
    return _Axis(
        own,
        np.count_nonzero(shared, axis=0)[mine],
        most[mine],
        second[mine],
        own == most[mine],
    )


def _product(factors: list[Int64], ranks: Int64) -> Int64:
    result = np.ones(len(ranks), np.int64)
    for factor in factors:
        result = result * factor
    return result


def _sizes(counts: list[Int64]) -> Int64:
    """Elements of every rank's part, whose extents are given axis by axis and coordinate."""
    result = np.ones(1, np.int64)
    for axis in counts:
        result = np.multiply.outer(result, axis).ravel()
    return result


def _memory_sizes(distribution: Distribution) -> Int64:
    """Elements that every rank's part takes in memory, padding included."""
    counts = [cut.counts for cut in distribution.cuts]
    if isinstance(distribution.order, Tiled):
        counts = [-(-c // t) * t for c, t in zip(counts, distribution.order.tiles, strict=True)]
    return _sizes(counts)


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _bytes(number: int) -> str:
    """A number of bytes in binary units, as people write them."""
    if number < 1024:
        return f"{number} B"
    power = min(int(math.log2(number)) // 10, 6)
    return f"{number / 1024**power:.1f} {' KMGTPE'[power]}iB"
