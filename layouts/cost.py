"""What a plan costs: bytes kept and moved, messages, memory; from the axes, not from every pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from layouts import overlay
from layouts.cuts import Int64, Whole
from layouts.distribution import Distribution
from layouts.incoming import copy_coordinate
from layouts.numbers import as_count, as_index
from layouts.orders import Tiled

__all__ = ["Cost", "in_bytes", "memory"]


@dataclass(frozen=True)
class Cost:
    """The figures of a plan, in bytes unless they say otherwise.

    A *place* is where ranks live: source rank ``k`` and target rank ``k`` at place ``k``, unless
    the plan is relabelled.

    Attributes
    ----------
    source, target : Distribution
        From where to where.
    itemsize : int
        Bytes per element that the figures are for.
    kept : int
        What every place already holds of its target part.
    moved : int
        What goes from one place to another.
    messages : int
        Number of pairs of different places of which one gives the other anything.
    largest : int
        The largest of these messages.
    peak : int
        The most array bytes that any place holds at once, predicted as the sum of its whole source
        part, its whole target part, and ``buffers``: all three are there while the last piece
        arrives. Counted are elements times itemsize, those that pad tiles included. Not counted are
        the pieces of the plan, what memory is rounded up to (pages, segments), copies that a user
        makes, and everything that is no array: measure what the plan adds to a process that holds
        nothing else.
    peak_place : int
        Where that is; the first of several.
    peak_source, peak_target, buffers : int
        The three terms of `peak`.
    relabelled : int or None
        Number of target ranks that live elsewhere than at the place of their number; None if the
        plan is not relabelled.
    moved_before : int
        What would move without relabelling; `moved` if the plan is not relabelled.
    """

    source: Distribution
    target: Distribution
    itemsize: int
    kept: int
    moved: int
    messages: int
    largest: int
    peak: int
    peak_place: int
    peak_source: int
    peak_target: int
    buffers: int
    relabelled: int | None
    moved_before: int

    @classmethod
    def of(
        cls,
        source: Distribution,
        target: Distribution,
        itemsize: int,
        terms: Int64,
        relabelled: Sequence[int] | None = None,
    ) -> Cost:
        """Work out the figures in O(target ranks x axes) steps and memory.

        Parameters
        ----------
        source, target : Distribution
            Of one shape: of the whole array, or of the region that is brought.
        itemsize : int
            Bytes per element.
        terms : int64 array
            What is at each place, as of `memory`.
        relabelled : sequence of int, optional
            The place of each target rank, if not that of its number.
        """
        itemsize = as_count(itemsize, "itemsize")
        ranks = np.arange(target.size)
        places = ranks if relabelled is None else np.array(relabelled, np.int64)
        traffic = _Traffic.of(source, target, places)
        total = int(_part_sizes(target).sum()) * itemsize
        kept = before = int(traffic.kept.sum()) * itemsize
        if relabelled is not None:
            before = int(_Traffic.of(source, target, ranks).kept.sum()) * itemsize
        together = terms.sum(axis=0)
        place = int(together.argmax())
        return cls(
            source,
            target,
            itemsize,
            kept=kept,
            moved=total - kept,
            messages=traffic.messages,
            largest=traffic.largest * itemsize,
            peak=int(together[place]),
            peak_place=place,
            peak_source=int(terms[0, place]),
            peak_target=int(terms[1, place]),
            buffers=int(terms[2, place]),
            relabelled=None if relabelled is None else int(np.count_nonzero(places != ranks)),
            moved_before=total - before,
        )

    def __str__(self) -> str:
        total = self.kept + self.moved
        share = f" ({self.kept / total:.0%} of {in_bytes(total)})" if total else ""
        rows = [
            ("from", str(self.source)),
            ("to", str(self.target)),
            ("kept", f"{in_bytes(self.kept)}{share}"),
            ("moved", f"{in_bytes(self.moved)} in {_plural(self.messages, 'message')}"),
            ("largest message", in_bytes(self.largest)),
            ("peak memory", self._peak()),
        ]
        if self.relabelled is not None:
            rows.insert(2, ("relabelled", self._relabelled(self.relabelled)))
        return "\n".join(f"{name:<16}{text}" for name, text in rows)

    def _peak(self) -> str:
        where = "rank" if self.relabelled is None else "place"
        terms = (
            f"source part {in_bytes(self.peak_source)}, target part {in_bytes(self.peak_target)}"
        )
        buffers = f", buffers {in_bytes(self.buffers)}" if self.buffers else ""
        return f"{in_bytes(self.peak)} at {where} {self.peak_place}: {terms}{buffers}"

    def _relabelled(self, elsewhere: int) -> str:
        size = self.target.size
        if not elsewhere:
            return f"none of {_plural(size, 'rank')}: they live at the best places as they are"
        which = "all" if elsewhere == size else f"{elsewhere:,} of"
        live = "live" if elsewhere > 1 else "lives"
        return (
            f"{which} {_plural(size, 'rank')} {live} elsewhere:"
            f" {in_bytes(self.moved)} move, without it {in_bytes(self.moved_before)}"
        )


def memory(
    source: Distribution,
    target: Distribution,
    itemsize: int,
    buffers: int = 0,
    relabelled: Sequence[int] | None = None,
) -> Int64:
    """Array bytes at each place: whole source part, target part, both with padding, and buffers.

    Returns
    -------
    int64 array, shape (3, max(source.size, target.size))
    """
    itemsize, buffers = as_count(itemsize, "itemsize"), as_index(buffers, "buffers")
    terms = np.zeros((3, max(source.size, target.size)), np.int64)
    terms[0, : source.size] = _memory_sizes(source) * itemsize
    where = slice(target.size) if relabelled is None else np.array(relabelled, np.int64)
    terms[1, where] = _memory_sizes(target) * itemsize
    terms[2] = buffers
    return terms


@dataclass(frozen=True)
class _Traffic:
    """What goes where, in elements."""

    kept: Int64  # by each target rank
    messages: int
    largest: int

    @classmethod
    def of(cls, source: Distribution, target: Distribution, places: Int64) -> _Traffic:
        axes = [_axis(source, target, axis, places) for axis in range(source.ndim)]

        own = places < source.size
        kept = np.where(own, _product([a.own for a in axes], places), 0)
        senders = _product([a.senders for a in axes], places)
        best = _product([a.most for a in axes], places)
        # Where the best sender is at the same place, the best other one differs on one axis.
        second = np.zeros_like(best)
        for axis in range(len(axes)):
            most = [a.next_most if k == axis else a.most for k, a in enumerate(axes)]
            second = np.maximum(second, _product(most, places))
        itself = own & np.all([a.most_is_own for a in axes], axis=0)
        return cls(
            kept,
            messages=int(senders.sum() - np.count_nonzero(kept)),
            largest=int(np.where(itself, second, best).max()),
        )


@dataclass(frozen=True)
class _Axis:
    """Per target rank, along one axis, in indices."""

    own: Int64  # what the source rank at its place would give
    senders: Int64  # how many coordinates give anything
    most: Int64  # what the best giver gives
    next_most: Int64  # what the second best gives
    most_is_own: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def _axis(source: Distribution, target: Distribution, axis: int, places: Int64) -> _Axis:
    mine = np.unravel_index(np.arange(target.size), target.grid)[axis]
    as_source = copy_coordinate(source, axis, places)
    cut = source.cuts[axis]
    if isinstance(cut, Whole):  # one copy is read, that of the place where it has one
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


def _part_sizes(distribution: Distribution) -> Int64:
    """Elements of every rank's part."""
    return _sizes([cut.counts for cut in distribution.cuts])


def _memory_sizes(distribution: Distribution) -> Int64:
    """Elements that every rank's part takes in memory, padding included."""
    counts = [cut.counts for cut in distribution.cuts]
    if isinstance(distribution.order, Tiled):
        counts = [-(-c // t) * t for c, t in zip(counts, distribution.order.tiles, strict=True)]
    return _sizes(counts)


def _sizes(counts: list[Int64]) -> Int64:
    """Elements of every rank's part, whose extents are given axis by axis and coordinate."""
    result = np.ones(1, np.int64)
    for axis in counts:
        result = np.multiply.outer(result, axis).ravel()
    return result


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def in_bytes(number: int) -> str:
    """A number of bytes in binary units, as people write them."""
    if number < 1024:
        return f"{number} B"
    power = min(int(math.log2(number)) // 10, 6)
    return f"{number / 1024**power:.1f} {' KMGTPE'[power]}iB"
