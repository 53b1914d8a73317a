from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings

from layouts import Block, Cyclic, Distribution, Replicated, plan
from layouts.picture import BLOCKS, SHADES, SIDE, TOP
from tests.layouts import strategies

SVG = "{http://www.w3.org/2000/svg}"


def boxes(picture, left):
    """Column, row, width and height as shares of a map's side, and the colour, of what is on it."""
    for box in ET.fromstring(picture).iter(f"{SVG}rect"):
        if box.get("fill") in SHADES and left <= float(box.get("x")) < left + SIDE:
            x, y, width, height = (float(box.get(k)) for k in ("x", "y", "width", "height"))
            yield (x - left) / SIDE, (y - TOP) / SIDE, width / SIDE, height / SIDE, box.get("fill")


@settings(max_examples=100, deadline=None)
@given(strategies.pairs())
def test_there_is_one_for_every_plan(pair):
    root = ET.fromstring(plan(*pair).picture())
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert words[0].startswith("source: ")
    assert any(word.startswith("target: ") for word in words)


@pytest.mark.parametrize(
    "held",
    [
        Distribution((12, 10), (3, 2), (Block(), Cyclic())),
        Distribution((7, 5), (4, 2)),
        Distribution((6, 6), (2, 3), (Cyclic(), Replicated())),
    ],
)
def test_who_holds_what_is_drawn_where_it_is(held):
    """Every index lies in one box, of the colour of the rank that holds it, the first if many."""
    drawn = np.full(held.shape, "", object)
    for x, y, width, height, colour in boxes(plan(held, held).picture(), left=40.0):
        rows, columns = (
            slice(round(low * n), round((low + length) * n))
            for low, length, n in ((y, height, held.shape[0]), (x, width, held.shape[1]))
        )
        assert (drawn[rows, columns] == "").all()
        drawn[rows, columns] = colour
    for rank in reversed(range(held.size)):
        expected = np.full(drawn[np.ix_(*held.indices(rank))].shape, SHADES[rank], object)
        if Replicated() not in held.axes or rank % held.grid[1] == 0:
            assert (drawn[np.ix_(*held.indices(rank))] == expected).all()


def test_as_far_as_it_can_be_told_apart():
    """Between a million ranks and a million others, of 10^7 x 10^7 indices."""
    wide = Distribution((10**7, 10**7), (1000, 1000), (Cyclic(), Replicated()))
    tall = Distribution((10**7, 10**7), (1000, 1000))
    picture = plan(wide, tall).picture()
    assert f"axis 0: the first {BLOCKS} of 10,000,000" in picture
    assert len(list(boxes(picture, left=40.0))) == BLOCKS
    assert len(picture) < 400_000
    assert "moves" in picture
