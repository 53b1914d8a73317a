"""Refined pieces against every index listed one by one."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import example, given

from kernels import PLAIN, Pieces, Tiling, refine
from tests.kernels.naive import axes, positions


@st.composite
def tilings(draw):
    extent = draw(st.integers(1, 9))
    step = extent * draw(st.integers(1, 4)) if draw(st.booleans()) else draw(st.integers(10, 40))
    return draw(st.sampled_from([PLAIN, Tiling(extent, step)]))


def lies_at(index, tiling):
    return index // tiling.extent * tiling.step + index % tiling.extent


@given(axes(longest=40), tilings(), tilings())
@example(Pieces.whole(40), Tiling(7, 30), Tiling(5, 30))
def test_every_index_lies_where_its_tile_puts_it(pieces, source, target):
    refined = refine(pieces, source, target)
    indices, targets = positions(pieces)
    assert positions(refined) == (
        [lies_at(i, source) for i in indices],
        [lies_at(i, target) for i in targets],
    )


@given(axes(longest=40), tilings(), tilings())
def test_no_more_pieces_than_edges_ask_for(pieces, source, target):
    cuts = 0
    tiled = [t.extent if t.extent != t.step else None for t in (source, target)]
    for start, to, length in zip(*pieces.expand(), strict=True):
        for i in range(1, length):
            cuts += any(
                extent is not None and (at + i) % extent == 0
                for at, extent in zip((start, to), tiled, strict=True)
            )
    assert refine(pieces, source, target).count == pieces.count + cuts


@given(st.integers(1, 9), st.integers(0, 50), st.integers(0, 50), st.integers(1, 60))
def test_one_piece_between_plain_and_tiled_keeps_one_base(extent, start, to, length):
    piece = Pieces.explicit([start], [to], [length])
    for tilings in ((PLAIN, Tiling(extent, 70)), (Tiling(extent, 70), PLAIN)):
        assert len(refine(piece, *tilings).length) == 1


def test_where_the_tile_divides_evenly_the_pieces_are_plain_axes():
    for pieces in (
        refine(Pieces.whole(8192), PLAIN, Tiling(64, 8192 * 64)),
        refine(Pieces.whole(8192), Tiling(64, 4096), PLAIN),
        refine(Pieces.whole(8192), Tiling(64, 4096), Tiling(64, 8192 * 64)),
    ):
        assert (pieces.length.tolist(), pieces.count) == ([64], 128)
        assert (pieces.last, pieces.skip) == (64, 0)


def test_a_long_axis_is_never_listed():
    n = 10**12 + 7
    for pieces in (Pieces.whole(n), Pieces([0, 7], [0, 3], [3, 2], 10**11, 10, 5, 2)):
        refined = refine(pieces, Tiling(64, 10**4), Tiling(96, 10**5))
        assert refined.size == pieces.size
        assert refined.length.size < 300


def test_gapless_tiles_and_empty_axes_stay_as_they_are():
    pieces = Pieces.whole(100)
    assert refine(pieces, PLAIN, Tiling(7, 7)) is pieces
    assert refine(Pieces.whole(0), Tiling(3, 9), PLAIN).count == 0


def test_offsets_of_indices():
    index = np.arange(-9, 30)
    assert Tiling(4, 10).offset(index).tolist() == [lies_at(i, Tiling(4, 10)) for i in index]
