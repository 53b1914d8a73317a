"""The librarian: what was stored is in the pool again, as it was, or wherever else it is wanted."""

from __future__ import annotations

import shutil

import dask
import numpy as np
import pytest
import zarr

import maestro
import maestro.stores
from layouts import Block, BlockCyclic, Cyclic, Distribution, Replicated, Tiled
from tests.maestro.conftest import check
from tests.maestro.stores.s3 import s3_server
from tests.maestro.waiting import until

CORNER = (slice(3, 5), slice(2, 4))
FIELD = np.arange(60 * 40, dtype="f8").reshape(60, 40)


@pytest.fixture(autouse=True)
def small_objects():
    with dask.config.set({"maestro.stores.shard": "4 kB", "maestro.stores.chunk": "1 kB"}):
        yield


@pytest.fixture
def pool(cluster):
    with maestro.connect(cluster.scheduler_address, component="test") as app:
        yield app
        check(app)


@pytest.fixture
def archived(pool, tmp_path):
    """An archive of CDOs of several sorts."""
    where = tmp_path / "run.zarr"
    cyclic = Distribution(FIELD.shape, (2, 3), (Cyclic(), BlockCyclic(7)), "F")
    with maestro.Archiver(pool, where):
        for name, layout, dtype in (
            ("t2m", cyclic, "f8"),
            ("u10", Distribution(FIELD.shape, (4, 1)), ">i4"),
            ("x/y", Distribution(FIELD.shape, order=Tiled((8, 8))), "longdouble"),
        ):
            cdo = pool.declare(name, layout, attributes={"units": "K", "raw": b"1", "name": name})
            cdo.offer(layout.split(FIELD.astype(dtype)))
            cdo.withdraw()
        pool.offer("no data", attributes={"step": 6}).withdraw()
        pool.offer("empty", np.zeros((0, 3), "i2")).withdraw()
    return where


def test_everything_as_it_was(pool, archived):
    with maestro.Librarian(pool, archived) as librarian:
        assert sorted(librarian) == ["empty", "no data", "t2m", "u10", "x/y"]
        staged = {cdo.name: cdo for cdo in librarian.stage_all()}
        listed = pool.pool
        for name, dtype in (("t2m", "f8"), ("u10", ">i4"), ("x/y", "longdouble")):
            assert listed[name].distribution == librarian[name].distribution
            assert listed[name].dtype == np.dtype(dtype)
            assert listed[name].attributes == {"units": "K", "raw": b"1", "name": name}
            assert np.array_equal(pool.demand(name), FIELD)
        assert listed["t2m"].distribution.order == "F"
        assert listed["x/y"].distribution.order == Tiled((8, 8))
        assert listed["no data"].attributes == {"step": 6}
        assert pool.demand("empty").shape == (0, 3)
        assert staged["t2m"].state == "offered"
    assert not pool.pool


@pytest.mark.parametrize(
    "layout",
    [
        Distribution(FIELD.shape, (1, 3), order="F"),
        Distribution(FIELD.shape, (2, 2), (Cyclic(), BlockCyclic(3))),
        Distribution(FIELD.shape, (2, 2), (Replicated(), Block()), "F"),
        Distribution(FIELD.shape, (3, 1), order=Tiled((7, 5), inner="F")),
    ],
    ids=str,
)
def test_in_any_distribution_and_order(pool, archived, layout):
    with maestro.Librarian(pool, archived) as librarian:
        librarian.stage("t2m", layout)
        assert pool.pool["t2m"].distribution == layout
        cdo = pool.declare("t2m", layout)
        for part, expected in zip(cdo.demand(), layout.split(FIELD), strict=True):
            assert np.array_equal(np.asarray(part), np.asarray(expected))
        assert {t.transport for t in cdo.report.transfers} <= {"host", "network"}
        cdo.dispose()


def test_a_selector_and_an_order(pool, archived):
    with maestro.Librarian(pool, archived) as librarian:
        staged = librarian.stage_all('(name = "u10")', order="F")
        assert [cdo.name for cdo in staged] == ["u10"]
        assert pool.pool["u10"].distribution.order == "F"


