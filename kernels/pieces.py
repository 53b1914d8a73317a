"""What one axis contributes to a product of pieces, in closed form.

A piece is a longest run of indices that is contiguous both in the source part and in the target
part. Between two block-cyclic axes the pieces repeat, so only one period is kept::

    source part   . a a a . . b b . . a a a . . b b . . a a .       source_step = 9
                    |---|     |-|     |---|     |-|     |-|
    target part     a a a b b . a a a b b . a a                      target_step = 6
                    period 0    period 1    period 2

    source = [1, 6]   target = [0, 3]   length = [3, 2]   count = 5   last = 2

Ten indices or ten billion, the description is the same size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

# Offsets and steps stay below this, so that sums and differences of two never leave int64.
LIMIT = 1 << 61


def _indices(values: npt.ArrayLike, name: str) -> Indices:
    """A one-dimensional int64 array that nobody can write to."""
    given = np.asarray(values)
    if given.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {given.shape}")
    if given.size and given.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, got dtype {given.dtype}")
    if given.size and (int(given.max()) > LIMIT or int(given.min()) < -LIMIT):
        raise ValueError(f"{name} must stay within +-2**61, got {given.min()} to {given.max()}")
    result: Indices = np.ascontiguousarray(given, dtype=np.int64)
    if result.flags.writeable:
        result = result.copy()
        result.flags.writeable = False
    return result


def _integer(value: Any, name: str) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return int(value)


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of one axis between one source part and one target part.

    Piece ``q`` is base piece ``q % nbase`` in period ``q // nbase``. All figures are in indices
    along the axis.

    Parameters
    ----------
    source, target : array of int64, shape (nbase,)
        Offsets of the base pieces in the source part and in the target part.
    length : array of int64, shape (nbase,)
        Lengths of the base pieces, each at least 1.
    count : int
        Number of pieces in all; the last period may hold only the first few base pieces.
    source_step, target_step : int
        Added to the offsets per period.
    last : int
        Length of the last piece, at most that of its base piece; 0 if and only if `count` is 0.
    skip : int
        Indices left out at the front of piece 0. `last` counts as if they were there, so the last
        piece ends where it would without `skip`.

    Raises
    ------
    TypeError
        If something is not an integer.
    ValueError
        If the figures do not describe pieces.

    Examples
    --------
    >>> p = Pieces([1, 6], [0, 3], [3, 2], count=5, source_step=9, target_step=6, last=2)
    >>> p.size
    12
    >>> [part.tolist() for part in p.expand()]
    [[1, 6, 10, 15, 19], [0, 3, 6, 9, 12], [3, 2, 3, 2, 2]]
    """

    source: Indices
    target: Indices
    length: Indices
    count: int
    source_step: int
    target_step: int
    last: int
    skip: int = 0

    def __post_init__(self) -> None:
        for name in ("source", "target", "length"):
            object.__setattr__(self, name, _indices(getattr(self, name), name))
        for name in ("count", "source_step", "target_step", "last", "skip"):
            object.__setattr__(self, name, _integer(getattr(self, name), name))
        self._check()

    def _check(self) -> None:
        bases = self.length.size
        if not self.source.size == self.target.size == bases:
            raise ValueError(
                "source, target and length must be equally long, got "
                f"{self.source.size}, {self.target.size} and {bases}"
            )
        if self.count < 0 or (self.count > 0 and bases == 0):
            raise ValueError(f"count must be 0 to what {bases} base pieces give, got {self.count}")
        if bases and int(self.length.min()) < 1:
            raise ValueError(f"every length must be at least 1, got {self.length.min()}")
        clipped = self.length[(self.count - 1) % bases] if self.count else 0
        if not (self.count > 0) <= self.last <= clipped:
            raise ValueError(
                f"last must be {int(self.count > 0)} to {clipped}, the length of the base piece "
                f"of piece {self.count - 1}, got {self.last}"
            )
        first = 0 if not self.count else self.last if self.count == 1 else int(self.length[0])
        if not 0 <= self.skip < max(first, 1):
            raise ValueError(
                f"skip must leave something of piece 0 ({first} long), got {self.skip}"
            )
        periods = self.count // max(bases, 1) + 1
        longest = int(self.length.max()) * bases if bases else 0
        step = max(abs(self.source_step), abs(self.target_step), longest)
        if periods * step > LIMIT:
            raise ValueError(f"{self.count} pieces with a step of {step} leave the 64-bit range")

    @classmethod
    def whole(cls, n: int) -> Pieces:
        """One piece of `n` indices, at offset 0 on both sides.

        >>> Pieces.whole(7).size, Pieces.whole(0).count
        (7, 0)
        """
        n = _integer(n, "n")
        if n < 0:
            raise ValueError(f"n must be at least 0, got {n}")
        return _whole(n)

    @classmethod
    def explicit(
        cls, source: npt.ArrayLike, target: npt.ArrayLike, length: npt.ArrayLike
    ) -> Pieces:
        """Pieces listed one by one; those of length 0 are dropped.

        >>> Pieces.explicit([4, 9], [0, 2], [2, 3]).size
        5
        """
        lengths = _indices(length, "length")
        sources, targets = _indices(source, "source"), _indices(target, "target")
        if sources.size == targets.size == lengths.size and not lengths.all():
            kept = lengths != 0
            sources, targets, lengths = sources[kept], targets[kept], lengths[kept]
        last = int(lengths[-1]) if lengths.size else 0
        return cls(sources, targets, lengths, lengths.size, 0, 0, last)

    @cached_property
    def size(self) -> int:
        """Number of indices in all the pieces, without expanding them."""
        if self.count == 0:
            return 0
        periods, r = divmod(self.count - 1, self.length.size)
        return periods * int(self._ends[-1]) + self._before(r) + self.last - self.skip

    @cached_property
    def _ends(self) -> Indices:
        """Where each base piece ends, counted in indices from the start of the period."""
        return np.cumsum(self.length)

    def _before(self, r: int) -> int:
        return int(self._ends[r - 1]) if r else 0

    def expand(self) -> tuple[Indices, Indices, Indices]:
        """Offsets in the source, offsets in the target and lengths of all the pieces.

        Takes memory for `count` pieces: for tests and small cases.
        """
        period, r = np.divmod(np.arange(self.count, dtype=np.int64), max(self.length.size, 1))
        source = self.source[r] + period * self.source_step
        target = self.target[r] + period * self.target_step
        length = self.length[r].copy()
        if self.count:
            length[-1] = self.last
            source[0] += self.skip
            target[0] += self.skip
            length[0] -= self.skip
        return source, target, length

    def _locate(self, index: int) -> tuple[int, int]:
        """The piece that holds an index (a position in 0..size), and how far into it."""
        period, rest = divmod(index + self.skip, int(self._ends[-1]))
        r = int(np.searchsorted(self._ends, rest, side="right"))
        return period * self.length.size + r, rest - self._before(r)

    def slice(self, lo: int, hi: int) -> Pieces:
        """The indices `lo` to `hi` (positions in 0..size); costs one period at most.

        >>> p = Pieces([1, 6], [0, 3], [3, 2], count=5, source_step=9, target_step=6, last=2)
        >>> [part.tolist() for part in p.slice(1, 6).expand()]
        [[2, 6, 10], [1, 3, 6], [2, 2, 1]]
        """
        if not 0 <= lo <= hi <= self.size:
            raise ValueError(f"slice must lie within 0 to {self.size}, got {lo} to {hi}")
        if lo == hi:
            return Pieces.whole(0)
        if hi - lo == self.size:
            return self
        if self.count == 1:
            return _run(self.source_extent[0] + lo, self.target_extent[0] + lo, hi - lo)
        first, skip = self._locate(lo)
        end, inside = self._locate(hi - 1)
        count = end - first + 1
        # The period is turned so that it starts with the first piece.
        period, r = np.divmod(
            first + np.arange(min(count, self.length.size), dtype=np.int64), self.length.size
        )
        return _derived(
            self.source[r] + period * self.source_step,
            self.target[r] + period * self.target_step,
            self.length[r],
            count,
            self.source_step,
            self.target_step,
            inside + 1,
            skip,
        )

    def cut(self, parts: int) -> list[Pieces]:
        """At most `parts` slices of nearly equal size, none empty, that together are this axis.

        >>> [p.size for p in Pieces.whole(10).cut(3)]
        [3, 3, 4]
        """
        if _integer(parts, "parts") < 1:
            raise ValueError(f"parts must be at least 1, got {parts}")
        parts = min(parts, self.size)
        bounds = [k * self.size // parts for k in range(parts + 1)] if parts else []
        return [self.slice(lo, hi) for lo, hi in pairwise(bounds)]

    def packed(self) -> Pieces:
        """The same pieces of the source, side by side in the target: how to fill a message.

        >>> [part.tolist() for part in Pieces.explicit([4, 9], [7, 2], [2, 3]).packed().expand()]
        [[4, 9], [0, 2], [2, 3]]
        """
        if self.count == 1:
            return _run(self.source_extent[0], 0, self.size)
        return _derived(
            self.source,
            self._dense,
            self.length,
            self.count,
            self.source_step,
            int(self._ends[-1]) if self.count else 0,
            self.last,
            self.skip,
        )

    def unpacked(self) -> Pieces:
        """The same pieces of the target, side by side in the source: how to empty a message.

        >>> [part.tolist() for part in Pieces.explicit([4, 9], [7, 2], [2, 3]).unpacked().expand()]
        [[0, 2], [7, 2], [2, 3]]
        """
        if self.count == 1:
            return _run(0, self.target_extent[0], self.size)
        return _derived(
            self._dense,
            self.target,
            self.length,
            self.count,
            int(self._ends[-1]) if self.count else 0,
            self.target_step,
            self.last,
            self.skip,
        )

    @property
    def _dense(self) -> Indices:
        dense: Indices = self._ends - self.length - self.skip
        return dense

    @cached_property
    def source_extent(self) -> tuple[int, int]:
        """Lowest index touched in the source part, and highest plus one; (0, 0) if none."""
        return self._extent(self.source, self.source_step)

    @cached_property
    def target_extent(self) -> tuple[int, int]:
        """Lowest index touched in the target part, and highest plus one; (0, 0) if none."""
        return self._extent(self.target, self.target_step)

    def _extent(self, offset: Indices, step: int) -> tuple[int, int]:
        """Offsets are linear in the period, so the ends of each base piece's range decide.

        The first piece (skipped into) and the last (clipped) count on their own.
        """
        if self.count == 0:
            return 0, 0
        if self.count == 1:
            start = int(offset[0])
            return start + self.skip, start + self.last
        bases = self.length.size
        final, r = divmod(self.count - 1, bases)
        end = int(offset[r]) + final * step + self.last
        first = int(offset[0]) + self.skip
        lows, highs = [first, end - self.last], [first + int(self.length[0]) - self.skip, end]
        index = np.arange(bases)
        low = np.where(index == 0, 1, 0)
        high = (self.count - 2 - index) // bases
        kept = low <= high
        if kept.any():
            starts = offset[kept] + np.stack([low[kept], high[kept]]) * step
            lows.append(int(starts.min()))
            highs.append(int((starts + self.length[kept]).max()))
        return min(lows), max(highs)


def _derived(
    source: Indices,
    target: Indices,
    length: Indices,
    count: int,
    source_step: int,
    target_step: int,
    last: int,
    skip: int,
) -> Pieces:
    """Pieces that others imply; to check them again took half of what a small cut takes."""
    made = object.__new__(Pieces)
    for indices in (source, target, length):
        indices.flags.writeable = False
    made.__dict__.update(
        source=source, target=target, length=length, count=count,
        source_step=source_step, target_step=target_step, last=last, skip=skip,
    )  # fmt: skip
    return made


def _run(source: int, target: int, size: int) -> Pieces:
    """One piece; what is asked of every piece is at hand."""
    made = _derived(_one(source), _one(target), _one(size), 1, 0, 0, size, 0)
    made.__dict__.update(
        size=size, source_extent=(source, source + size), target_extent=(target, target + size)
    )
    return made


@lru_cache(maxsize=4096)
def _one(index: int) -> Indices:
    return np.full(1, index, np.int64)


@lru_cache(maxsize=4096)
def _whole(n: int) -> Pieces:
    offset = np.zeros(min(n, 1), np.int64)
    return Pieces(offset, offset, np.full(min(n, 1), n, np.int64), min(n, 1), 0, 0, n)
