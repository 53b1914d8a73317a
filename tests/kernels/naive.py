"""Slow, obvious twins of what `kernels` does, and arrays in awkward memory to try it on."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
import numpy as np

from kernels import Pieces, by_numpy, moving, nest

POISON = 0xA5
GUARD = 64  # bytes before and after every target

DTYPES = [np.dtype(f"V{size}") for size in range(1, 18)] + [
    np.dtype(name)
    for name in ("u1", "<i2", ">i2", ">f8", "f4", "f8", "c8", "c16", "S5", "U3", "M8[s]")
]
DTYPES += [
    np.dtype([("a", "u1"), ("b", ">f8")]),
    np.dtype({"names": ["a"], "formats": ["i4"], "offsets": [4], "itemsize": 12}),
    np.dtype("complex256") if hasattr(np, "complex256") else np.dtype("c16"),
]
#: Elements of more than a word or two, up to more than any loads and stores are made for.
WIDE = [np.dtype(f"V{size}") for size in (24, 40, 100, 130, 300)]


@contextmanager
def by_the_kernel(stream: bool, walked: bool | None = None) -> Iterator[None]:
    """Leave nothing small to NumPy; write past the caches, or not, whatever the size.

    If `walked` is False, rectangles are moved as such even if it is faster to walk them.
    """
    choice = nest.is_walked if walked is None else lambda *_: walked
    moving._loops.cache_clear()
    with (
        patch.multiple(by_numpy, SMALL_BYTES=-1, KERNEL_BYTES=-1),
        patch.object(moving, "STREAM_BYTES", 0 if stream else 1 << 60),
        patch.object(nest, "is_walked", choice),
    ):
        yield
    moving._loops.cache_clear()


#: Arguments of `by_the_kernel`.
ways = st.tuples(st.booleans(), st.sampled_from([None, False]))


def positions(pieces: Pieces) -> tuple[list[int], list[int]]:
    """Every index of an axis, one by one: in the source and in the target."""
    source, target = [], []
    bases = len(pieces.length)
    for q in range(pieces.count):
        r, period = q % bases, q // bases
        length = pieces.last if q == pieces.count - 1 else int(pieces.length[r])
        for i in range(pieces.skip if q == 0 else 0, length):
            source.append(int(pieces.source[r]) + period * pieces.source_step + i)
            target.append(int(pieces.target[r]) + period * pieces.target_step + i)
    return source, target


def elements(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bytes of each element along one more axis, in C order."""
    # As plain bytes: NumPy copies the fields of a structured element, not the gaps between them.
    data = np.frombuffer(array.view(f"V{array.itemsize}").tobytes(), np.uint8)
    return data.reshape(*array.shape, array.itemsize)


def naive_move(
    target: np.ndarray[Any, Any], source: np.ndarray[Any, Any], pieces: Sequence[Pieces]
) -> np.ndarray[Any, Any]:
    """The bytes of `target` after the move, element by element (see :func:`elements`)."""
    result = elements(target).copy()
    if not pieces:
        return elements(source)
    tables = [positions(p) for p in pieces]
    result[np.ix_(*(t for _, t in tables))] = elements(source)[np.ix_(*(s for s, _ in tables))]
    return result


class Memory:
    """An array with any strides inside a poisoned byte buffer with guard bands."""

    def __init__(
        self,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        order: Sequence[int],
        gaps: Sequence[int],
        flips: Sequence[bool],
        shift: int,
    ) -> None:
        strides = [0] * len(shape)
        step = dtype.itemsize
        for axis in reversed(order):  # the last in `order` is densest
            step += gaps[axis]
            strides[axis] = step
            step *= max(shape[axis], 1)
        size = dtype.itemsize + sum(
            (max(n, 1) - 1) * s for n, s in zip(shape, strides, strict=True)
        )
        self.buffer = np.full(size + 2 * GUARD + shift, POISON, np.uint8)
        self.array: np.ndarray[Any, Any] = np.ndarray(
            tuple(shape), dtype, self.buffer, GUARD + shift, tuple(strides)
        )[(..., *(slice(None, None, -1 if flip else 1) for flip in flips))]

    def fill(self, seed: int) -> None:
        """Random bytes everywhere."""
        self.buffer[:] = np.random.default_rng(seed).integers(0, 256, self.buffer.size, np.uint8)

    def poison_array(self) -> None:
        """Poison the elements of the array; what is left in the buffer is what lies outside."""
        view = np.ndarray(
            (*self.array.shape, self.array.itemsize),
            np.uint8,
            self.buffer,
            self.array.__array_interface__["data"][0] - self.buffer.ctypes.data,
            (*self.array.strides, 1),
        )
        view[...] = POISON


@st.composite
def memories(draw: st.DrawFn, shape: Sequence[int], dtype: np.dtype[Any]) -> Memory:
    """Arrays in any order of axes, padded, reversed, unaligned."""
    n = len(shape)
    return Memory(
        shape,
        dtype,
        draw(st.permutations(range(n))),
        draw(st.lists(st.sampled_from([0, 0, 0, 1, 8, 16]), min_size=n, max_size=n)),
        draw(st.lists(st.booleans(), min_size=n, max_size=n)),
        draw(st.sampled_from([0, 0, 1, 3, 8])),
    )


