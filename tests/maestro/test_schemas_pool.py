"""Schemas in use: what apps may say of their CDOs, and what others then see of it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta, timezone

import dask
import numpy as np
import pytest

import maestro
from layouts import Distribution
from maestro.apps.schemafiles import schemas_of
from maestro.decoding import decode
from maestro.schemas.reading import parse_schema
from tests.maestro.conftest import check

FIELDS = """
schema-name: My fields
schema-version: 1
schema-namespace: ".maestro.my."
maestro-attributes:
  - {key: step, type: int(min=0), required: True}
  - {key: units, type: str(), default: K}
  - {key: valid, type: timestamp()}
"""
STEP, UNITS, VALID = (f".maestro.my.{key}" for key in ("step", "units", "valid"))


@pytest.fixture(scope="module")
def pool():
    with maestro.connect(component="pool") as app:
        yield app


@pytest.fixture
def connect(pool):
    apps = []

    def joined(**how):
        apps.append(maestro.connect(pool.address, **how))
        return apps[-1]

    yield joined
    for app in apps:
        app.leave()
    check(pool)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "fields.yaml"
    path.write_text(FIELDS)
    return path


def test_attributes_are_checked_where_they_are_set(connect, file):
    app = connect(schemas=file)
    wrong = r"'t2m': attribute '.maestro.my.step': -1 is less than 0, expected int\(min=0\) as sch"
    with pytest.raises(maestro.SchemaError, match=wrong):
        app.declare("t2m", attributes={STEP: -1})
    cdo = app.declare("t2m", attributes={STEP: 6})
    with pytest.raises(maestro.SchemaError, match="less than 0"):
        cdo.attributes[STEP] = -1
    assert cdo.attributes == {STEP: 6}, "what is refused changes nothing"


def test_defaults_are_seen_by_everyone_but_give_way_to_what_is_set(connect, file):
    app, other = connect(schemas=file), connect()
    events = other.subscribe(f'(and ({UNITS} = "K") ({STEP} = 6))', kinds="offer")
    app.offer("t2m", np.arange(3.0), attributes={STEP: 6})
    app.offer("rain", np.arange(3.0), attributes={STEP: 6, UNITS: "mm"})
    app.offer("u10", np.arange(3.0), attributes={STEP: 6})
    assert [event.name for event in events.wait(timeout=300, most=1)] == ["t2m"]
    assert [event.name for event in events.wait(timeout=300, most=1)] == ["u10"]
    want = connect(schemas=file).declare("rain")  # its default is K, and no contradiction
    assert want.demand(timeout=300) is not None
    assert want.attributes == {STEP: 6, UNITS: "mm"}
    bare = other.declare("t2m")
    bare.demand(timeout=300)
    assert bare.attributes == {STEP: 6, UNITS: "K"}
    assert other.pool["t2m"].attributes == {STEP: 6, UNITS: "K"}


def test_what_one_rank_sets_goes_before_the_default_of_another(connect, file):
    app = connect(schemas=file)
    halves = Distribution((6,), (2,))
    for rank, said in enumerate([{UNITS: "C"}, {}]):
        cdo = app.declare("halves", halves, rank=rank, attributes={STEP: 0, **said})
        cdo.offer(np.zeros(3))
    assert app.pool["halves"].attributes[UNITS] == "C"


def test_a_handle_that_could_not_be_sealed_is_as_it_was(connect, file):
    app = connect(schemas=file)
    app.declare("x", attributes={STEP: 1}).seal()
    cdo = app.declare("x", attributes={STEP: 2})
    with pytest.raises(maestro.InconsistentError, match="step"):
        cdo.seal()
    assert cdo.attributes == {STEP: 2}
    cdo.attributes[STEP] = 1
    cdo.seal()
    assert cdo.attributes == {STEP: 1, UNITS: "K"}


def test_what_is_required_is_missed_by_those_who_offer(connect, file, caplog):
    def warnings():
        return [record.message for record in caplog.records if record.name == "maestro.schemas"]

    app = connect(schemas=[file])
    with caplog.at_level(logging.WARNING, "maestro.schemas"):
        app.declare("s").require()
        assert not warnings()
        app.offer("s", np.arange(2))
    (warning,) = warnings()
    assert warning.startswith("CDO 's': attribute '.maestro.my.step' is not set, expected int")


def test_an_offer_without_what_is_required_is_refused_if_configured(connect, file):
    with dask.config.set({"maestro.schemas.missing": "refuse"}):
        app = connect(schemas=[file])
    cdo = app.declare("r")
    with pytest.raises(maestro.SchemaError, match=r"'r': attribute '.maestro.my.step' is not set"):
        cdo.offer(np.arange(2))
    assert "r" not in app.pool
    assert cdo.state == "declared"
    cdo.attributes[STEP] = 3
    cdo.offer(np.arange(2))


def test_unknown_attributes_are_refused_or_dropped_as_configured(connect, file, monkeypatch):
    with dask.config.set({"maestro.schemas.unknown": "refuse", "maestro.schemas.files": [file]}):
        app = connect()
    with pytest.raises(maestro.SchemaError, match="'t': attribute 'mine' is unknown"):
        app.declare("t", attributes={"mine": 1})
    monkeypatch.setenv("MSTRO_DROP_UNKNOWN_ATTRIBUTES", "1")
    cdo = connect(schemas=file).declare("t", attributes={STEP: 1, "mine": 1})
    cdo.seal()
    assert cdo.attributes == {STEP: 1, UNITS: "K"}


def test_schemas_are_found_as_the_environment_says(file, monkeypatch):
    monkeypatch.setenv("MSTRO_SCHEMA_PATH", f"/nowhere:{file.parent}")
    monkeypatch.setenv("MSTRO_SCHEMA_LIST", file.name)
    assert [schema.name for schema in schemas_of().schemas] == ["My fields"]
    assert [schema.name for schema in schemas_of(parse_schema(FIELDS)).schemas] == ["My fields"]
    monkeypatch.setenv("MSTRO_SCHEMA_LIST", "other.yaml")
    with pytest.raises(maestro.SchemaError, match=r"'other.yaml': there is no such file"):
        maestro.connect()


def test_times_may_be_given_as_such(connect, file):
    app = connect(schemas=file)
    noon = datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    cdo = app.declare("d", attributes={VALID: noon})
    assert cdo.attributes[VALID] == "2026-01-01T13:00:00+01:00"
    cdo.attributes[VALID] = datetime(2026, 1, 1, tzinfo=UTC)
    assert cdo.attributes[VALID] == "2026-01-01T00:00:00Z"
    with pytest.raises(TypeError, match="expected a time with its zone"):
        cdo.attributes[VALID] = datetime(2026, 1, 1)


def test_what_is_maestros_own_cannot_be_set(connect, file):
    app = connect(schemas=file)
    with pytest.raises(maestro.SchemaError, match=r"'c'.*'d', expected 'c'.*maestro's own"):
        app.declare("c", attributes={".maestro.core.cdo.name": "d"})
    cdo = app.declare("c", attributes={".maestro.core.cdo.name": "c", STEP: 0})
    cdo.seal()
    assert cdo.attributes == {STEP: 0, UNITS: "K"}


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "attributes",
    [{".maestro.core.cdo.name": "d"}, {1: 2}, {"deep": nested(300)}, {"map": {1: 2}}, {"o": 2**70}],
)
@pytest.mark.parametrize("field", ["attributes", "defaults"])
def test_other_peoples_clients_cannot_set_it_either(field, attributes):
    fields = {"app": "a", "handle": "h", "name": "c", "rank": None, "dtype": None}
    fields |= {"distribution": None, "attributes": {}, "defaults": {}}
    fields |= {"depends": [], "group": False, "members": [], "push": False}
    assert decode("seal", 1, fields).name == "c"
    with pytest.raises(maestro.ProtocolError, match=field):
        decode("seal", 1, {**fields, field: attributes})
