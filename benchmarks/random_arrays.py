"""Arrays of any shape beside NumPy: how often `permute` is slower, and by how much.

Shapes, orders of axes, strides and element sizes are random: one to four axes, 100 to 3,000,000
elements, every other index of some axes on either side. A call is slower if it takes more than 2 us
beyond `np.copyto`. NumPy takes part twice, for on a machine that does other things at times it is
slower than itself.

speed         NumPy's time over ours, geometric mean: of all, and of those that take NumPy 50 us
> 2 us        how many of our calls are slower by more than that, and how many of NumPy's own
> 1.25x ...   the same by more than a fourth of NumPy's time and 2 us
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from kernel_speed import microseconds
from measure import machine, table
from peers import Array, Work

import kernels

KINDS = ("u1", "u2", "V3", "f4", "f8", "c16", "V24")
FREE, LONG = 2, 50  # us: what a call may take more, and what takes long


@dataclass(frozen=True)
class Taken:
    """Microseconds that a call took: ours, NumPy's, and NumPy's once more."""

    kind: str
    what: str
    ours: float
    numpy: float
    again: float

    @property
    def speed(self) -> float:
        """How many times as fast as NumPy."""
        return self.numpy / self.ours


def pairs(seed: int, most: float) -> Iterator[tuple[str, Array, tuple[int, ...], Array]]:
    """Element type, source, order of its axes and target, up to so many elements, without end."""
    random = np.random.default_rng(seed)
    while True:
        kind = str(random.choice(KINDS))
        shape = random_shape(random, most)
        source = with_gaps(random, shape, kind)
        axes = tuple(random.permutation(len(shape)).tolist())
        target = with_gaps(random, tuple(shape[axis] for axis in axes), kind)
        target[...] = np.zeros((), kind)  # no page is touched for the first time later
        yield kind, source, axes, target


def random_shape(random: np.random.Generator, most: float) -> tuple[int, ...]:
    """Sizes of one to four axes: the logarithms of what they are multiplied to are uniform."""
    left = int(10 ** random.uniform(2, np.log10(most)))
    sizes = []
    for _ in range(random.integers(4)):
        sizes.append(max(1, round(left ** random.uniform(0, 1))))
        left = max(1, left // sizes[-1])
    sizes.append(left)
    random.shuffle(sizes)
    return tuple(sizes)


def with_gaps(random: np.random.Generator, shape: tuple[int, ...], kind: str) -> Array:
    """An array of zeros; one in three has every other index of some axes of a larger one."""
    if random.random() < 2 / 3:
        return np.zeros(shape, kind)
    whole = np.zeros([2 * n for n in shape], kind)
    steps = random.integers(1, 3, len(shape)).tolist()
    return whole[tuple(slice(0, n * step, step) for n, step in zip(shape, steps, strict=True))]


def measure(kind: str, source: Array, axes: tuple[int, ...], target: Array, rounds: int) -> Taken:
    """The medians of some turns."""
    view = source.transpose(axes)
    calls: dict[str, Work] = {
        "maestro": lambda: kernels.permute(source, axes, out=target),
        "NumPy": lambda: np.copyto(target, view),
        "NumPy again": lambda: np.copyto(target, view),
    }
    what = f"{source.shape} to {axes}, strides {source.strides} to {target.strides}"
    return Taken(kind, what, *microseconds(calls, rounds, quick=False))


def speed(taken: list[Taken]) -> str:
    """The geometric mean of NumPy's time over ours."""
    return f"{statistics.geometric_mean(t.speed for t in taken):.2f}x" if taken else ""


def line(kind: str, taken: list[Taken]) -> list[str]:
    """Of the table: a kind of elements."""

    def share(slower: Callable[[Taken], bool]) -> str:
        return f"{sum(map(slower, taken)) / len(taken):.1%}"

    return [
        kind,
        str(len(taken)),
        speed(taken),
        speed([t for t in taken if t.numpy >= LONG]),
        share(lambda t: t.ours > t.numpy + FREE),
        share(lambda t: t.again > t.numpy + FREE),
        share(lambda t: t.ours > 1.25 * t.numpy + FREE),
        share(lambda t: t.again > 1.25 * t.numpy + FREE),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--most", type=float, default=3e6, help="elements")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5, help="turns that count")
    parser.add_argument("--worst", type=int, default=0, help="how many to show that lose most")
    options = parser.parse_args()
    print(__doc__)
    print(machine("numpy", "numba"), "\n", flush=True)
    kernels.warmup()
    cases = pairs(options.seed, options.most)
    taken = [measure(*next(cases), options.rounds) for _ in range(options.cases)]
    groups = {kind: [t for t in taken if t.kind == kind] for kind in KINDS}
    head = [
        "elements",
        "cases",
        "speed",
        "from 50 us",
        "> 2 us",
        "NumPy",
        "> 1.25x + 2 us",
        "NumPy",
    ]
    rows = [line(kind, group) for kind, group in groups.items() if group]
    print(table(head, [*rows, line("all", taken)]))
    for t in sorted(taken, key=lambda t: t.numpy - t.ours)[: options.worst]:
        print(f"{t.speed:.2f}x of {t.numpy:.1f} us: {t.kind} {t.what}")


if __name__ == "__main__":
    main()
