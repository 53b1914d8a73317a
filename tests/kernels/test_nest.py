"""The loop nest: which loops there are, and that walking them is walking the product."""

from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from kernels import Pieces
from kernels.nest import (
    BASES,
    CHUNK,
    COUNT,
    FIRST,
    GROUP,
    LAST,
    SKIP,
    SOURCE_STEP,
    SOURCE_STRIDE,
    TARGET_STEP,
    TARGET_STRIDE,
    nest,
)
from tests.kernels.naive import positions, products


def walk(n):
    """Every (source, target) byte that the tables of a nest name, in any order."""
    loops = []
    for row in n.axes:
        first, bases = row[FIRST], row[BASES]
        base = n.base[:, first : first + bases]
        p = Pieces(base[0], base[1], base[2], *row[[COUNT, SOURCE_STEP, TARGET_STEP, LAST, SKIP]])
        loop = []
        for q in range(p.count):
            r, period = q % bases, q // bases
            length = p.last if q == p.count - 1 else p.length[r]
            for i in range(p.skip if q == 0 else 0, length):
                source = p.source[r] + period * p.source_step + i * row[SOURCE_STRIDE]
                target = p.target[r] + period * p.target_step + i * row[TARGET_STRIDE]
                loop.append((int(source), int(target)))
        loops.append(loop)
    if n.inner == 2:
        loops += grouped(n)
    for steps in product(*loops):
        source = n.source_offset + sum(s for s, _ in steps)
        target = n.target_offset + sum(t for _, t in steps)
        for byte in range(n.itemsize):
            yield source + byte, target + byte


def grouped(n):
    """The steps within one index of either slow axis; the tables must repeat them."""
    rows, columns = n.axes[-2], n.axes[-1]
    count = rows[CHUNK] * rows[GROUP]
    assert n.offsets.size == count + columns[CHUNK] * columns[GROUP]
    source, target = n.offsets[:count], n.offsets[count:]
    for table, axis, stride in ((source, rows, SOURCE_STRIDE), (target, columns, TARGET_STRIDE)):
        slow = np.arange(axis[CHUNK])[:, np.newaxis] * axis[stride]
        assert (table == (slow + table[: axis[GROUP]]).ravel()).all()
    down = rows[TARGET_STRIDE] // rows[GROUP]
    across = columns[SOURCE_STRIDE] // columns[GROUP]
    return [
        [(int(source[u]), int(u * down)) for u in range(rows[GROUP])],
        [(int(u * across), int(target[u])) for u in range(columns[GROUP])],
    ]


@given(products(), st.data())
def test_the_loops_name_the_bytes_of_the_product(pieces, data):
    itemsize = data.draw(st.sampled_from([1, 3, 8]))
    while pieces and len(list(product(*(range(p.size) for p in pieces)))) > 500:
        pieces.pop()
    if any(p.size == 0 for p in pieces):
        return
    n = len(pieces)
    strides = st.sampled_from([-24, -8, 0, 1, 3, 8, 24, 80])
    source = data.draw(st.lists(strides, min_size=n, max_size=n))
    target = data.draw(st.lists(strides, min_size=n, max_size=n))
    expected = []
    for index in product(*(list(zip(*positions(p), strict=True)) for p in pieces)):
        at = sum(i * s for (i, _), s in zip(index, source, strict=True))
        to = sum(j * s for (_, j), s in zip(index, target, strict=True))
        expected += [(at + byte, to + byte) for byte in range(itemsize)]
    assert sorted(walk(nest(pieces, source, target, itemsize))) == sorted(expected)


def loops(pieces, source, target, itemsize=8, stream=False):
    n = nest(pieces, source, target, itemsize, stream)
    sizes = n.base[2, n.axes[:, FIRST]].tolist()
    return n.itemsize, n.inner, sizes