def test_what_stays_in_the_store(pool, archived):
    """It is offered without a byte in memory, and read by whoever demands it."""
    with maestro.Librarian(pool, archived) as librarian:
        for name in ("t2m", "u10", "x/y", "empty", "no data"):
            librarian.stage(name, reads=False)
        assert sum(node["used"] for node in pool.pool.nodes.values()) == 0
        for name in ("t2m", "u10", "x/y"):
            assert np.array_equal(pool.demand(name, order="F"), FIELD)
            assert np.array_equal(
                pool.demand(name, region=(slice(7, 9), slice(30, 40))), FIELD[7:9, 30:]
            )
        cdo = pool.declare("t2m", Distribution(FIELD.shape, (1, 3)), rank=1)
        assert np.array_equal(cdo.demand(), FIELD[:, 14:28])
        assert {t.transport for t in cdo.report.transfers} == {"store"}
        assert "from a store" in str(cdo.report)
        array = pool.declare("t2m", Distribution(FIELD.shape, (2, 2))).demand_dask()
        assert np.array_equal(pool.client.compute(array).result(), FIELD)
    assert zarr.open_array(archived, path="t2m", mode="r").shape == FIELD.shape  # it is still there


def test_from_pool_to_archive_to_pool_to_archive(pool, archived, tmp_path):
    """What stays in a store is archived like all else; both archives hold the same."""
    with maestro.Librarian(pool, archived) as librarian:
        librarian.stage("t2m", reads=False)
        with maestro.Archiver(pool, tmp_path / "again.zarr") as archiver:
            archiver.wait(1, timeout=300)
    again = zarr.open_array(tmp_path / "again.zarr", path="t2m", mode="r")
    assert np.array_equal(again[...], FIELD)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_stores_of_other_programs(pool, tmp_path, zarr_format):
    root = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=zarr_format)
    for path in ("t2m", "deep/er"):
        array = root.create_array(path, shape=FIELD.shape, dtype="f4", chunks=(13, 40))
        array[:50] = FIELD[:50]  # the rest are fill values
        array.attrs["units"] = "K"
    expected = np.where(np.arange(60)[:, np.newaxis] < 50, FIELD, 0)
    with maestro.Librarian(pool, tmp_path / "x.zarr") as librarian:
        assert list(librarian) == ["deep/er", "t2m"]
        librarian.stage("t2m", Distribution(FIELD.shape, (1, 2), order="F"))
        librarian.stage("deep/er", reads=False)
        for name in librarian:
            assert np.array_equal(pool.demand(name), expected.astype("f4"))
            assert pool.pool[name].attributes["units"] == "K"


def test_over_an_object_store(pool, archived):
    with s3_server() as bucket:
        url = f"{bucket}/run.zarr"
        store = maestro.stores.open_store(url)
        for file in archived.rglob("*"):
            if file.is_file():
                store.write(str(file.relative_to(archived)), file.read_bytes())
        with maestro.connect() as app, maestro.Librarian(app, url) as librarian:  # sees the server
            librarian.stage("t2m", Distribution(FIELD.shape, (3, 1)))
            librarian.stage("u10", reads=False)
            assert np.array_equal(app.demand("t2m"), FIELD)
            assert np.array_equal(app.demand("u10", region=CORNER), FIELD[CORNER])


# Bad stores


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("damage", ["cut short", "missing"])
def test_nothing_half_read_is_offered(pool, archived, damage, reads):
    file = archived / "u10" / "c" / "2" / "0"
    file.write_bytes(file.read_bytes()[:-1])
    words = r"has \d+ bytes, expected \d+"
    if damage == "missing":
        file.unlink()
        words = "is missing"
    with maestro.Librarian(pool, archived) as librarian:
        whole = f"CDO 'u10': store file://{archived}: array 'u10': c/2/0 {words}"
        if reads:
            with pytest.raises(maestro.StoreError, match=whole):
                librarian.stage("u10")
            assert "u10" not in pool.pool
            with pytest.raises(maestro.StoreError, match=whole):
                librarian.stage_all()
            assert not pool.pool
        else:
            librarian.stage("u10", reads=False)
            with pytest.raises(maestro.StoreError, match=whole):
                pool.demand("u10", timeout=300)
            assert np.array_equal(
                pool.demand("u10", region=(slice(0, 15), slice(0, 40))), FIELD[:15]
            )
        librarian.stage("t2m")
        assert np.array_equal(pool.demand("t2m"), FIELD)


