"""What is in a pool, as the commands say it."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from layouts import Distribution

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
