"""The kernels beside `np.copyto` of the same bytes, NumPy, PyTorch and MKL, in one run.

limit              GB/s of `np.copyto` from one contiguous array to another, with as many threads,
                   each of which copies its share; bytes read plus bytes written.
maestro            its share of the limit, with the extremes over the rounds; or, where the aim is
                   a multiple, how many times as fast as NumPy.
lines              the share that is reached by moving the same cache lines of a matrix in the same
                   order and transposing nothing: what memory leaves of the limit.
NumPy, PyTorch,    their share of the limit; the latter two where they are installed.
MKL

All arrays are far larger than the caches and have been written before. Every contender runs once
before anything counts. Then they take turns, in another order in each round; who needs long takes
part in fewer rounds. Shares are medians of the rounds' ratios. The last table says how far the
kernels are from what they aim at: the least of a row's cases counts, or their geometric mean.

For small arrays: the microseconds that calls of `permute` and `convert` take beyond NumPy. In a
turn of many calls of each, medians of the turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from random import Random
from time import perf_counter

import numpy as np
from kernel_cases import ROWS, Case, Memory, Row
from measure import machine, table, usable_cpus
from peers import NAMES, Array, Work

import kernels
from layouts import convert

PATIENCE = 0.5  # seconds that a peer may spend on one case before it leaves the race
SMALL = "small"
SMALL_AIM = 2.0  # microseconds beyond NumPy
SMALL_SIZES = (8, 64, 512, 4096, 16384, 65536)  # bytes
QUICK = 32  # extents are divided by this for a quick look


@dataclass(frozen=True)
class Result:
    """One case's figures; shares are of `np.copyto` with as many threads."""

    row: str
    case: str
    threads: int
    limit: float  # GB/s
    share: float
    least: float
    most: float
    peers: Mapping[str, float]
    over: str | None = None

    @property
    def reached(self) -> float:
        """What is compared with the aim."""
        return self.share / self.peers[self.over] if self.over else self.share

    def cells(self) -> list[str]:
        """One line of the table."""
        shares = [f"{self.peers[name]:.2f}" if name in self.peers else "" for name in NAMES]
        spread = f"{self.least:.2f} - {self.most:.2f}"
        own = [f"{self.share:.2f}", spread]
        if self.over:
            own[0] = f"{self.reached:.1f}x"
        return [self.case, str(self.threads), f"{self.limit:.1f}", *own, *shares]


@dataclass
class Judged:
    """A line of the last table: the aim of a row, and what was reached with so many threads."""

    row: Row
    threads: int
    results: list[Result] = field(default_factory=list)

    @property
    def reached(self) -> float:
        """What is compared with the aim."""
        values = [result.reached for result in self.results]
        return statistics.geometric_mean(values) if self.row.mean else min(values)

    @property
    def below(self) -> int:
        """How many cases are, each alone, below the aim."""
        return sum(result.reached < self.row.aim for result in self.results)

    def cells(self) -> list[str]:
        """One line of the table."""
        unit = "x" if self.row.over else ""
        met = "yes" if self.reached >= self.row.aim else "no"
        count = f"{self.below} of {len(self.results)} below"
        figures = f"{self.row.aim:g}{unit}", f"{self.reached:.2f}{unit}"
        return [self.row.name, str(self.threads), *figures, met, count]

    def values(self) -> dict[str, object]:
        """The same for programs."""
        figures = {"aim": self.row.aim, "reached": self.reached, "below": self.below}
        return {"row": self.row.name, "threads": self.threads, **figures}


def copying(target: Array, source: Array, threads: int, pool: ThreadPoolExecutor) -> Work:
    """`np.copyto` between contiguous bytes, cut into as many parts as there are threads."""
    pairs = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    if threads == 1:
        return lambda: np.copyto(target, source)
    return lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs))


