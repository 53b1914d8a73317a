"""Dask arrays into the pool and out of it, where their chunks are."""

from __future__ import annotations

import asyncio

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

import maestro
from layouts import Block, Cyclic, Distribution
from tests.maestro.conftest import check

ARRAY = np.arange(60 * 40, dtype="f8").reshape(60, 40)


@pytest.fixture(scope="module", params=[1, 3])
def cluster(request):
    with LocalCluster(
        n_workers=request.param,
        threads_per_worker=1,
        processes=request.param > 1,
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield cluster


@pytest.fixture
def app(cluster):
    with maestro.connect(cluster, component="test") as app:
        with app.client.as_current():
            yield app
        check(app)


def chunked(array, chunks):
    return da.from_array(array, chunks=chunks)


@pytest.mark.parametrize("chunks", [(20, 40), (7, 11), ((10, 50), (1, 38, 1)), -1])
def test_chunks_become_parts(app, chunks):
    array = chunked(ARRAY, chunks) + 1
    have = app.offer("t2m", array)
    assert have.distribution.size == array.npartitions
    assert np.array_equal(app.demand("t2m"), ARRAY + 1)
    have.withdraw()


def test_parts_become_chunks(app):
    have = app.offer("t2m", chunked(ARRAY, (20, 40)))
    columns = Distribution(ARRAY.shape, (1, 3))
    want = app.declare("t2m", columns)
    array = want.demand_dask(timeout=300)
    assert array.chunks == ((60,), (14, 14, 12))
    assert want.report.bytes == ARRAY.nbytes
    assert want.state == "demanded"
    have.withdraw()
    have.dispose()
    assert np.array_equal(array.compute(), ARRAY)
    assert np.array_equal((array[5:50, ::3] * 2).compute(), ARRAY[5:50, ::3] * 2)


def test_by_default_the_chunks_are_those_of_the_offer_and_stay_where_they_are(app, cluster):
    array = chunked(np.arange(120.0).reshape(4, 5, 6), (2, 5, 3)).persist()
    have = app.offer("cube", array)
    want = app.declare("cube")
    got = want.demand_dask(timeout=300)
    assert got.chunks == array.chunks
    assert np.array_equal(got.compute(), np.arange(120.0).reshape(4, 5, 6))
    client = app.client
    nodes = {r: t.node for t in want.report.transfers for r in [t.target]}
    assert want.report.kept == array.nbytes
    assert "stayed with their workers" in str(want.report)
    where = client.who_has(list(got.dask.values()))
    for rank, future in enumerate(got.dask.values()):
        assert nodes[rank] in where[future.key]
    have.withdraw()


def test_three_dimensions_to_other_chunks(app):
    cube = np.arange(13 * 9 * 4, dtype="i4").reshape(13, 9, 4)
    have = app.offer("cube", chunked(cube, (5, 4, 4)))
    target = Distribution(cube.shape, (2, 3, 2), order="F")
    got = app.declare("cube", target).demand_dask(timeout=300)
    assert got.chunks == ((7, 6), (3, 3, 3), (2, 2))
    assert np.array_equal(got.compute(), cube)
    have.withdraw()


def test_empty_chunks_and_no_axes(app):
    for name, array in (("empty", np.empty((0, 3))), ("point", np.array(7.0))):
        have = app.offer(name, da.from_array(array))
        got = app.declare(name).demand_dask(timeout=300)
        assert np.array_equal(got.compute(), array)
        have.withdraw()


def test_of_another_client(app, cluster):
    with Client(cluster) as client, client.as_current():
        array = chunked(ARRAY, (20, 20)).persist()
        have = app.offer("theirs", array * 3)
        assert np.array_equal(app.demand("theirs"), ARRAY * 3)
        have.withdraw()


def test_what_its_tasks_raise_is_raised_and_nothing_is_offered(app):
    def fail(block):
        raise ZeroDivisionError("in a chunk")

    array = chunked(ARRAY, (20, 40)).map_blocks(fail, dtype="f8", meta=np.empty((0, 0)))
    with pytest.raises(ZeroDivisionError, match="in a chunk"):
        app.offer("broken", array)
    assert "broken" not in app.pool
    app.offer("broken", ARRAY).withdraw()


def test_a_chunk_that_is_not_what_it_says(app):
    array = chunked(ARRAY, (20, 40)).map_blocks(lambda b: b[:3], meta=np.empty((0, 0)))
    with pytest.raises(maestro.InconsistentError, match=r"'lies': the chunk of rank \d has shape"):
        app.offer("lies", array)
    assert "lies" not in app.pool


def test_what_does_not_fit_what_was_declared(app):
    array = chunked(ARRAY, (20, 40))
    rows = Distribution(ARRAY.shape, (3, 1))
    have = app.declare("fits", rows)
    have.offer(array)
    have.withdraw()
    for layout, words in (
        (Distribution(ARRAY.shape, (2, 1)), r"chunks \(\(20, 20, 20\), .* expected \(\(30, 30\)"),
        (Distribution(ARRAY.shape, (3, 1), (Cyclic(), Block())), "axis 0"),
    ):
        with pytest.raises(maestro.InconsistentError, match=words):
            app.declare("other", layout).offer(array)
    with pytest.raises(maestro.InconsistentError, match="dtype float64, expected int32"):
        app.declare("other", rows, dtype="i4").offer(array)
    with pytest.raises(maestro.InconsistentError, match="for rank 1"):
        app.declare("other", rows, rank=1).offer(array)
    with pytest.raises(maestro.InconsistentError, match="compute_chunk_sizes"):
        app.offer("other", array[array > 3])
    with pytest.raises(TypeError, match="Python objects"):
        app.offer("other", da.from_array(np.array([None, 1]), chunks=1))


def test_what_is_no_layout_of_a_dask_array(app):
    have = app.offer("t2m", chunked(ARRAY, (20, 40)))
    rounds = Distribution(ARRAY.shape, (3, 1), (Cyclic(), Block()))
    with pytest.raises(maestro.InconsistentError, match=r"'t2m': .* is no layout of a Dask array"):
        app.declare("t2m", rounds).demand_dask()
    with pytest.raises(maestro.InconsistentError, match="'t2m': the handle speaks for rank 1"):
        app.declare("t2m", rounds, rank=1).demand_dask()
    with pytest.raises(maestro.PoolTimeoutError, match="'nothing'"):
        app.declare("nothing").demand_dask(timeout=0.1)
    have.withdraw()


def test_asynchronously(cluster):
    async def main():
        async with maestro.connect(cluster.scheduler_address) as app:
            have = await app.offer("async", chunked(ARRAY, (20, 20)))
            got = await app.declare("async", Distribution(ARRAY.shape, (2, 1))).demand_dask()
            whole = await app.client.compute(got)
            assert np.array_equal(whole, ARRAY)
            await have.withdraw()

    with dask.config.set({"distributed.comm.timeouts.connect": "20s"}):
        asyncio.run(main())
