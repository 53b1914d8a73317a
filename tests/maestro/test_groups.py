"""Groups and dependencies as apps use them."""

from __future__ import annotations

import numpy as np
import pytest

import maestro
from layouts import Distribution
from tests.maestro.conftest import check
from tests.maestro.stranger import stranger
from tests.maestro.waiting import in_thread, until

ROWS = Distribution((6, 4), (3, 1))
COLUMNS = Distribution((6, 4), (1, 2), order="F")
FIELD = np.arange(24.0).reshape(6, 4)


@pytest.fixture(scope="module")
def pool():
    with maestro.connect(component="pool") as app:
        yield app


@pytest.fixture
def app(pool):
    with maestro.connect(pool.address, component="app") as app:
        yield app
    until(lambda: not pool.pool)
    check(pool)


@pytest.fixture
def other(pool):
    with maestro.connect(pool.address, component="other") as app:
        yield app


def same(data, wanted):
    assert data.keys() == wanted.keys()
    for name, each in wanted.items():
        if isinstance(each, dict):
            same(data[name], each)
        else:
            assert np.array_equal(data[name], each)


def test_a_group_goes_in_and_out_as_one(app, other):
    forecast = app.group("forecast", [app.declare("t2m", ROWS), app.declare("note")])
    forecast.add(app.declare("u10"))
    assert [cdo.name for cdo in forecast] == ["t2m", "note", "u10"]
    forecast.offer({"t2m": ROWS.split(FIELD), "u10": FIELD[0]})
    assert forecast.state == forecast["t2m"].state == "offered"
    assert set(other.pool) == {"forecast", "t2m", "note", "u10"}
    wanted = other.group("forecast")
    wanted.require()
    same(wanted.demand(timeout=300), {"t2m": FIELD, "note": None, "u10": FIELD[0]})
    assert [cdo.name for cdo in wanted] == ["t2m", "note", "u10"]
    assert wanted["t2m"].report.bytes == FIELD.nbytes
    forecast.withdraw(timeout=300)
    assert forecast["u10"].state == "withdrawn"
    assert not other.pool
    forecast.dispose()
    wanted.dispose()
    assert forecast["u10"].state == "disposed"


def test_members_come_in_the_layouts_that_their_handles_declare(app, other):
    group = app.group("g", [app.declare("t2m", ROWS), app.declare("u10", ROWS)])
    group.offer({name: ROWS.split(FIELD) for name in ("t2m", "u10")})
    mine = other.group("mine", [other.declare("t2m", COLUMNS, rank=1), other.declare("u10")])
    data = mine.demand(timeout=300)
    assert np.array_equal(data["t2m"], FIELD[:, 2:])
    assert data["t2m"].flags.f_contiguous
    assert np.array_equal(data["u10"], FIELD)
    assert mine["t2m"].state == "demanded"


def test_groups_of_groups_come_as_they_are_nested(app, other):
    wind = app.group("wind", [app.declare("u10"), app.declare("v10")])
    app.group("all", [wind, app.declare("t2m")]).offer({"u10": [1], "v10": [2], "t2m": [3]})
    wanted = other.group("all")
    same(wanted.demand(timeout=300), {"wind": {"u10": [1], "v10": [2]}, "t2m": [3]})
    assert [cdo.name for cdo in wanted["wind"]] == ["u10", "v10"]
    some = other.group("some", [other.group("wind"), other.declare("t2m")])
    same(some.demand(timeout=300), {"wind": {"u10": [1], "v10": [2]}, "t2m": [3]})
    own = other.group("own", [other.group("inner", [other.declare("v10")])])
    same(own.demand(timeout=300), {"inner": {"v10": [2]}})


def test_a_group_may_be_written_in_the_pools_memory(app, other):
    cdo = app.declare("large", Distribution((100, 1000)), "f8")
    group = app.group("g", [cdo])
    (part,) = cdo.empty()
    part[...] = 7
    group.offer()
    assert not part.flags.writeable
    assert other.group("g").demand(timeout=300)["large"].sum() == 7e5
    group.withdraw(timeout=300)
    assert part.flags.writeable


def test_what_is_refused_leaves_all_members_as_they_were(app, other):
    taken = other.offer("u10", [1.0])
    group = app.group("g", [app.declare("t2m", attributes={"step": 1}), app.declare("u10")])
    with pytest.raises(maestro.AlreadyOfferedError, match="'u10'"):
        group.offer({"t2m": [1.0], "u10": [2.0]})
    assert [each.state for each in (group, *group)] == ["declared"] * 3
    assert set(app.pool) == {"u10"}
    group["t2m"].attributes["step"] = 2  # not sealed
    taken.withdraw()
    group.offer({"t2m": [1.0], "u10": [2.0]})
    with pytest.raises(maestro.LifecycleError, match=r"'t2m'.*'g'.*expected that one to be with"):
        group["t2m"].withdraw()
    with pytest.raises(maestro.LifecycleError, match="expected the group 'g' to be disposed of"):
        group["t2m"].dispose()
    wanted = other.group("g")
    wanted.require()
    with pytest.raises(maestro.PoolTimeoutError, match=r"'g': not withdrawn.*by other-"):
        group.withdraw(timeout=0.05)
    assert [each.state for each in (group, *group)] == ["offered"] * 3
    wait = in_thread(group.withdraw)
    wanted.retract()
    wait()


