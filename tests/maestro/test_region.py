"""Demands of a region: what is in it and no more, in any layout, by any way."""

from __future__ import annotations

from uuid import uuid4

import dask
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import maestro
from layouts import Block, BlockCyclic, Cyclic, Distribution, Tiled
from layouts.orders import in_order
from tests.layouts import strategies
from tests.maestro.conftest import check

ARRAY = np.arange(60 * 40, dtype="f8").reshape(60, 40)
SOURCE = Distribution(ARRAY.shape, (2, 2), (BlockCyclic(7), Cyclic()))


@pytest.fixture(params=["host", "network"])
def way(request):
    with dask.config.set(
        {"maestro.transfer.same-host": request.param == "host", "maestro.transfer.map-from": "1 B"}
    ):
        yield request.param


@pytest.fixture
def app(way):
    with maestro.connect(component="test") as app:
        yield app
        check(app)


def test_only_the_region_moves(app, way):
    app.offer("x", SOURCE.split(ARRAY), SOURCE)
    want = app.declare("x")
    box = (slice(3, 33), slice(-10, None))
    assert np.array_equal(want.demand(region=box), ARRAY[box])
    assert want.report.bytes == 30 * 10 * 8
    assert {transfer.transport for transfer in want.report.transfers} == {way}
    assert np.array_equal(want.demand(), ARRAY)


def test_in_one_line_and_another_order(app):
    app.offer("x", SOURCE.split(ARRAY), SOURCE)
    part = app.demand("x", order="F", region=(slice(10, 20), slice(5, 9)))
    assert np.array_equal(part, ARRAY[10:20, 5:9])
    assert in_order(part, "F")
    tiled = app.demand("x", order=Tiled((4, 4)), region=(slice(10, 20), slice(5, 9)))
    assert np.array_equal(np.asarray(tiled), ARRAY[10:20, 5:9])


def test_each_rank_gets_what_it_has_of_the_region(app):
    app.offer("x", SOURCE.split(ARRAY), SOURCE)
    rows = Distribution(ARRAY.shape, (3, 1), (Block(), Block()))
    box = (slice(15, 45), slice(0, 4))
    parts = app.declare("x", rows).demand(region=box)
    assert [part.shape for part in parts] == [(5, 4), (20, 4), (5, 4)]
    assert np.array_equal(np.concatenate(parts), ARRAY[box])
    assert np.array_equal(app.declare("x", rows, rank=1).demand(region=box), parts[1])
    came = dict(app.declare("x", rows).demand_parts(region=box))
    assert np.array_equal(came[2], parts[2])


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_region_of_any_layout(app, data):
    source, target = data.draw(strategies.pairs())
    box = []
    for n in source.shape:
        low = data.draw(st.integers(0, n))
        box.append(slice(low, data.draw(st.integers(low, n))))
    array = np.arange(int(np.prod(source.shape, dtype=int)), dtype="i4").reshape(source.shape)
    name = f"any-{uuid4().hex}"
    app.offer(name, source.split(array), source)
    parts = app.declare(name, target).demand(region=box)
    wanted = np.ascontiguousarray(array[tuple(box)]).reshape([s.stop - s.start for s in box])
    for part, expected in zip(parts, target.section(box).split(wanted), strict=True):
        assert np.asarray(part).tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize(
    ("region", "kind", "words"),
    [
        ((slice(0, 3),), maestro.InconsistentError, "'x': region: got 1 slices, expected one for"),
        ((slice(0, 61), slice(0, 1)), maestro.InconsistentError, r"'x': region\[0\]: got 0 to 61"),
        ((slice(0, 9, 2), slice(0, 1)), maestro.InconsistentError, r"'x': region\[0\]: its step"),
        ((3, slice(0, 1)), TypeError, r"'x': region\[0\]: got 3, expected a slice"),
        (7, TypeError, "'x': region: got 7, expected a slice for each axis"),
    ],
)
def test_regions_that_are_none(app, region, kind, words):
    app.offer("x", SOURCE.split(ARRAY), SOURCE)
    with pytest.raises(kind, match=words):
        app.demand("x", region=region)
    assert np.array_equal(app.demand("x"), ARRAY)