W = Pieces.whole


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        # a plain copy is one run, also backwards on both sides
        (([W(4), W(6)], (48, 8), (48, 8)), (8, 1, [1, 1, 24])),
        (([W(4), W(6)], (-48, -8), (-48, -8)), (8, 1, [1, 1, 24])),
        # a transposition is tiles: the target's row outside, its dense axis inside
        (([W(40), W(60)], (480, 8), (8, 320)), (8, 2, [1, 40, 60])),
        # the middle axis of (2, 1, 0) is the odometer
        (([W(64), W(5), W(64)], (2600, 520, 8), (8, 520, 2600)), (8, 2, [5, 64, 64])),
        # an axis that both sides could take in goes to rows that are less than a line
        (([W(51), W(51), W(64)], (51 * 64, 64, 1), (1, 51, 2601), 1), (1, 2, [1, 51, 64])),
        # two neighbours that stay neighbours are one axis
        (([W(40), W(5), W(8)], (320, 64, 8), (8, 2560, 320)), (8, 2, [1, 40, 40])),
        # pairs and triples become wider elements, and those of sizes of their own are walked
        (([W(4), W(5), W(2)], (80, 16, 8), (16, 64, 8)), (16, 4, [1, 1, 1, 4, 5])),
        (([W(4), W(5), W(3)], (120, 24, 8), (24, 96, 8)), (24, 4, [1, 1, 1, 4, 5])),
        # a broadcast axis is not the dense one
        (([W(4), W(6)], (0, 8), (48, 8)), (48, 4, [1, 1, 1, 1, 4])),
        (([W(4), W(33)], (0, 8), (264, 8)), (8, 1, [1, 4, 33])),
        # cyclic pieces are a strided axis, and so are short blocks, as elements
        (([Pieces([2], [0], [1], 9, 4, 1, 1)], (8,), (8,)), (8, 4, [1, 1, 1, 1, 9])),
        (([Pieces([0], [0], [5], 9, 20, 5, 5)], (8,), (8,)), (40, 4, [1, 1, 1, 1, 9])),
        # few rows or columns, or nothing dense, are walked: the target's dense axis innermost
        (([W(9), W(60)], (480, 8), (8, 72)), (8, 4, [1, 1, 1, 60, 9])),
        (([W(40), W(60)], (480, 8), (16, 640)), (8, 4, [1, 1, 1, 60, 40])),
        (([W(7), W(6), W(9)], (54, 9, 1), (1, 7, 42), 1), (1, 4, [1, 1, 6, 7, 9])),
        # so are sizes that no code transposes, and single bytes with gaps, however large it all is
        (([W(400), W(600)], (14400, 24), (24, 9600), 24, True), (24, 4, [1, 1, 1, 600, 400])),
        (([W(400), W(600)], (600, 1), (2, 800), 1, True), (1, 4, [1, 1, 1, 600, 400])),
        (([W(400), W(64)], (2048, 1), (2, 800), 1, True), (1, 2, [1, 400, 64])),
        # a short loop gives way to a long one close by, and a far one with the same source goes in
        (([W(999), W(3), W(2)], (6, 2, 1), (6, 1, 3), 1), (1, 4, [1, 1, 2, 3, 999])),
        (
            ([W(5), W(999), W(3), W(9)], (200, 9000, 8, 24), (999999, 216, 72, 8)),
            (8, 4, [1, 999, 5, 3, 9]),
        ),
        # runs side by side in the target are pieces of one axis, if many rows have them
        (([W(9), Pieces([0], [0], [64], 5, 90, 64, 64)], (4000, 8), (2560, 8)), (8, 1, [1, 9, 64])),
        (
            ([W(7), Pieces([0], [0], [64], 5, 90, 64, 64)], (4000, 8), (2560, 8)),
            (8, 1, [7, 5, 64]),
        ),
        (
            (
                [
                    Pieces([0, 3], [0, 2], [2, 1], 40, 9, 3, 1),
                    Pieces([0], [0], [64], 5, 90, 64, 64),
                ],
                (4000, 8),
                (2560, 8),
            ),
            (8, 1, [2, 5, 64]),
        ),
        # pieces that are not a plain axis are not walked
        (([Pieces.explicit([0, 9], [0, 3], [3, 2]), W(9)], (72, 8), (8, 40)), (8, 2, [1, 3, 9])),
        # no axes at all
        (([], (), ()), (8, 1, [1, 1, 1])),
    ],
)
def test_the_loops_chosen(given_, expected):
    assert loops(*given_) == expected


def test_tables_do_not_grow_with_the_number_of_pieces():
    huge = Pieces([0, 7], [0, 3], [3, 2], 10**8, 10, 5, 1)
    n = nest([huge, W(3)], (24, 8), (8, 8 * huge.size), 8)
    assert n.base.size < 20
