"""The life cycle and its promises, through an embedded pool."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from distributed import Client, LocalCluster

import maestro
from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Replicated
from layouts.orders import in_order
from tests.maestro.waiting import demanding, in_thread, until

ARRAY = np.arange(7 * 5 * 3, dtype="f8").reshape(7, 5, 3)
SOURCE = Distribution(ARRAY.shape, (2, 2, 1), (BlockCyclic(2), Cyclic(), Block()), "C")
TARGET = Distribution(ARRAY.shape, (1, 1, 3), (Block(), Replicated(), Block()), (1, 2, 0))


def parts_equal(parts, distribution, array):
    expected = [array[np.ix_(*distribution.indices(rank))] for rank in range(distribution.size)]
    for part, wanted in zip(parts, expected, strict=True):
        assert part.dtype == wanted.dtype
        assert part.tobytes() == wanted.tobytes()
        assert in_order(part, distribution.order)


def test_all_ranks_at_once_change_distribution_and_order(app):
    have = app.declare("t2m", distribution=SOURCE, dtype="f8", attributes={"step": 6})
    have.offer(SOURCE.split(ARRAY))
    want = app.declare("t2m", distribution=TARGET)
    parts = want.demand(timeout=300)
    parts_equal(parts, TARGET, ARRAY)
    assert want.attributes == {"step": 6}
    assert want.report.bytes == sum(part.nbytes for part in parts)
    assert want.report.messages == len(want.report.transfers) > 0
    want.dispose()
    have.withdraw()
    have.dispose()
    assert len(app.pool) == 0


def test_one_rank_alone(app):
    app.offer("t2m", SOURCE.split(ARRAY), SOURCE)
    want = app.declare("t2m", distribution=TARGET, rank=1)
    part = want.demand()
    assert np.array_equal(part, ARRAY[np.ix_(*TARGET.indices(1))])
    assert in_order(part, TARGET.order)


@pytest.mark.parametrize("order", ["C", "F", (1, 2, 0)])
def test_a_whole_array_in_one_line_each(app, order):
    app.offer("u10", ARRAY.transpose(2, 0, 1)[::-1])
    result = app.demand("u10", order=order)
    assert np.array_equal(result, ARRAY.transpose(2, 0, 1)[::-1])
    assert in_order(result, order)


@pytest.mark.parametrize(
    "dtype",
    ["?", "u1", ">i2", "<f4", "c16", "M8[ns]", "S3", "U2", [("a", "u1"), ("b", ">f8", (2,))], "g"],
)
def test_any_dtype_arrives_byte_for_byte(app, dtype):
    array = np.frombuffer(bytes(range(1, 241)), np.uint8)
    size = 240 // np.dtype(dtype).itemsize // 3 * 3
    array = np.frombuffer(array.tobytes(), dtype, count=size).reshape(3, -1)
    app.offer("x", array)
    result = app.demand("x", order="F")
    assert result.dtype == array.dtype
    assert result.tobytes() == array.tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1), (2,)])
def test_scalars_empty_axes_and_more_ranks_than_indices(app, shape):
    array = np.full(shape, 7.5)
    grid = (5,) * len(shape)
    source = Distribution(shape, grid)
    target = Distribution(shape, grid, (Cyclic(),) * len(shape), "F")
    app.offer("x", source.split(array), source)
    parts_equal(app.declare("x", distribution=target).demand(), target, array)


def test_messages_are_bounded(app):
    import dask

    array = np.arange(40 * 30, dtype="f8").reshape(40, 30)
    source = Distribution(array.shape, (4, 1), (Cyclic(), Block()))
    target = Distribution(array.shape, (1, 3), (Block(), BlockCyclic(4)), "F")
    with dask.config.set({"maestro.transfer.chunk": "200 B"}):
        app.offer("x", source.split(array), source)
        want = app.declare("x", distribution=target)
        parts_equal(want.demand(), target, array)
    assert want.report.bytes == array.nbytes
    assert want.report.messages >= array.nbytes / 200


def test_a_demand_may_come_before_the_offer(app):
    result = in_thread(app.demand, "x")
    until(lambda: app._link.client.run_on_scheduler(demanding))
    app.offer("x", ARRAY)
    assert np.array_equal(result(), ARRAY)


def _withdrawing(dask_scheduler):
    cdos = dask_scheduler.extensions["maestro"].registry.cdos.values()
    return sum(len(version.withdrawing) for cdo in cdos for version in cdo.versions())


def test_withdraw_returns_once_every_requirement_is_served(app):
    want = app.declare("x")
    want.require()
    have = app.offer("x", ARRAY)
    done = in_thread(have.withdraw)
    until(lambda: app._link.client.run_on_scheduler(_withdrawing))
    assert have.state == "in withdraw"
    assert np.array_equal(want.demand(), ARRAY)
    done()
    assert have.state == "withdrawn"
    assert "x" not in app.pool


def test_what_could_not_be_fetched_is_still_required(app, monkeypatch):
    want = app.declare("x")
    want.require()
    have = app.offer("x", ARRAY)

    async def fail(*_):
        raise maestro.DataLostError("a line that is cut")

    with monkeypatch.context() as patch:
        patch.setattr("maestro.transport.transfer.fetch", fail)
        with pytest.raises(maestro.DataLostError, match="a line that is cut"):
            want.demand()
    assert want.state == "required"
    with pytest.raises(maestro.PoolTimeoutError, match="still required by test-"):
        have.withdraw(timeout=0.05)
    assert np.array_equal(want.demand(), ARRAY)
    have.withdraw()


def test_the_data_is_a_copy_on_both_sides(app):
    array = ARRAY.copy()
    have = app.offer("x", array)
    array[...] = -1
    first, second = app.demand("x"), app.demand("x")
    first[...] = -2
    have.withdraw()
    assert np.array_equal(second, ARRAY)


def test_ctrl_flow_without_data(app):
    """CDOs without data are barriers."""
    result = in_thread(app.demand, "ready")
    app.offer("ready")
    assert result() is None
    assert app.pool["ready"].shape is None
    assert "no data" in repr(app.pool)


def test_a_name_can_be_used_again_and_again(app):
    have, want = app.declare("x"), app.declare("x")
    for step in range(3):
        have.offer(ARRAY + step)
        assert np.array_equal(want.demand(), ARRAY + step)
        have.withdraw()
    have.dispose()
    want.dispose()


def test_require_retract_dispose(app):
    want = app.declare("x")
    want.require()
    want.retract()
    want.dispose()
    assert want.state == "disposed"


def test_apps_join_and_leave(app):
    with maestro.connect(app.address, workflow="forecast", component="model") as other:
        names = {(a["workflow"], a["component"]) for a in app.apps}
        assert names == {("default", "test"), ("forecast", "model")}
        other.offer("x", ARRAY)
        assert app.pool["x"].apps == [other.name]
    assert [a["app"] for a in app.apps] == [app.name]
    assert "x" not in app.pool, "what an app offered leaves with it"
    with pytest.raises(maestro.PoolLostError, match="has left"):
        other.offer("x", ARRAY)
    other.leave()


def test_what_a_leaving_app_offered_is_served_to_those_who_required_it(app):
    want = app.declare("x")
    want.require()
    with maestro.connect(app.address) as other:
        other.offer("x", ARRAY)
    assert np.array_equal(want.demand(), ARRAY)
    assert "x" not in app.pool


def test_the_pool_lists_what_is_in_it(app):
    app.offer("t2m", SOURCE.split(ARRAY), SOURCE, attributes={"step": 6})
    pool = app.pool
    assert list(pool) == ["t2m"]
    entry = pool["t2m"]
    assert (entry.shape, entry.dtype, entry.distribution) == (ARRAY.shape, ARRAY.dtype, SOURCE)
    assert (entry.nbytes, entry.attributes) == (ARRAY.nbytes, {"step": 6})
    assert len(entry.nodes) == SOURCE.size
    head, _, row = repr(pool).splitlines()
    assert head.split()[:2] == ["name", "shape"]
    assert "t2m" in row
    assert "<td>t2m</td>" in pool._repr_html_()


def test_irregular_parts_of_many_apps(app):
    source = Distribution((7, 5, 3), (3, 1, 1), (Irregular([0, 1, 1, 7]), Block(), Block()))
    others = [maestro.connect(app.address, component=f"p{rank}") for rank in range(3)]
    for rank, (other, part) in enumerate(zip(others, source.split(ARRAY), strict=True)):
        other.declare("x", source, rank=rank).offer(part)
    assert np.array_equal(app.demand("x"), ARRAY)
    for other in others:
        other.leave()


# Ways to connect


def test_a_client_or_a_cluster_will_do():
    with LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        with maestro.connect(cluster) as app:
            app.offer("x", ARRAY)
            with Client(cluster, set_as_default=False) as client:
                with maestro.connect(client) as other, maestro.connect(client) as third:
                    assert np.array_equal(other.demand("x"), ARRAY)
                    assert np.array_equal(third.demand("x"), ARRAY)
                assert client.status == "running", "the caller's client is the caller's"
        assert cluster.status.name == "running"


def test_connect_without_with():
    app = maestro.connect()
    app.offer("x", ARRAY)
    assert np.array_equal(app.demand("x"), ARRAY)
    app.leave()
    app.leave()
    assert "left" in repr(app)


def test_asynchronous_with_its_own_pool():
    async def main():
        async with maestro.connect() as app:
            await app.offer("x", SOURCE.split(ARRAY), SOURCE)
            want = app.declare("x", distribution=TARGET)
            parts_equal(await want.demand(timeout=300), TARGET, ARRAY)
            assert list(await app.pool) == ["x"]
            waits = asyncio.ensure_future(app.demand("y"))
            await app.offer("y", ARRAY)
            assert np.array_equal(await waits, ARRAY)
        await app.leave()

    asyncio.run(main())


def test_asynchronous_over_a_blocking_client_and_by_await(app):
    async def main():
        async with maestro.connect(app._link.client) as other:
            await other.offer("x", ARRAY)
        other = await maestro.connect(app.address)
        await other.offer("z", ARRAY)
        assert np.array_equal(await other.demand("z"), ARRAY)
        await other.leave()

    asyncio.run(main())


def test_blocking_within_a_running_event_loop():
    """As in Jupyter, where a loop runs in the main thread."""

    async def main():
        with maestro.connect() as app:
            app.offer("x", ARRAY)
            assert np.array_equal(app.demand("x"), ARRAY)

    asyncio.run(main())


def test_many_threads_of_one_app(app):
    app.offer("x", ARRAY)
    waits = [in_thread(app.demand, "x") for _ in range(8)]
    assert all(np.array_equal(wait(), ARRAY) for wait in waits)


def test_a_demand_that_is_cancelled_leaves_nothing_behind():
    async def main():
        async with maestro.connect() as app:
            for before in ("declared", "required"):
                want = app.declare("x")
                if before == "required":
                    await want.require()
                waits = asyncio.ensure_future(want.demand())
                while not await app._link.client.run_on_scheduler(demanding):
                    await asyncio.sleep(0.005)
                waits.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waits
                assert want.state == before
                have = await app.offer("x", ARRAY)
                assert np.array_equal(await want.demand(), ARRAY)
                await have.withdraw()
                await have.dispose()
                await want.dispose()
                assert not await app._link.client.run_on_scheduler(demanding)

    asyncio.run(main())
