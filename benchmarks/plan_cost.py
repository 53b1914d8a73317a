"""What plans cost, against the bars that they have to stay under.

Counted: from ``plan(source, target)`` to the figure asked for. Not counted: making the two
distributions, which are new for each run; nor are shares kept from one run for the next, as they
are in a program. Memory is the peak of Python's and NumPy's allocations (tracemalloc), in a run of
its own, which is not timed. One thread. Every plan is checked for consistency before it is timed.

matrix    ``plan(...).matrix(8)``, 2-D block-cyclic, all ranks with all ranks
incoming  ``plan(...).incoming(rank)`` between 10^6 and 10^6 ranks, 10^7 x 10^7 indices: the senders
          on each axis, and the pieces of one of them; the worst of three ranks;
          "a <-> b" goes from kind a to kind b on axis 0 and from b to a on axis 1
explain   ``plan(...).explain()``, 2-D block-cyclic
relabel   ``plan(..., relabel=True)``, 2-D, grids p x q -> q x p; SciPy's import not counted
import    in fresh processes, NumPy's own import included; neither dask nor numba may be loaded
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from time import perf_counter

import numpy as np
from measure import Timing, machine, table

from layouts import Block, BlockCyclic, Cyclic, Distribution, Incoming, Irregular, plan
from layouts import incoming as incoming_shares
from layouts.axes import Kind

MATRIX_BAR, INCOMING_BAR, INCOMING_BYTES, IMPORT_BAR = 1.0, 0.010, 10_000_000, 0.3
EXTENT, SIDE = 10**7, 1000  # of one axis of the large plans: indices, ranks
COPRIME = 997  # another number of ranks, without a common divisor: nothing repeats early

Pair = tuple[Distribution, Distribution]


@dataclass
class Row:
    """One line of the table: what was measured, and the bars it is held to."""

    what: str
    timing: Timing
    bar: float | None = None
    peak: int | None = None
    peak_bar: int | None = None

    def cells(self) -> list[str]:
        verdict = ""
        if self.bar is not None:
            within = self.timing.median < self.bar
            within &= self.peak is None or self.peak_bar is None or self.peak < self.peak_bar
            verdict = "within" if within else "OVER"
        bars = [f"{self.bar * 1e3:g} ms"] if self.bar is not None else []
        bars += [f"{self.peak_bar / 1e6:g} MB"] if self.peak_bar is not None else []
        peak = "" if self.peak is None else f"{self.peak / 1e6:.2f}"
        median, spread = f"{self.timing.median * 1e3:.2f}", self.timing.spread
        return [self.what, ", ".join(bars) or "none", median, spread, peak, verdict]


HEAD = ("what", "bar", "median ms", "min - max", "peak MB", "verdict")


def matrices(ranks: int) -> Iterator[tuple[str, Callable[[], Pair]]]:
    """Pairs of 2-D block-cyclic distributions over about so many ranks each."""
    side = math.isqrt(ranks)
    square, flat = (side, side), (side * side, 1)
    odd = side * side - 3, 1  # 1024 and 1021 have no common divisor: nothing repeats early
    for b, c in ((64, 256), (64, 67), (61, 67), (1, 64), (1009, 1013)):
        for source, target in ((square, square), (flat, flat), (square, flat)):
            yield _matrix(source, target, b, c)
    for b, c in ((61, 67), (1, 3)):
        yield _matrix(flat, odd, b, c)


def _matrix(
    source: tuple[int, int], target: tuple[int, int], b: int, c: int
) -> tuple[str, Callable[[], Pair]]:
    def pair() -> Pair:
        return (
            Distribution((EXTENT, EXTENT), source, (BlockCyclic(b), BlockCyclic(b))),
            Distribution((EXTENT, EXTENT), target, (BlockCyclic(c), BlockCyclic(c)), order="F"),
        )

    grids = " -> ".join("x".join(map(str, grid)) for grid in (source, target))
    return f"matrix    {grids}, blocks {b} -> {c}", pair


def large(side: int) -> dict[str, Kind]:
    """The ways of cutting one axis of the large plans over ``side`` ranks."""
    random = Random(20)
    bounds = [0, *sorted(random.randrange(EXTENT) for _ in range(side - 1)), EXTENT]
    return {
        "Block": Block(),
        "BlockCyclic(64)": BlockCyclic(64),
        "BlockCyclic(67)": BlockCyclic(67),
        "Cyclic": Cyclic(),
        "Irregular": Irregular(bounds),
    }


def time_matrix(what: str, pair: Callable[[], Pair], repeat: int) -> Row:
    """Time ``plan(source, target).matrix(8)``."""
    source, target = pair()
    if plan(source, target).matrix(8).sum() != math.prod(source.shape) * 8:
        raise ArithmeticError(f"{what}: the matrix does not add up to the array's bytes")
    return Row(what, time(lambda s, t: plan(s, t).matrix(8), pair, repeat), MATRIX_BAR)


def time_incoming(one: str, other: str, target_side: int, repeat: int) -> Row:
    """Time one rank's share between 10^6 and 10^6 ranks: the worst of three ranks.

    On axis 0 from the one kind to the other, on axis 1 from the other to the one.
    """

    def pair() -> Pair:
        incoming_shares.share.cache_clear()
        shape, kinds, wanted = (EXTENT, EXTENT), large(SIDE), large(target_side)
        source = Distribution(shape, (SIDE, SIDE), (kinds[one], kinds[other]))
        grid = target_side, target_side
        return source, Distribution(shape, grid, (wanted[other], wanted[one]), order="F")

    last = target_side**2 - 1
    ranks = (0, last // 2 + target_side // 3, last)
    onto = "" if target_side == SIDE else f", onto {target_side}x{target_side}"
    what = f"incoming  {one} <-> {other}{onto}"
    timings, peaks = [], []
    for rank in ranks:
        source, target = pair()
        check_share(what, plan(source, target).incoming(rank))
        timings.append(time(lambda s, t, rank=rank: share(s, t, rank), pair, repeat))
        source, target = pair()
        tracemalloc.start()
        share(source, target, rank)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    worst = max(timings, key=lambda timing: timing.median)
    return Row(what, worst, INCOMING_BAR, max(peaks), INCOMING_BYTES)


def share(source: Distribution, target: Distribution, rank: int) -> None:
    """What a rank has to know before it can ask: who sends, how much, and one sender's pieces."""
    incoming = plan(source, target).incoming(rank)
    _ = incoming.senders
    incoming.pieces(last_sender(incoming))