@st.composite
def axes(draw: st.DrawFn, longest: int = 6) -> Pieces:
    """Pieces that do not write an index twice: whole, explicit, periodic or sliced."""
    kind = draw(st.sampled_from(["whole", "explicit", "periodic", "sliced", "long"]))
    if kind == "whole":
        return Pieces.whole(draw(st.integers(0, longest)))
    if kind == "long":
        return Pieces.whole(draw(st.integers(15, 40)))
    lengths = draw(st.lists(st.integers(1, 3), min_size=0 if kind == "explicit" else 1, max_size=3))
    source, source_period = draw(layouts(lengths))
    target, target_period = draw(layouts(lengths))
    if kind == "explicit":
        return Pieces.explicit(source, target, lengths)
    count = draw(st.integers(1, 3 * len(lengths)))
    last = draw(st.integers(1, lengths[(count - 1) % len(lengths)]))
    periods = (count - 1) // len(lengths)
    for period, offsets in ((source_period, source), (target_period, target)):
        if period < 0:  # periods that run backwards start far enough from the front
            offsets[:] = [offset - periods * period for offset in offsets]
    pieces = Pieces(source, target, lengths, count, source_period, target_period, last)
    if kind == "sliced":
        lo = draw(st.integers(0, pieces.size))
        pieces = pieces.slice(lo, draw(st.integers(lo, pieces.size)))
    return pieces


@st.composite
def layouts(draw: st.DrawFn, lengths: Sequence[int]) -> tuple[list[int], int]:
    """Offsets for pieces of these lengths in any order with gaps, and a step past all of them."""
    offsets, at = [0] * len(lengths), 0
    for k in draw(st.permutations(range(len(lengths)))):
        at += draw(st.integers(0, 2))
        offsets[k] = at
        at += lengths[k]
    return offsets, draw(st.sampled_from([at, at + 1, -at]))


@st.composite
def products(draw: st.DrawFn) -> list[Pieces]:
    """Pieces for 0 to 6 axes, not too many elements in all."""
    ndim = draw(st.integers(0, 6))
    result: list[Pieces] = []
    total = 1
    for _ in range(ndim):
        p = draw(axes())
        reach = max(p.source_extent[1], p.target_extent[1], 1) + 2
        if total * reach > 20_000:
            p, reach = Pieces.whole(1), 3
        total *= reach
        result.append(p)
    return result


class Subclass(np.ndarray):
    """An array of a type of its own."""


class Convertible:
    """What NumPy makes an array of."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return self.array


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array


WRAPPED: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "an array": lambda array: array,
    # NumPy makes an array of a list without writing the padding of extended precision.
    "a list": lambda array: array if array.dtype.char in "gG" else array.tolist(),
    "masked": np.ma.masked_array,
    "a matrix": lambda array: array.view(np.matrix) if array.ndim == 2 else array,
    "a subclass": lambda array: array.view(Subclass),
    "convertible": Convertible,
    "read-only": read_only,
    "of objects": lambda array: array.astype(object),
}


@st.composite
def views(
    draw: st.DrawFn, shape: Sequence[int], dtype: np.dtype[Any]
) -> Callable[[bytearray], Any]:
    """Makers of what is an array in some memory of 4 KiB, or something like that."""
    n = len(shape)
    strides, step = [0] * n, dtype.itemsize
    for axis in draw(st.permutations(range(n))):
        step += draw(st.sampled_from([0, 0, 0, 1, 8]))
        strides[axis] = step * draw(st.sampled_from([1, 1, 1, 1, 1, 0]))
        step *= max(shape[axis], 1)
    flips = [slice(None, None, draw(st.sampled_from([1, 1, -1]))) for _ in shape]
    start = draw(st.sampled_from([0, 8, 13, 100, 2000, 2008, 2100]))
    wrap = WRAPPED[draw(st.sampled_from(["an array"] * 12 + list(WRAPPED)))]
    return lambda memory: wrap(
        np.ndarray(tuple(shape), dtype, memory, start, tuple(strides))[(..., *flips)]
    )


@st.composite
def pairs(
    draw: st.DrawFn, dtypes: Sequence[Any]
) -> tuple[tuple[int, ...], Callable[[bytearray], tuple[Any, Any]]]:
    """Axes, and makers of a source and of what is to take it in that order, which may not fit.

    Both lie in one memory: apart, interleaved or one upon the other.
    """
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 2, 3, 3]), max_size=3))
    axes = tuple(draw(st.permutations(range(len(shape)))))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    wanted = [shape[axis] for axis in axes]
    others = [wanted, wanted[1:], [1, *wanted], [1 for _ in wanted], [n + 1 for n in wanted]]
    given = draw(st.sampled_from([wanted] * 15 + others))
    types = [dtype, dtype.newbyteorder(), np.dtype("f8"), np.dtype(f"V{dtype.itemsize}")]
    source = draw(views(shape, dtype))
    target = draw(views(given, draw(st.sampled_from([dtype] * 15 + types))))
    return axes, lambda memory: (source(memory), target(memory))


def outcome(work: Callable[[bytearray], Any]) -> tuple[Any, ...]:
    """What comes of work in memory of 4 KiB: what it returns or raises, and what is there then."""
    memory = bytearray(bytes(range(1, 60)) * 70)[:4096]  # small numbers of any type, and no NaN
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            result = work(memory)
        except (TypeError, ValueError) as error:
            # Addresses, and what NumPy calls what it won't cast, may differ.
            result = type(error), re.sub("0x[0-9a-f]+|scalar|array data", "it", str(error))
    return result, bytes(memory)
