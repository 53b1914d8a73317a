"""What the benchmark of the kernels moves: one generator of cases for each row of its table.

All cases share two buffers that have been written before, so that none pays for fresh pages.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from peers import Array, Work, peers

import kernels
import layouts
from kernels import Pieces

__all__ = ["ROWS", "Case", "Memory", "Row"]

TYPES = {1: "u1", 2: "u2", 4: "f4", 8: "f8", 16: "c16"}
SEED = 20


@dataclass
class Memory:
    """Two warm buffers of this many bytes; `scale` divides all extents, for a quick look."""

    nbytes: int
    scale: int = 1
    source: Array = field(init=False)
    target: Array = field(init=False)

    def __post_init__(self) -> None:
        size = self.nbytes // self.scale**2 + (1 << 20)
        # Numbers of ordinary size whatever the element: no NaN, and no denormal to stumble over.
        self.source = np.random.default_rng(SEED).integers(60, 64, size, "u1")
        self.target = np.ones(size, "u1")

    def extent(self, n: int) -> int:
        """The extent, scaled down."""
        return max(n // self.scale, 1)


@dataclass(frozen=True)
class Case:
    """One thing that is timed.

    Attributes
    ----------
    nbytes : int
        What it writes.
    work : callable
        Our way.
    peers : dict
        Other ways to do it, by name.
    target, expected : ndarray
        Where `work` writes and what must be there then, of one shape; views, to be compared in
        part. The target is None for work that returns a new array.
    """

    name: str
    nbytes: int
    work: Work
    peers: dict[str, Work]
    target: Array | None
    expected: Array


@dataclass(frozen=True)
class Row:
    """A line of the summary.

    Attributes
    ----------
    aim : float
        Least share of `np.copyto`, or least speed over the peer `over`.
    nbytes : int
        The largest array of its cases, in bytes.
    mean : bool
        Whether the geometric mean of the cases counts, and not the least.
    over : str, optional
        A peer's name.
    """

    name: str
    aim: float
    cases: Callable[[Memory, int], Iterator[Case]]
    nbytes: int = 8 * 8192**2
    mean: bool = False
    over: str | None = None


def array(buffer: Array, shape: Sequence[int], kind: str, lead: int = 0, shift: int = 0) -> Array:
    """A C-ordered array in the buffer.

    `lead` is what a row is longer in memory, in elements; it starts `shift` bytes into the buffer.
    """
    itemsize = np.dtype(kind).itemsize
    steps = [shape[-1] + lead, *shape[-2:0:-1]]
    strides = [itemsize]
    for n in steps[: len(shape) - 1]:
        strides.insert(0, strides[0] * n)
    return np.ndarray(tuple(shape), kind, buffer.data, shift, tuple(strides))


def permutation(name: str, source: Array, axes: Sequence[int], target: Array, threads: int) -> Case:
    """A case of :func:`kernels.permute`."""
    view = source.transpose(axes)
    return Case(
        name,
        target.nbytes,
        lambda: kernels.permute(source, axes, out=target, threads=threads),
        peers(target, view, threads),
        target,
        view,
    )


def planes(memory: Memory, threads: int) -> Iterator[Case]:
    """Whole matrices: square, of no power of two, tall and wide."""
    for width, kind in TYPES.items():
        more = 2 if width < 4 else 1
        for shape in ((8192, 8192), (8000, 7001), (80000, 800), (801, 80100)):
            rows, columns = (memory.extent(n * more) for n in shape)
            source = array(memory.source, (rows, columns), kind)
            target = array(memory.target, (columns, rows), kind)
            yield permutation(f"{kind} {rows}x{columns}", source, (1, 0), target, threads)


def awkward_planes(memory: Memory, threads: int) -> Iterator[Case]:
    """Matrices with odd leading dimensions, and such that begin between the lines of the cache."""
    for width, kind in TYPES.items():
        n = memory.extent(8000 * (2 if width < 4 else 1))
        for name, lead, shift in (
            ("odd leading dimension", 1 + n % 2, 0),
            ("starts one element late", 0, width),
            ("starts one byte late", 0, 1),
        ):
            if width == 1 and name == "starts one byte late":
                continue
            source = array(memory.source, (n, n), kind, lead, shift)
            target = array(memory.target, (n, n), kind, lead, shift)
            yield permutation(f"{kind} {n}x{n}, {name}", source, (1, 0), target, threads)


def permutations(memory: Memory, threads: int) -> Iterator[Case]:
    """Random orders of the axes, 200 MB each; the same ones in every run."""
    random = Random(SEED)
    for number in range(24):
        kind = ("f4", "f8")[number % 2]
        itemsize = np.dtype(kind).itemsize
        extents = random_extents(random, 3 + number // 2 % 4, 200_000_000 // itemsize)
        shrink = memory.scale ** (2 / len(extents))
        extents = [max(round(n / shrink), 2) for n in extents]
        axes = list(range(len(extents)))
        while axes == sorted(axes):
            random.shuffle(axes)
        source = array(memory.source, extents, kind)
        target = array(memory.target, [extents[axis] for axis in axes], kind)
        name = f"{kind} {'x'.join(map(str, extents))} to {''.join(map(str, axes))}"
        yield permutation(name, source, axes, target, threads)


def random_extents(random: Random, ndim: int, elements: int) -> list[int]:
    """Extents of 5 to 2000, evenly spread over the orders of magnitude, with this product."""
    while True:
        extents = [round(5 * 400 ** random.random()) for _ in range(ndim - 1)]
        last = elements // math.prod(extents)
        if 5 <= last <= 2000:
            extents.append(last)
            random.shuffle(extents)
            return extents


def cyclic(n: int, block: int) -> Pieces:
    """What rank 0 of two holds of `n` indices in blocks: from its part into the whole."""
    return Pieces([0], [0], [block], n // (2 * block), block, 2 * block, block)


def swapped(pieces: Pieces) -> Pieces:
    """The way back."""
    return Pieces(
        pieces.target,
        pieces.source,
        pieces.length,
        pieces.count,
        pieces.target_step,
        pieces.source_step,
        pieces.last,
    )


def blocks(memory: Memory, threads: int, block: int, turned: bool) -> Iterator[Case]:
    """Rank 0 of 2 x 2 in blocks on both axes: its part into the whole matrix, and back."""
    n = max(memory.extent(8192), 2 * block)
    whole, half = (n, n), (n // 2, n // 2)
    out, back = cyclic(n, block), swapped(cyclic(n, block))
    held = np.concatenate([np.arange(k, k + block) for k in range(0, n, 2 * block)])
    index = np.ix_(held, held)
    name = f"f8 blocks of {block}, {'C to F' if turned else 'C to C'}"
    nbytes = 8 * (n // 2) ** 2

    source, target = array(memory.source, half, "f8"), array(memory.target, whole, "f8")
    target = target.T if turned else target

    def scatter(target: Array = target, source: Array = source) -> None:
        target[index] = source

    yield Case(
        f"{name}, part to whole",
        nbytes,
        lambda t=target, s=source: kernels.move(t, s, [out, out], threads),  # type: ignore[misc]
        {"NumPy": scatter},
        _blocks_of(target, block),
        source.reshape(n // 2 // block, block, n // 2 // block, block),
    )
    source, target = array(memory.source, whole, "f8"), array(memory.target, half, "f8")
    target = target.T if turned else target
    yield Case(
        f"{name}, whole to part",
        nbytes,
        lambda: kernels.move(target, source, [back, back], threads),
        {"NumPy": lambda: source[index]},
        np.lib.stride_tricks.as_strided(  # the part, in blocks
            target,
            (n // 2 // block, block) * 2,
            [step for stride in target.strides for step in (block * stride, stride)],
        ),
        _blocks_of(source, block),
    )


def _blocks_of(whole: Array, block: int) -> Array:
    """Every other block of both axes, as a view of four axes."""
    steps = [step for stride in whole.strides for step in (2 * block * stride, stride)]
    shape = (len(whole) // (2 * block), block) * 2
    return np.lib.stride_tricks.as_strided(whole, shape, steps)


def turned_blocks(memory: Memory, threads: int) -> Iterator[Case]:
    """Pieces of 64 x 64 that change their order."""
    yield from blocks(memory, threads, 64, turned=True)


def agreeing_blocks(memory: Memory, threads: int) -> Iterator[Case]:
    """Pieces whose runs are contiguous on both sides, 512 bytes and more each."""
    for block in (64, 256):
        yield from blocks(memory, threads, block, turned=False)


def single_elements(memory: Memory, threads: int) -> Iterator[Case]:
    """Every other element of both axes."""
    for turned in (False, True):
        yield from blocks(memory, threads, 1, turned)


def casts(memory: Memory, threads: int) -> Iterator[Case]:
    """f8 to f4 on the way into another order."""
    if "dtype" not in inspect.signature(layouts.convert).parameters:
        return  # this version cannot
    n = memory.extent(8192)
    source = array(memory.source, (n, n), "f8")
    options: dict[str, Any] = {"order": "F", "dtype": "f4", "threads": threads}
    yield Case(
        f"f8 {n}x{n} to f4 in order F",
        source.nbytes // 2,
        lambda: layouts.convert(source, **options),
        {"NumPy": lambda: np.asfortranarray(source.astype("f4"))},
        None,
        source,
    )


LARGEST = 16 * 8192**2  # bytes

ROWS = {
    "2d": Row("2-D", 0.85, planes, LARGEST),
    "unaligned": Row("2-D, odd leading dimension or start", 0.7, awkward_planes, LARGEST),
    "permutations": Row(
        "3-D to 6-D, 200 MB, random order", 0.65, permutations, 200_000_000, mean=True
    ),
    "turned": Row("pieces of 64x64, other order", 0.6, turned_blocks),
    "runs": Row("pieces with runs of 512 bytes and more", 0.85, agreeing_blocks),
    "single": Row("block-cyclic(1)", 5, single_elements, over="NumPy"),
    "cast": Row("f8 to f4 in the other order", 8, casts, over="NumPy"),
}