def test_what_is_no_store(pool, tmp_path):
    for make, words in (
        (lambda path: None, "it is no Zarr store"),
        (lambda path: path.mkdir(), "it is no Zarr store"),
        (
            lambda path: (path.mkdir(), (path / "zarr.json").write_text("{")),
            "can't be read",
        ),
        (lambda path: zarr.open_group(path, mode="w"), "there is no array"),
    ):
        path = tmp_path / "x"
        make(path)
        with pytest.raises(maestro.StoreError, match=f"store file://{path}: .*({words})"):
            maestro.Librarian(pool, path).open()
        shutil.rmtree(path, ignore_errors=True)


def test_metadata_that_make_no_sense_are_named(pool, archived):
    (archived / "t2m" / "zarr.json").write_text('{"attributes": {"maestro": {"format": 99}}}')
    with pytest.raises(maestro.StoreError, match=r"t2m/zarr\.json can't be read: .*format 1"):
        maestro.Librarian(pool, archived).open()


def test_what_is_not_complete_is_not_there(pool, archived):
    (archived / "t2m" / "zarr.json").unlink()
    with maestro.Librarian(pool, archived) as librarian:
        assert "t2m" not in librarian
        with pytest.raises(KeyError):
            librarian.stage("t2m")


def test_what_does_not_fit(pool, archived):
    with maestro.Librarian(pool, archived) as librarian:
        with pytest.raises(
            maestro.InconsistentError, match=r"'t2m': .* expected the shape \(60, 40\)"
        ):
            librarian.stage("t2m", Distribution((3, 4)))
        cdo = pool.declare("t2m", Distribution(FIELD.shape))
        with pytest.raises(maestro.InconsistentError, match="'t2m': distribution"):
            cdo.offer(_stored(librarian))


def _stored(librarian):
    from maestro.locations import Location
    from maestro.stores.staging import Stored

    held = librarian["t2m"]
    return Stored.lying(Location(f"file://{librarian._url}", held.path), held.layout, held.dtype)


# The store as the way from app to app


@pytest.mark.parametrize(
    "layout",
    [
        Distribution(FIELD.shape, (2, 2), (Cyclic(), Block()), "F"),
        Distribution(FIELD.shape, (1, 2), (Replicated(), Block()), Tiled((4, 4))),
    ],
    ids=str,
)
def test_parts_live_in_a_store(pool, tmp_path, layout):
    where = tmp_path / "shared"
    cdo = pool.declare("t2m", layout)
    for step in range(2):
        cdo.offer(layout.split(FIELD + step), store=str(where))
        assert sum(node["used"] for node in pool.pool.nodes.values()) == 0
        target = Distribution(FIELD.shape, (1, 3), order="F")
        want = pool.declare("t2m", target, rank=2)
        assert np.array_equal(want.demand(), FIELD[:, 28:] + step)
        assert {t.transport for t in want.report.transfers} == {"store"}
        assert np.array_equal(
            pool.demand("t2m", region=(slice(1, 2), slice(3, 5))), FIELD[1:2, 3:5] + step
        )
        cdo.withdraw()
        until(lambda: not list(where.iterdir()))  # it goes when its CDO does


def test_each_rank_from_its_own_app_and_one_in_memory(pool, tmp_path):
    layout = Distribution(FIELD.shape, (2, 1))
    parts = layout.split(FIELD)
    with maestro.connect(pool.address) as other:
        first, second = pool.declare("t2m", layout, rank=0), other.declare("t2m", layout, rank=1)
        first.offer(parts[0], store=tmp_path / "shared")
        second.offer(parts[1])
        want = pool.declare("t2m")
        assert np.array_equal(want.demand(), FIELD)
        assert {t.transport for t in want.report.transfers} == {"store", "network"}
        first.withdraw()
        second.withdraw()


def test_a_store_that_cannot_be_written_to(pool, tmp_path):
    (tmp_path / "file").touch()
    cdo = pool.declare("t2m")
    with pytest.raises(maestro.StoreError, match="file/x: it cannot be made"):
        cdo.offer(FIELD, store=tmp_path / "file" / "x")
    assert "t2m" not in pool.pool
    cdo.offer(FIELD)
    cdo.withdraw()