def race(
    contenders: Mapping[str, Work], stay: Sequence[str], rounds: int
) -> dict[str, list[float]]:
    """Let all take turns, and return what each turn took; those in `stay` never leave early."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-1, rounds):  # one round that does not count
        racing = [n for n in contenders if n in stay or sum(seconds[n]) < PATIENCE]
        for name in Random(number).sample(racing, len(racing)):
            begun = perf_counter()
            contenders[name]()
            seconds[name].append(perf_counter() - begun)
        if number == -1:
            for taken in seconds.values():
                if taken[0] < PATIENCE:  # else once is enough, cold or not
                    taken.clear()
    return seconds


def measure(
    row: str, case: Case, threads: int, memory: Memory, rounds: int, pool: ThreadPoolExecutor
) -> Result:
    """Run one case beside its peers and the copy."""
    check(case)
    buffers = memory.target[: case.nbytes], memory.source[: case.nbytes]
    contenders = {"copy": copying(*buffers, threads, pool), "maestro": case.work, **case.peers}
    seconds = race(contenders, ("copy", "maestro"), rounds)
    limits = seconds["copy"]
    shares = {
        name: [limit / taken for limit, taken in zip(limits, runs, strict=False)]
        for name, runs in seconds.items()
    }
    own = shares.pop("maestro")
    del shares["copy"]
    return Result(
        row,
        case.name,
        threads,
        2 * case.nbytes / statistics.median(limits) / 1e9,
        statistics.median(own),
        min(own),
        max(own),
        {name: statistics.median(values) for name, values in shares.items()},
        ROWS[row].over,
    )


def check(case: Case) -> None:
    """See that the work writes what it must, in up to 100 000 places, the ends among them.

    Raises
    ------
    ArithmeticError
        If it does not.
    """
    each = round(1e5 ** (1 / case.expected.ndim))
    places = np.ix_(
        *(np.unique(np.linspace(0, n - 1, each, dtype=int)) for n in case.expected.shape)
    )
    if case.target is not None:
        case.target[places] = 0
    result = case.work() if case.target is None else (case.work(), case.target)[1]
    wanted = case.expected[places]
    if not np.array_equal(np.asarray(result)[places], wanted.astype(np.asarray(result).dtype)):
        raise ArithmeticError(f"{case.name}: the result is wrong")


@dataclass(frozen=True)
class Small:
    """How long our call and NumPy's take for one small array, in microseconds."""

    call: str
    shape: tuple[int, ...]
    nbytes: int
    maestro: float
    numpy: float

    @property
    def extra(self) -> float:
        """Microseconds beyond NumPy."""
        return self.maestro - self.numpy

    def cells(self) -> list[str]:
        """One line of the table."""
        size = "x".join(map(str, self.shape))
        return [self.call, size, str(self.nbytes), *(f"{v:.2f}" for v in self.figures())]

    def figures(self) -> tuple[float, float, float]:
        """Ours, NumPy's and the difference."""
        return self.maestro, self.numpy, self.extra


