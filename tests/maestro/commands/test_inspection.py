"""What is in a pool, as the commands say it."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

import maestro
from layouts import Distribution
from maestro.events import Event
from maestro.pool import Pool
from maestro.programs.overview import summed

SLABS = Distribution((12, 6), grid=(3, 1))


@pytest.fixture
def filled(app):
    """Two CDOs in the pool."""
    app.offer("t2m", SLABS.split(np.zeros((12, 6), "f4")), SLABS, {"step": 6, "units": "K"})
    app.offer("ready", attributes={"step": 12})
    return app


def test_ls(filled, run):
    status, out, err = run("ls")
    assert (status, err) == (0, "")
    t2m, ready = csv.DictReader(io.StringIO(out))
    assert (t2m["name"], t2m["bytes"], t2m["ranks"], t2m["dtype"]) == ("t2m", "288", "3", "float32")
    assert Distribution.from_dict(json.loads(t2m["distribution"])) == SLABS
    assert (ready["name"], ready["shape"], ready["bytes"]) == ("ready", "", "0")
    status, out, err = run("ls", "(step > 6)", "--format", "json")
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["ready"]
    status, out, err = run("ls", '(.maestro.core.cdo.name = "t2m")', "--format", "table")
    assert "t2m    [12, 6]   float32   288     3       test-" in out


def test_what_selectors_can_be_wrong_with(filled, run):
    assert run("ls", "(step > 12)") == (
        1,
        "",
        "Error: selector: (step > 12) matches none of 2 CDOs in the pool\n",
    )
    status, out, err = run("ls", "(step > )")
    assert (status, out) == (1, "")
    reason, text, caret = err.splitlines()
    assert reason.startswith("Error: selector: column 9: got ')', expected a number, ")
    assert (text, caret) == ("  (step > )", "          ^")


def test_nothing_in_the_pool(app, run):
    status, out, err = run("ls")
    assert (status, err) == (0, "")
    assert out.startswith("name,shape,dtype")


def test_show(filled, run):
    status, out, err = run("show", "t2m")
    assert (status, err) == (0, "")
    said = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert said["bytes"] == "288"
    assert said["in"].split() == ["one", "word", "12x6/3x1"]
    assert said["units"] == '"K"'
    assert out.count("at tcp://") == 3
    (words,) = map(json.loads, run("show", "ready", "--format", "json")[1].splitlines())
    assert words["distribution"] is None
    assert words["attributes"] == {"step": 12}


def test_show_what_is_not_there(filled, run):
    status, out, err = run("show", "t3m")
    assert (status, out) == (1, "")
    assert err == "Error: name: 't3m' is none of 2 CDOs in the pool; there is 't2m'\n"
    assert run("show", "x")[2] == "Error: name: 'x' is none of 2 CDOs in the pool\n"


def test_report(filled, run):
    with maestro.connect(filled.address, workflow="forecast", component="products") as other:
        assert other.demand("t2m").shape == (12, 6)
        other.demand("ready")
    words = json.loads(run("report", "--format", "json")[1])
    apps = {each["app"]: each for each in words["apps"]}
    own, products = apps[filled.name], apps[other.name]
    assert (own["component"], own["connected"], own["offers"]) == ("test", True, 2)
    assert (products["workflow"], products["connected"]) == ("forecast", False)
    assert (products["demands"], products["bytes demanded"]) == (2, 288)
    assert products["bytes per second"] == int(288 / products["mean time"])
    assert (words["cdos"], words["bytes"], words["forgotten"]) == (2, 288, 0)
    (moved,) = words["traffic"]
    assert (moved["workflow"], moved["component"]) == ("forecast", "products")
    assert (moved["demands"], moved["host"] + moved["network"]) == (2, 288)
    assert [room["used"] for room in words["nodes"].values()] == [288]
    assert words["events"]["offer"] >= 2
    assert not any(each["component"] == "report" and each["connected"] for each in words["apps"])
    status, out, err = run("report")
    assert (status, err) == (0, "")
    assert other.name in out
    assert "In the pool: 2 CDOs of 288 bytes." in out


def test_accounts():
    """Demands are timed from the begin to the end of their transport, whatever is between."""
    size = {".maestro.core.cdo.scope.local-size": 100}

    def event(serial, kind, time, app="a", rank=None, **payload):
        payload |= {"version": 1} if rank is None else {"version": 1, "rank": rank}
        return Event(serial, kind, "x", app, time, size, payload)

    events = [
        event(8, "transport-begin", 0.0, rank=0),
        event(9, "transport-begin", 1.0, rank=1),
        event(10, "transport-end", 2.0, rank=1, served=True),
        event(11, "transport-begin", 2.0, app="b"),
        event(12, "transport-end", 4.0, rank=0, served=True),
        event(13, "transport-end", 5.0, app="b", served=False),
        event(14, "transport-end", 6.0, app="b", served=True),  # its begin is forgotten
        event(15, "leave", 7.0),
    ]
    known = summed(Pool({"cdos": [], "nodes": {}}), events)
    assert known.forgotten == 7
    assert known.accounts["a"].row("a")["mean time"] == 2.5
    assert known.accounts["a"].row("a")["bytes per second"] == 40
    assert not known.accounts["a"].connected
    assert known.accounts["b"].row("b")["mean time"] is None
    assert known.to_dict()["apps"][1]["bytes demanded"] == 0
    assert summed(Pool({"cdos": [], "nodes": {}}), []).to_dict()["events"] == {}
