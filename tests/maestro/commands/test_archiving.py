"""`maestro archive`, as a user runs it."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import zarr

from tests.maestro.commands.programs import Process

FIELD = np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_until_told_to_end(pool, app, tmp_path, number):
    store = tmp_path / "run.zarr"
    with Process("archive", "--pool", pool, "(step > 0)", store) as process:
        assert process.said() == f"Saves to {store} until told to end."
        app.offer("early", FIELD, attributes={"step": 0}).withdraw()
        app.offer("late", FIELD, attributes={"step": 6}).withdraw()
        assert process.line() == "late"
        status, out, err = process.end(number)
    assert (status, out, err) == (0, "", "")
    assert np.array_equal(zarr.open_group(store, mode="r")["late"][...], FIELD)


def test_so_many(run, app, tmp_path):
    have = app.offer("t2m", FIELD)
    status, out, _ = run("archive", "", tmp_path / "a.zarr", "--count", 1, "--zstd", 1)
    assert (status, out) == (0, "t2m\n")
    assert zarr.open_array(tmp_path / "a.zarr", path="t2m").compressors
    status, _, err = run("archive", "", tmp_path / "a.zarr", "--count", 1)
    assert status == 1
    assert "a.zarr: there is something already" in err
    have.withdraw()
    have.offer(FIELD)
    status, out, _ = run("archive", "", tmp_path / "a.zarr", "--resume", "--count", 1)
    assert (status, out) == (0, "t2m@2\n")
    have.withdraw()


def test_what_cannot_be_saved_is_a_failure(run, app, tmp_path):
    (tmp_path / "file").touch()
    status, _, err = run("archive", "", tmp_path / "file" / "x")
    assert status == 1
    assert "file/x: it cannot be made" in err
    assert run("archive", "(step > )", tmp_path / "x")[0] == 1
    assert not (tmp_path / "x").exists()


def test_nothing_that_matches(run, app, tmp_path):
    have = app.offer("t2m", FIELD, attributes={"step": 0})
    store = tmp_path / "run.zarr"
    status, out, err = run("archive", "(step > 0)", store, "--for", "0 s")
    assert (status, out) == (1, "")
    assert err.endswith("Error: selector: (step > 0) matched nothing\n")
    assert run("archive", "(step > 0)", store, "--resume", "--for", "0 s")[0] == 0
    assert list(zarr.open_group(store, mode="r").members()) == []
    have.withdraw()


def test_a_pool_that_is_gone(tmp_path):
    contact = tmp_path / "contact.json"
    with Process("manager", "--contact", contact) as killed:
        killed.line()
    for words in (("archive", "", tmp_path / "x"), ("stage", tmp_path / "x")):
        status, out, err = Process(*words, "--pool", contact).end()
        assert (status, out) == (1, "")
        assert err.endswith("is gone\n")
        assert not (tmp_path / "x").exists()