def small_arrays(rounds: int, quick: bool) -> Iterator[Small]:
    """Calls for arrays of one element to 64 KiB, in one to five dimensions."""
    for ndim in range(1, 6):
        for nbytes in SMALL_SIZES:
            array = np.random.default_rng(0).random(small_shape(ndim, nbytes // 8))
            for call, (ours, theirs) in small_calls(array).items():
                taken = microseconds({"maestro": ours, "NumPy": theirs}, rounds, quick)
                yield Small(call, array.shape, nbytes, *taken)


def small_calls(a: Array) -> dict[str, tuple[Work, Work]]:
    """Our call and NumPy's for the same, by name."""
    axes = tuple(reversed(range(a.ndim)))
    turned, out = (np.ones(a.shape[::-1]) for _ in range(2))
    every = np.ones([2 * n for n in a.shape])[(slice(None, None, 2),) * a.ndim]
    return {
        "permute": (lambda: kernels.permute(a, axes), lambda: a.transpose().copy("C")),
        "permute, out given": (
            lambda: kernels.permute(a, axes, out=out),
            lambda: np.copyto(out, a.transpose()),
        ),
        "convert": (lambda: convert(a, order="F"), lambda: a.copy("F")),
        "convert, out given": (
            lambda: convert(a, order="F", out=turned.T),
            lambda: np.copyto(turned.T, a),
        ),
        "convert, nothing to do": (lambda: convert(a), lambda: a.copy()),
        "convert, every other": (lambda: convert(every, order="F"), lambda: every.copy("F")),
        "convert to f4": (lambda: convert(a, dtype="f4"), lambda: a.astype("f4")),
        "convert to f4 in F": (
            lambda: convert(a, order="F", dtype="f4"),
            lambda: a.astype("f4", order="F"),
        ),
        "convert to >f8": (lambda: convert(a, dtype=">f8"), lambda: a.astype(">f8")),
    }


def small_shape(ndim: int, elements: int) -> tuple[int, ...]:
    """The powers of two dealt out to the axes, the last first.

    >>> small_shape(3, 64), small_shape(3, 128)
    ((4, 4, 4), (4, 4, 8))
    """
    power = elements.bit_length() - 1
    return tuple(1 << (power + k) // ndim for k in range(ndim))


def microseconds(calls: Mapping[str, Work], rounds: int, quick: bool) -> list[float]:
    """Median microseconds for one call of each, in turns of many calls."""
    turns = {name: many(call, quick) for name, call in calls.items()}
    seconds = race({name: turn for name, (turn, _) in turns.items()}, tuple(turns), rounds)
    return [statistics.median(seconds[name]) / turns[name][1] * 1e6 for name in calls]


def many(call: Work, quick: bool) -> tuple[Callable[[], None], int]:
    """As many calls as take about two milliseconds, and how many those are."""
    call()
    begun = perf_counter()
    for _ in range(3):
        call()
    number = 1 if quick else max(1, round(3 * 2e-3 / (perf_counter() - begun)))

    def repeat() -> None:
        for _ in range(number):
            call()

    return repeat, number


def main() -> None:
    options = arguments()
    quick, rounds = options.quick, options.rounds
    say = silent if options.json else partial(print, flush=True)
    say(__doc__)
    say(machine("numpy", "numba"), "\n")
    kernels.warmup()
    judged: list[Judged] = []
    names = [name for name in ROWS if options.only in (None, name)]
    largest = max((ROWS[name].nbytes for name in names), default=0)
    memory = Memory(largest, QUICK if quick else 1)
    with ThreadPoolExecutor(max(options.threads)) as pool:
        for name in names:
            row = ROWS[name]
            for threads in options.threads:
                line = Judged(row, threads)
                for case in row.cases(memory, threads):
                    line.results.append(measure(name, case, threads, memory, rounds, pool))
                if line.results:
                    judged.append(line)
                    say(cases_table(line), "\n")
    small = []
    if options.only in (None, SMALL):
        small = list(small_arrays(rounds, quick))
        head = ["small arrays, us", "shape", "bytes", "maestro", "NumPy", "more"]
        say(table(head, (line.cells() for line in small)), "\n")
    if options.json:
        print(as_json(judged, small))
    else:
        print(summary(judged, small))


def cases_table(line: Judged) -> str:
    """The cases behind a line of the last table."""
    own = f"maestro / {line.row.over}" if line.row.over else "maestro"
    head = [line.row.name, "threads", "limit GB/s", own, "min - max", *NAMES]
    return table(head, (result.cells() for result in line.results))


def silent(*_: object) -> None:
    """Instead of printing."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=[*ROWS, SMALL], help="one row of the last table")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1, and 2 if there are two")
    parser.add_argument("--json", action="store_true", help="figures for programs to read")
    parser.add_argument(
        "--quick", action="store_true", help="small arrays, one round: whether it works at all"
    )
    options = parser.parse_args()
    options.threads = options.threads or sorted({1, min(2, usable_cpus())})
    if options.rounds < 1 or min(options.threads) < 1:
        parser.error("--rounds and --threads must be at least 1")
    if options.quick:
        options.rounds = 1
    return options


def summary(judged: Sequence[Judged], small: Sequence[Small]) -> str:
    """What was aimed at and what was reached."""
    lines = [line.cells() for line in judged]
    if small:
        worst = max(line.extra for line in small)
        below = sum(line.extra > SMALL_AIM for line in small)
        aim, met = f"+{SMALL_AIM:g} us", "yes" if worst <= SMALL_AIM else "no"
        count = f"{below} of {len(small)} above"
        lines.append(["small arrays", "1", aim, f"{worst:+.2f} us", met, count])
    return table(["row", "threads", "aim", "reached", "met", "cases"], lines)


def as_json(judged: Sequence[Judged], small: Sequence[Small]) -> str:
    """All figures."""
    cases = [asdict(result) | {"reached": result.reached} for j in judged for result in j.results]
    rows = [line.values() for line in judged]
    return json.dumps(
        {"rows": rows, "cases": cases, "small": [asdict(s) | {"extra": s.extra} for s in small]},
        indent=1,
    )


if __name__ == "__main__":
    main()
