"""Files that xarray reads: NetCDF and GRIB, in the pool as xarray has them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import dask
import eccodes
import iris_sample_data
import numpy as np
import pytest
import xarray as xr

import maestro
from layouts import Block, BlockCyclic, Cyclic, Distribution
from maestro.stores.datasets import Variable
from maestro.stores.store import open_store

SAMPLES = Path(iris_sample_data.path)
FIELD = np.arange(60 * 40, dtype="f4").reshape(60, 40)


@pytest.fixture
def file(tmp_path):
    """A NetCDF file: packed as shorts, with a value missing, and times."""
    values = FIELD.copy()
    values[3, 4] = np.nan
    times = ("time", np.arange(60.0), {"units": "hours since 2026-01-01"})
    data = xr.Dataset(
        {"t2m": (("time", "place"), values, {"units": "K", "range": np.array([0, 2400])})},
        {"time": times},
    )
    packing = {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -1}
    data.to_netcdf(tmp_path / "run.nc", encoding={"t2m": packing})
    return tmp_path / "run.nc"


@pytest.mark.parametrize("reads", [True, False])
def test_a_netcdf_file(app, file, reads):
    with xr.open_dataset(file, decode_times=False) as data:
        expected = data["t2m"].values
    wanted = Distribution(FIELD.shape, (2, 3), (Cyclic(), BlockCyclic(7)), "F")
    with dask.config.set({"maestro.stores.chunk": "1 kB"}), maestro.Librarian(app, file) as found:
        assert sorted(found) == ["t2m", "time"]
        assert found["t2m"].layout.size > 6  # read in many boxes
        found.stage("t2m", wanted if reads else None, reads=reads)
        found.stage("time", reads=reads)
        attributes = app.pool["t2m"].attributes
        assert (attributes["units"], attributes["range"]) == ("K", [0, 2400])
        assert attributes["dims"] == ["time", "place"]
        cdo = app.declare("t2m", wanted)
        for part, held in zip(cdo.demand(), wanted.split(expected), strict=True):
            np.testing.assert_array_equal(part, held)
        region = (slice(3, 5), slice(2, 9))
        np.testing.assert_array_equal(app.demand("t2m", region=region), expected[region])
        assert np.array_equal(app.demand("time"), np.arange(60.0))
        assert app.pool["time"].attributes["units"] == "hours since 2026-01-01"


def test_a_grib_file_into_an_archive(app, tmp_path):
    file = SAMPLES / "polar_stereo.grib2"
    shutil.copy(file, tmp_path)
    with xr.open_dataset(file, engine="cfgrib", backend_kwargs={"indexpath": ""}) as data:
        expected = data["t"].values
    layout = Distribution(expected.shape, (2, 2), (Block(), Block()), "F")
    with maestro.Librarian(app, tmp_path / file.name) as found:
        with maestro.Archiver(app, tmp_path / "run.zarr") as archiver:
            found.stage("t", layout)
            archiver.wait(1)
    with xr.open_zarr(tmp_path / "run.zarr", chunks=None) as data:
        assert np.array_equal(data["t"].values, expected)
        assert data["t"].dims == ("y", "x")
        assert data["t"].attrs["GRIB_shortName"] == "t"
    assert {path.name for path in tmp_path.iterdir()} == {file.name, "run.zarr"}  # no index


def mixed(file):
    """Messages of two parameters, at several kinds of levels and steps, in one file."""
    with open(SAMPLES / "polar_stereo.grib2", "rb") as sample:
        first = eccodes.codes_grib_new_from_file(sample)
    values = eccodes.codes_get_values(first)
    with open(file, "wb") as target:
        for name, kind, level, step in [
            ("t", "isobaricInhPa", 850, 0),
            ("t", "isobaricInhPa", 500, 0),
            ("u", "isobaricInhPa", 850, 0),
            ("t", "heightAboveGround", 2, 0),
            ("t", "surface", 0, 6),
        ]:
            message = eccodes.codes_clone(first)
            for key, value in (("shortName", name), ("typeOfLevel", kind), ("level", level)):
                eccodes.codes_set(message, key, value)
            eccodes.codes_set(message, "stepRange", str(step))
            eccodes.codes_set_values(message, values + level)
            eccodes.codes_write(message, target)
    return file


def test_a_grib_file_of_all_sorts_of_messages(app, tmp_path):
    """As cfgrib puts them together: an array of all that differ by level, or step, alone."""
    with xr.open_dataset(
        SAMPLES / "polar_stereo.grib2", engine="cfgrib", backend_kwargs={"indexpath": ""}
    ) as data:
        expected = data["t"].values
    with maestro.Librarian(app, mixed(tmp_path / "mixed.grib")) as found:
        arrays = {name: held.layout.shape for name, held in found.items() if held.layout.ndim}
        plane = expected.shape
        assert arrays == {
            **{"t.isobaricInhPa": (2, *plane), "t.surface": plane, "t2m": plane, "u": plane},
            **{"isobaricInhPa": (2,), "latitude": plane, "longitude": plane},
        }
        found.stage_all('(GRIB_shortName = "t")')
        levels = app.demand("t.isobaricInhPa")
        np.testing.assert_allclose(levels, [expected + 850, expected + 500], atol=0.1)
        surface = app.pool["t.surface"].attributes
        assert (surface["step"], surface["GRIB_typeOfLevel"]) == (6, "surface")
        np.testing.assert_allclose(app.demand("t.surface"), expected, atol=0.1)


@pytest.mark.parametrize("name", ["run.nc", "run.grib2"])
def test_a_file_in_an_object_store_is_refused_by_name(app, name):
    with pytest.raises(maestro.StoreError, match=rf"{name}: got a file in an object store"):
        maestro.Librarian(app, f"memory:///{name}").open()


def test_a_file_that_is_cut_short(app, file):
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(
        maestro.StoreError, match=r"run\.nc: it is no Zarr store, and no file that xarray reads"
    ):
        maestro.Librarian(app, file).open()


def test_a_file_that_changes_or_goes(app, file):
    """What stays there is found to be another, by whoever wants it."""
    with maestro.Librarian(app, file) as found:
        found.stage("t2m", reads=False)
        xr.Dataset({"t2m": (("x",), np.arange(3))}).to_netcdf(file)
        with pytest.raises(
            maestro.StoreError,
            match=r"CDO 't2m': store .*run\.nc: variable 't2m' has shape \(3,\).* \(60, 40\)",
        ):
            app.demand("t2m")
        file.unlink()
        with pytest.raises(maestro.StoreError, match=r"CDO 't2m': store .*run\.nc"):
            app.demand("t2m")


def test_what_is_no_such_variable(file):
    with pytest.raises(maestro.StoreError, match="variable 'u10': there is none"):
        _ = Variable(open_store(file), "u10", Distribution((3,))).dtype


def test_without_xarray(app, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(maestro.StoreError, match=r"install maestro-pool\[files\]"):
        maestro.Librarian(app, file).open()
