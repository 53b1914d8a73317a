"""What apps, the manager and Prometheus are told of what moves."""

from __future__ import annotations

import asyncio
import json
import logging
from urllib.request import urlopen

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import maestro
from layouts import Distribution
from maestro.apps.telemetry import MOST, OTHERS, Telemetry
from maestro.decoding import decode
from maestro.errors import ProtocolError
from maestro.metrics import COLLECTOR
from maestro.registry.traffic import Traffic
from maestro.report import MOVED, WAYS, Report, Transfer
from tests.maestro.conftest import check
from tests.maestro.waiting import until

ROWS = Distribution((64, 512), (4, 1))
COLUMNS = Distribution((64, 512), (1, 2), order="F")
ARRAY = np.arange(64 * 512.0).reshape(64, 512)


def test_what_an_app_did_with_each_cdo(app):
    with maestro.connect(app.address, component="other") as other:
        app.offer("t2m", ROWS.split(ARRAY), ROWS)
        app.offer("barrier")
        app.declare("part", ROWS, rank=1).offer(ROWS.split(ARRAY)[1])
        wanted = other.declare("t2m", COLUMNS)
        for _ in range(2):
            wanted.demand()
        other.demand("barrier")
        reported = wanted.report
    assert set(app.report) == {"t2m", "barrier", "part"}
    t2m = app.report["t2m"]
    assert (t2m.offers, t2m.offered, t2m.demands) == (1, ARRAY.nbytes, 0)
    assert app.report["part"].offered == ARRAY.nbytes // 4
    assert app.report["barrier"].offered == 0
    assert t2m.offering > 0
    t2m = other.report["t2m"]
    assert (t2m.offers, t2m.demands, t2m.moved.total()) == (0, 2, 2 * ARRAY.nbytes)
    assert t2m.seconds > reported.seconds > 0
    assert t2m.moved == {"host": 2 * ARRAY.nbytes}
    assert other.report.total.demands == 3
    assert str(other.report).splitlines()[-1].split()[:2] == ["in", "all"]


def test_groups_dependencies_dask_arrays_and_what_is_moved_ahead(app):
    with maestro.connect(app.address, component="other") as other:
        wind = app.group("wind", [app.declare("u"), app.declare("v", depends=["grid"])])
        wind.offer({"u": ARRAY, "v": ARRAY})
        app.offer("grid", [1.0, 2.0])
        app.offer("sst", da.from_array(ARRAY, chunks=(32, 512)))
        other.group("wind").demand()
        other.declare("sst").demand_dask()
        eager = other.declare("u", eagerness="eager")
        eager.require()
        until(lambda: other.report["u"].demands == 2)
        eager.demand()
    demanded = {name: (each.demands, each.moved.total()) for name, each in other.report.items()}
    assert demanded == {
        "u": (2, 2 * ARRAY.nbytes),
        "v": (1, ARRAY.nbytes),
        "grid": (1, 16),
        "sst": (1, ARRAY.nbytes),
    }
    offered = {name: each.offered for name, each in app.report.items()}
    assert offered == {"u": ARRAY.nbytes, "v": ARRAY.nbytes, "grid": 16, "sst": ARRAY.nbytes}


def test_what_fails_is_not_counted(app):
    app.offer("t2m", ARRAY)
    with pytest.raises(maestro.AlreadyOfferedError):
        app.offer("t2m", ARRAY)
    with pytest.raises(maestro.PoolTimeoutError):
        app.demand("never", timeout=0.01)
    assert (app.report["t2m"].offers, app.report.total.demands) == (1, 0)


def test_an_app_that_leaves_says_what_it_did(app, tmp_path, caplog):
    folder = tmp_path / "reports" / "of today"
    with (
        caplog.at_level(logging.INFO, "maestro.app"),
        dask.config.set({"maestro.telemetry.directory": str(folder)}),
        maestro.connect(app.address, component="model/1") as other,
    ):
        other.offer("t2m", ARRAY)
        other.demand("t2m")
    came, went = [text for text in caplog.messages if other.name in text]
    assert came == f"{other.name} of workflow 'default' joined {app.address}"
    assert f"1 offers of {ARRAY.nbytes / 1e6:.2f} MB; 1 demands of" in went
    (left,) = folder.iterdir()
    words = json.loads(left.read_text())
    assert words == json.loads(json.dumps(other.report.to_dict()))
    assert words["app"] == other.name
    assert words["cdos"]["t2m"]["moved"] == {"host": ARRAY.nbytes}


def test_a_report_that_cannot_be_left_is_no_failure(tmp_path, caplog):
    (tmp_path / "file").touch()
    with dask.config.set({"maestro.telemetry.directory": str(tmp_path / "file" / "folder")}):
        with maestro.connect() as app:
            pass
    assert any(f"{app.name} leaves no report: " in text for text in caplog.messages)


def test_asynchronously(app, caplog):
    async def main():
        async with maestro.connect(app.address, component="other") as other:
            await other.offer("x", [1.0])
        return other

    with caplog.at_level(logging.INFO, "maestro.app"):
        other = asyncio.run(main())
    assert other.report["x"].offered == 8
    assert any(f"{other.name} left the pool: 1 offers" in text for text in caplog.messages)