def test_who_can_be_a_member(app, other):
    group = app.group("g", [app.declare("t2m")])
    with pytest.raises(maestro.InconsistentError, match="'g': 'u10' is a handle of app 'other-"):
        group.add(other.declare("u10"))
    with pytest.raises(TypeError, match="'g': got 'u10', expected handles"):
        group.add("u10")
    with pytest.raises(maestro.InconsistentError, match="has a member 't2m' already"):
        group.add(app.declare("t2m"))
    with pytest.raises(maestro.InconsistentError, match="'g': 'g' can't be its member: 'g' > 'g'"):
        group.add(group)
    outer = app.group("outer", [group])
    with pytest.raises(maestro.InconsistentError, match="'outer' > 'g' > 'outer'"):
        group.add(outer)
    with pytest.raises(maestro.LifecycleError, match="'t2m' is in group 'g' already"):
        app.group("h", [group["t2m"]])
    sealed = app.declare("sealed")
    sealed.seal()
    with pytest.raises(maestro.LifecycleError, match="'sealed': seal was called while"):
        group.add(sealed)
    assert [cdo.name for cdo in group] == ["t2m"]
    group["t2m"].seal()
    with pytest.raises(maestro.LifecycleError, match="'t2m': it is sealed, expected declared"):
        outer.offer()
    with pytest.raises(TypeError, match="name: got 3"):
        app.group(3)


def test_data_of_what_is_no_member_is_refused(app):
    group = app.group("g", [app.declare("t2m")])
    with pytest.raises(maestro.InconsistentError, match=r"'g': data of 'u10' was given.*'t2m'"):
        group.offer({"u10": [1.0]})


def test_what_is_no_group_is_not_demanded_as_one(app, other):
    app.offer("t2m", [1.0])
    wanted = other.group("t2m")
    with pytest.raises(maestro.InconsistentError, match="'t2m': it is a CDO, expected a group"):
        wanted.demand(timeout=300)
    assert wanted.state == "declared"


def test_an_empty_group_is_a_barrier(app, other):
    wanted = other.group("barrier")
    wait = in_thread(wanted.demand)
    app.group("barrier").offer()
    assert wait() == {}


def test_a_group_call_is_few_messages(app, monkeypatch):
    """Five for all of its life, whatever its size."""
    said = []
    wire = app._link._asker.wire

    def counted(send):
        return lambda number, word, *rest: (said.append(word), send(number, word, *rest))

    for how in ("send", "send_later"):
        monkeypatch.setattr(wire, how, counted(getattr(wire, how)))
    group = app.group("g", [app.declare(f"m{k}") for k in range(50)])
    group.offer()
    wanted = app.group("g")
    assert len(wanted.demand(timeout=300)) == 50
    group.withdraw()
    group.dispose()
    assert said == ["offergroup", "stored", "demand", "received", "withdraw", "dispose"]


def test_what_a_cdo_depends_on_comes_along(app, other):
    app.offer("grid", FIELD)
    app.declare("rain", depends=["grid"]).offer(FIELD + 1)
    want = other.declare("rain")
    assert np.array_equal(want.demand(timeout=300), FIELD + 1)
    same(want.dependencies, {"grid": FIELD})
    assert np.array_equal(other.demand("rain"), FIELD + 1)
    laid = other.declare("rain", COLUMNS, rank=0, depends=[other.declare("grid", COLUMNS)])
    laid.require()
    assert np.array_equal(laid.demand(timeout=300), FIELD[:, :2] + 1)
    assert [part.shape for part in laid.dependencies["grid"]] == [(6, 2), (6, 2)]
    group = other.group("g", [other.declare("rain")])
    same(group.demand(timeout=300), {"rain": FIELD + 1})
    same(group.dependencies, {"grid": FIELD})


def test_an_array_in_one_line_comes_without_what_it_depends_on(app, other):
    app.declare("rain", depends=["grid"]).offer(FIELD)
    assert np.array_equal(other.demand("rain", timeout=300), FIELD)


def test_what_is_needed_is_withdrawn_last(app, other):
    grid = other.offer("grid", FIELD)
    rain = app.declare("rain", depends=["grid"])
    rain.offer(FIELD)
    with pytest.raises(maestro.PoolTimeoutError, match=r"'grid': not withdrawn .* by 'rain'"):
        grid.withdraw(timeout=0.05)
    wait = in_thread(grid.withdraw)
    rain.withdraw()
    wait()
    with pytest.raises(maestro.InconsistentError, match="cyclic dependencies: 'a' > 'a'"):
        app.declare("a", depends=["a"]).seal()
    with pytest.raises(TypeError, match="'a': depends: got 3"):
        app.declare("a", depends=[3])


@pytest.mark.parametrize("word", ["seals", "offergroup"])
def test_messages_that_are_no_calls_of_groups_are_refused(app, word):
    async def ask(fields):
        async with stranger(app.client) as say:
            return await say(word, fields)

    for parts in (None, 3, "x", [3], [{}], [{"word": "leave"}], [{"app": "other"}]):
        fields = {"seals": parts} if word == "seals" else {"offers": parts, "handle": "h"}
        if word == "offergroup":
            fields["wait"] = False
        _, error = app.client.sync(ask, fields)
        assert error["type"] == "ProtocolError", (parts, error)
