from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import (
    Block,
    BlockCyclic,
    Cyclic,
    Distribution,
    Irregular,
    Replicated,
    Section,
    Tiled,
)
from layouts.notation import from_text, to_text
from tests.layouts.strategies import distributions, orders, shapes


@settings(max_examples=500, deadline=None)
@given(shapes.flatmap(lambda shape: distributions(shape, orders=orders)), st.data())
def test_what_is_written_is_read_again(distribution, data):
    assert from_text(to_text(distribution)) == distribution
    region = []
    for n in distribution.shape:
        low, high = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
        region.append(slice(low, high))
    section = distribution.section(region)
    assert from_text(to_text(section)) == section


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "8192x8192/2x2/cyclic64,cyclic64/F",
            Distribution((8192, 8192), (2, 2), (BlockCyclic(64), BlockCyclic(64)), "F"),
        ),
        ("8192x8192/4x1", Distribution((8192, 8192), (4, 1))),
        ("8192x8192/F", Distribution((8192, 8192), order="F")),
        (" 12 ", Distribution((12,))),
        ("12/3/cyclic", Distribution((12,), (3,), (Cyclic(),))),
        ("scalar", Distribution(())),
        (
            "12x5x7/2x1x3/irregular0:5:12,block,replicated/1-2-0",
            Distribution(
                (12, 5, 7), (2, 1, 3), (Irregular([0, 5, 12]), Block(), Replicated()), (1, 2, 0)
            ),
        ),
        (
            "9x9/tiled4x3:F:1-0",
            Distribution((9, 9), order=Tiled((4, 3), inner="F", outer="F")),
        ),
        ("9x9/1x1/tiled4x3", Distribution((9, 9), order=Tiled((4, 3)))),
        (
            "4/2/cyclic2@3:9",
            Distribution((4,), (2,), (Section(BlockCyclic(2), 3, 9),)),
        ),
    ],
)
def test_examples(text, expected):
    assert from_text(text) == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "shape: got ''"),
        ("8x", "shape: got '8x', expected numbers such as 8x6"),
        ("-8x6", "shape: got '-8x6'"),
        ("8x6/two", "grid: got 'two'"),
        ("8x6/2x2/cycle,block", "axes: got 'cycle', expected block, cyclic"),
        ("8x6/2x2/block", "axes: got 1 entries"),
        ("8x6/2x2/block,block/G", "order: got 'G', expected C, F, axes such as 1-2-0"),
        ("8x6/2x2/block,block/F/C", "order: got 'F'"),
        ("8x6/2x2/0-1-2", "order: got .*permutation of the 2 axes"),
        ("8x6/tiled4", "order: got .*tiles of 2 axes"),
        ("8x6/tiled4x4:tiled2x2", "order: got 'tiled4x4:tiled2x2', expected C, F or axes within"),
        ("8x6/tiledx", "order: got 'tiledx'"),
        ("8x6/2x1/irregular0:3:7,block", "the last is 7, expected the extent 8"),
    ],
)
def test_what_is_no_distribution(text, match):
    with pytest.raises(ValueError, match=match):
        from_text(text)
