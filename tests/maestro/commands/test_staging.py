"""`maestro stage`, as a user runs it."""

from __future__ import annotations

import signal

import numpy as np
import pytest

import maestro
from tests.maestro.commands.programs import Process

FIELD = np.arange(12.0).reshape(3, 4)


@pytest.fixture
def store(app, tmp_path):
    with maestro.Archiver(app, tmp_path / "run.zarr"):
        for step in range(3):
            app.offer(f"t2m-{step}", FIELD + step, attributes={"step": step}).withdraw()
    return tmp_path / "run.zarr"


@pytest.mark.parametrize("in_place", [True, False])
def test_until_told_to_end(pool, app, store, in_place):
    words = ["--select", "(step > 0)", *(["--in-place"] if in_place else ["--order", "F"])]
    with Process("stage", "--pool", pool, store, *words) as process:
        assert {process.line(), process.line()} == {"t2m-1", "t2m-2"}
        assert process.said() == "2 CDOs stay in the pool until told to end."
        assert len(app.pool) == 2
        assert np.array_equal(app.demand("t2m-2"), FIELD + 2)
        assert app.pool["t2m-2"].distribution.order == ("C" if in_place else "F")
        status, out, err = process.end(signal.SIGTERM)
    assert (status, out, err) == (0, "", "")
    assert not app.pool


def test_names_and_what_there_is_not(run, app, store):
    status, out, _ = run("stage", store, "t2m-1", "--for", "0 s")
    assert (status, out) == (0, "t2m-1\n")
    for words, said in (
        (("t2m-7",), "there is not t2m-7 among its 3 CDOs"),
        (("--select", "(step > 7)"), "there is not anything that (step > 7) selects"),
    ):
        status, _, err = run("stage", store, *words)
        assert status == 1
        assert said in err
    status, _, err = run("stage", store / "nothing")
    assert status == 1
    assert "nothing: it is no Zarr store" in err