def last_sender(incoming: Incoming) -> int:
    """One of the ranks that send anything, without listing all of them."""
    place = tuple(int(found[-1]) for found, _ in incoming.senders)
    return int(np.ravel_multi_index(place, incoming.source.grid))


def check_share(what: str, incoming: Incoming) -> None:
    """See that what the senders give fills the rank's part, and that the pieces say the same."""
    given = math.prod(int(counts.sum()) for _, counts in incoming.senders)
    last = math.prod(int(counts[-1]) for _, counts in incoming.senders)
    pieces = math.prod(axis.size for axis in incoming.pieces(last_sender(incoming)))
    if given != incoming.size or last != pieces:
        raise ArithmeticError(f"{what}: rank {incoming.rank} is not given what it is to hold")


def time_explain(side: int, repeat: int) -> Row:
    """Time ``plan(source, target).explain()`` between ``side`` x ``side`` ranks on each side."""

    def pair() -> Pair:
        shape, grid = (EXTENT, EXTENT), (side, side)
        blocks = BlockCyclic(64), BlockCyclic(67)
        return Distribution(shape, grid, blocks), Distribution(shape, grid, blocks[::-1])

    what = f"explain   {side * side:,} -> {side * side:,} ranks"
    return Row(what, time(lambda s, t: plan(s, t).explain(), pair, repeat))


def time_relabel(grid: tuple[int, int], repeat: int) -> Iterator[Row]:
    """Time ``plan(source, target, relabel=True)`` onto the transposed grid."""
    ranks = math.prod(grid)
    for kind in (Block(), BlockCyclic(64)):

        def pair(kind: Kind = kind) -> Pair:
            shape = (20_000, 20_000)
            return Distribution(shape, grid, (kind, kind)), Distribution(shape, grid[::-1])

        usual, better = plan(*pair()).cost(), plan(*pair(), relabel=True).cost()
        if better.moved > usual.moved or better.moved_before != usual.moved:
            raise ArithmeticError(f"relabel: {ranks} ranks move more bytes than without it")
        what = f"relabel   {ranks:,} -> {ranks:,} ranks, {kind!r} -> Block()"
        yield Row(what, time(lambda s, t: plan(s, t, relabel=True), pair, repeat))


def time(
    work: Callable[[Distribution, Distribution], object], pair: Callable[[], Pair], repeat: int
) -> Timing:
    """Time the work on new distributions each time, after one run that does not count."""
    seconds = []
    for _ in range(repeat + 1):
        source, target = pair()
        begun = perf_counter()
        work(source, target)
        seconds.append(perf_counter() - begun)
    return Timing(tuple(seconds[1:]))


def time_import(package: str, bar: float | None, repeat: int) -> Row:
    """Time the import in fresh processes, NumPy's own import included, with a warm disk cache.

    Raises
    ------
    ImportError
        If it loads dask or numba, whatever the time.
    """
    code = (
        "import sys, time; begun = time.perf_counter();"
        f" import {package}; seconds = time.perf_counter() - begun;"
        " print(seconds, *sorted({'dask', 'distributed', 'numba'} & set(sys.modules)))"
    )
    runs = []
    for _ in range(repeat + 1):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(done.stdout.split())
    heavy = {name for run in runs for name in run[1:]}
    if heavy:
        raise ImportError(f"import {package} loads {', '.join(sorted(heavy))}")
    seconds = tuple(float(run[0]) for run in runs[1:])
    return Row(f"import    {package}", Timing(seconds), bar)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=1024, help="ranks on each side of a matrix")
    parser.add_argument("--repeat", type=int, default=7, help="runs that count, of each")
    options = parser.parse_args()
    print(__doc__)
    print(machine("numpy"), end="\n\n")

    rows = [time_matrix(what, pair, options.repeat) for what, pair in matrices(options.size)]
    names = list(large(SIDE))
    pairs = [(name, name) for name in names] + list(pairwise([*names, names[0]]))
    pairs += [("BlockCyclic(64)", "Cyclic"), ("Irregular", "BlockCyclic(67)"), ("Block", "Cyclic")]
    rows += [time_incoming(*pair, SIDE, options.repeat) for pair in pairs]
    rows += [time_incoming(*pair, COPRIME, options.repeat) for pair in pairs]
    rows += [time_explain(side, options.repeat) for side in (100, 1000)]
    for grid in [(40, 25), (80, 50)][: 1 + (options.size >= 1024)]:
        rows += time_relabel(grid, options.repeat)
    rows.append(time_import("numpy", None, options.repeat))
    rows += [time_import(package, IMPORT_BAR, options.repeat) for package in ("kernels", "layouts")]
    print(table(HEAD, (row.cells() for row in rows)))


if __name__ == "__main__":
    main()
