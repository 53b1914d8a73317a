"""Memory of the pool that producers write into: offered without a copy, and theirs to keep."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import maestro
from layouts import Distribution, Tiled
from layouts.orders import in_order
from maestro.arena import Arena
from maestro.nodes.holdings import Arrival, Holdings
from maestro.transport import onhost
from maestro.transport.bringing import Delivery
from tests.maestro import programs
from tests.maestro.conftest import check
from tests.maestro.test_onhost import _paths, pool
from tests.maestro.test_processes import doomed, kill
from tests.maestro.waiting import until

SHAPE = (256, 128, 4)  # 1 MiB
ROWS = Distribution(SHAPE, (4, 1, 1), order="F")
ARRAY = programs.field(ROWS)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with pool(2, tmp_path_factory.mktemp("arena")) as app:
        yield app


@pytest.fixture
def app(shared):
    yield shared
    check(shared)
    gc.collect()
    until(lambda: not any(map(len, shared.client.run(_lent).values())))


def _lent(dask_worker):
    holdings = dask_worker.extensions["maestro"].holdings
    return [*holdings.lent, *holdings._tainted]


def written(app, name="t2m"):
    cdo = app.declare(name, ROWS, "f8")
    parts = cdo.empty()
    for part, wanted in zip(parts, ROWS.split(ARRAY), strict=True):
        part[...] = wanted
    return cdo, parts


def test_what_is_written_there_is_offered_without_a_copy(app, monkeypatch):
    cdo, parts = written(app)
    assert all(in_order(part, "F") for part in parts)
    monkeypatch.setattr(onhost, "copy_part", None)
    cdo.offer()
    assert np.array_equal(app.demand("t2m"), ARRAY)
    cdo.withdraw()
    cdo.offer(parts)
    assert np.array_equal(app.demand("t2m"), ARRAY)
    cdo.withdraw()
    cdo.dispose()


def test_it_is_read_only_while_it_is_offered(app):
    cdo, parts = written(app)
    assert all(part.flags.writeable for part in parts)
    cdo.offer()
    with pytest.raises(ValueError, match="read-only"):
        parts[0][0] = 1
    cdo.withdraw()
    parts[0][...] = 7
    cdo.offer()
    assert (app.demand("t2m")[:64] == 7).all()
    cdo.withdraw()
    cdo.dispose()


def test_it_is_used_for_nothing_else_while_an_array_refers_to_it(app):
    cdo, parts = written(app)
    cdo.offer()
    cdo.withdraw()
    cdo.dispose()
    view = parts[2][5:7]
    expected = view.copy()
    del parts
    for number in range(4):
        other = app.offer(f"other-{number}", ROWS.split(ARRAY + 1), ROWS)
        other.withdraw()
    assert np.array_equal(view, expected)
    gc.collect()
    until(lambda: sum(map(len, app.client.run(_lent).values())) == 1)


def test_what_is_given_up_while_it_is_offered_stays_in_the_pool(app):
    cdo, parts = written(app)
    cdo.offer()
    cdo._lent = {}
    del parts
    gc.collect()
    until(lambda: not any(map(len, app.client.run(_lent).values())))
    assert np.array_equal(app.demand("t2m"), ARRAY)
    cdo.withdraw()
    cdo.dispose()


@given(st.permutations(["give back", "abandon", 1, 2, 3]))
@example([1, "give back", 3, 2, "abandon"])
def test_it_is_free_once_and_after_all_that_was_offered_in_it(tmp_path_factory, steps):
    """Whenever the node hears of what was withdrawn, and of what the producer has let go of."""
    arena = Arena(tmp_path_factory.mktemp("lent"), "pool", 1 << 20)
    holdings, layout = Holdings(arena, 1), Distribution((4096,))
    path = holdings.lend(4096)
    for version in (1, 2, 3):
        delivery = Delivery(version, layout, 1, (0,), 1 << 20, 1, 1.0)
        with Arrival(holdings, delivery) as arrival:
            assert arrival.segments({0: path}) == {0: path}
            assert arrival.enter() is None
    under_way = [holdings.take_out(v, [0], settled=True) for v in (1, 2, 3)]
    for number, step in enumerate(steps):
        if step == "give back":
            holdings.give_back(path)
        elif step == "abandon":  # of what was given back, this is nothing
            holdings.abandon(path)
        else:
            holdings.drop(under_way[step - 1], settled=True)
        left = steps[number + 1 :]
        gone = all(isinstance(each, str) for each in left) and len(left) < 2
        if not gone:
            assert holdings.arena.used == 4096
            other = arena.reserve(4096, 9, 0)
            assert other.path != path
            arena.discard(other)
    assert arena.used == 0
    others = {arena.reserve(4096, 9, rank).path for rank in range(3)}
    assert len(others) == 3
    assert (path in others) == (steps.index("give back") < steps.index("abandon"))
    arena.close()


def test_one_rank_and_tiles(app):
    tiled = Distribution((300, 200), (2, 1), order=Tiled((16, 16)))
    cdo = app.declare("tiles", tiled, "f8", rank=1)
    part = cdo.empty()
    part.tiles[...] = 3
    cdo.offer()
    first = app.declare("tiles", tiled, "f8", rank=0)
    first.offer(np.zeros((150, 200)))
    assert np.array_equal(app.demand("tiles")[150:], np.full((150, 200), 3.0))
    for each in (cdo, first):
        each.withdraw()
        each.dispose()


def test_small_parts_are_ordinary_arrays(app):
    cdo = app.declare("small", Distribution((4,), (2,)), "f8")
    parts = cdo.empty()
    parts[0][...], parts[1][...] = 1, 2
    cdo.offer()
    assert app.demand("small").tolist() == [1, 1, 2, 2]
    cdo.withdraw()
    cdo.dispose()


def test_nothing_to_write_into(app):
    with pytest.raises(maestro.InconsistentError, match="'x': empty: got None and dtype None"):
        app.declare("x").empty()
    huge = Distribution((1 << 40,))
    with pytest.raises(maestro.PoolFullError, match="'huge': no memory for the part of rank 0"):
        app.declare("huge", huge, "f8").empty()


def test_a_producer_that_dies_with_it(app, results):
    with doomed(programs.write_and_hang, app.address, ROWS.to_dict(), results) as process:
        assert results.get(timeout=300) == "offered"
        want = app.declare("mine", ROWS)
        want.require()
        kill(process)
    for part, wanted in zip(want.demand(timeout=300), ROWS.split(ARRAY), strict=True):
        assert np.array_equal(part, wanted)
    until(lambda: not any(app.client.run(_paths).values()))
    until(lambda: not any(map(len, app.client.run(_lent).values())))


def test_in_the_same_process():
    with maestro.connect() as app:
        cdo, _ = written(app)
        cdo.offer()
        assert np.array_equal(app.demand("t2m", order="F"), ARRAY)