def test_more_cdos_than_are_told_apart():
    telemetry = Telemetry("model")
    for number in range(MOST + 10):
        telemetry.offered(f"t{number}", 1, 0.5)
    assert len(telemetry) == MOST + 1
    assert telemetry[OTHERS].offers == 10
    assert telemetry.total.offered == MOST + 10


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(0, 9),
            st.lists(st.tuples(st.sampled_from(["host", "network"]), st.integers(0, 99))),
            st.booleans(),
        )
    )
)
def test_the_manager_is_told_each_once(demands):
    telemetry, traffic, told = Telemetry("a"), Traffic(), 0
    for name, waited, ways, tell in demands:
        transfers = [Transfer(0, 0, "node", way, nbytes) for way, nbytes in ways]
        telemetry.demanded(Report(name, waited, 2 * waited, transfers))
        if tell:
            traffic.add("w", "c", telemetry.news())
            told += 1
    traffic.add("w", "c", telemetry.news())
    assert telemetry.news() == {}
    assert set(traffic.total) <= set(MOVED)
    assert traffic.total["demands"] == len(demands)
    assert traffic.total["waited"] == telemetry.total.waited == sum(each[1] for each in demands)
    for way in ("host", "network"):
        moved = sum(nbytes for *_, ways, _ in demands for by, nbytes in ways if by == way)
        assert traffic.total[way] == telemetry.total.moved[way] == moved


def test_no_more_components_are_told_apart_than_there_is_room_for():
    traffic = Traffic()
    for number in range(2000):
        traffic.add("w", f"c{number}", {"demands": 1})
    assert len(traffic.rows()) == 1025
    assert traffic.total["demands"] == 2000


@pytest.mark.parametrize(
    "moved",
    [{"x": 1}, {"host": -1}, {"host": "1"}, {"host": float("nan")}, {1: 1}, [1], {"host": True}],
)
def test_what_the_manager_does_not_believe(moved):
    said = {"app": "a", "handle": "h", "served": True, "stay": False, "moved": moved}
    with pytest.raises(ProtocolError, match="moved: got"):
        decode("received", 1, said)


def test_what_the_manager_knows_of_those_who_are_gone(app):
    app.offer("t2m", ARRAY)
    for _ in range(2):
        with maestro.connect(app.address, workflow="forecast", component="products") as other:
            other.demand("t2m")
    (row,) = app.pool.traffic
    assert (row["workflow"], row["component"], row["demands"]) == ("forecast", "products", 2)
    assert row["host"] == 2 * ARRAY.nbytes
    assert row["seconds"] > 0


def metrics(address, of):
    """What an endpoint says of one manager or node, by name and labels.

    Its process may have others: what a pool of another test has not given up yet.
    """
    with urlopen(f"http://{address}/metrics", timeout=300) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("maestro") and sample.labels["address"] == of:
                labels = sorted(sample.labels.items())
                values = (value for label, value in labels if label != "address")
                found[sample.name, *values] = sample.value
    return found


def endpoints(client):
    """Where scheduler and workers serve theirs."""
    info = client.scheduler_info(n_workers=-1)

    def at(address, each):
        host = address.split("://")[1].rsplit(":", 1)[0]
        return f"{host}:{each['services']['dashboard']}"

    workers = {address: at(address, worker) for address, worker in info["workers"].items()}
    return at(client.scheduler.address, info), workers


def test_prometheus(cluster):
    with maestro.connect(cluster, component="test") as app:
        manager, nodes = endpoints(app.client)
        before = metrics(manager, app.address)
        app.offer("t2m", ROWS.split(ARRAY), ROWS)
        app.demand("t2m")
        app.subscribe("(step > 6)")
        now = metrics(manager, app.address)
        assert now["maestro_manager_apps",] == 1
        assert now["maestro_manager_subscriptions",] == 1
        assert now["maestro_manager_cdos", "pooled"] == 1
        assert now["maestro_manager_cdos", "forming"] == 0
        used = {name: now["maestro_manager_node_used_bytes", name] for name in nodes}
        assert sum(used.values()) == ARRAY.nbytes
        for name, at in nodes.items():
            of_node = metrics(at, name)
            assert of_node["maestro_node_held_bytes",] == used[name]
            assert of_node["maestro_node_limit_bytes",] == app.pool.nodes[name]["limit"]
            assert of_node["maestro_node_parts",] == app.pool["t2m"].nodes.count(name)
            assert of_node["maestro_node_in_flight_bytes",] == 0

        def gone_up(*key):
            return now[key] - before[key]

        assert gone_up("maestro_manager_demands_total") == 1
        assert gone_up("maestro_manager_demand_seconds_total") > 0
        moved = [gone_up("maestro_manager_moved_bytes_total", way) for way in WAYS]
        assert sum(moved) == ARRAY.nbytes
        assert now["maestro_manager_events_total",] == app.log()[-1].serial
        check(app)


def test_those_that_are_gone_are_told_of_no_more():
    with maestro.connect() as app:
        address = app.address
        assert address in {manager.scheduler.address for manager in COLLECTOR.managers}
        assert app.pool.nodes.keys() <= {node.address for node in COLLECTOR.nodes}
        nodes = set(app.pool.nodes)
    assert address not in {manager.scheduler.address for manager in COLLECTOR.managers}
    assert not nodes & {node.address for node in COLLECTOR.nodes}
