"""The archiver: what leaves the pool is saved, whole, once, as it was; or an error says why."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import subprocess
import threading
from random import Random

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client

import maestro
import maestro.stores
from layouts import Block, BlockCyclic, Cyclic, Distribution, Replicated
from maestro.stores.lanes import Lanes
from maestro.stores.stored import StoredArray
from maestro.transport import transfer
from tests.maestro.conftest import check
from tests.maestro.programs import archive
from tests.maestro.stores.s3 import s3_server
from tests.maestro.waiting import in_thread, until

FIELD = np.arange(60 * 40, dtype="f8").reshape(60, 40)
SMALL = {"maestro.stores.shard": "4 kB", "maestro.stores.chunk": "1 kB"}

#: How soon archivers try again, and how long the pool waits for one that was killed.
TIMES = {"maestro.stores.retry": "20 ms", "maestro.events.patience": "300 s"}


@pytest.fixture(autouse=True)
def small_objects():
    """Stores with many objects, and archivers that soon try again."""
    with dask.config.set({**SMALL, **TIMES}):
        yield


@pytest.fixture
def pool(cluster):
    """An app of the cluster of two worker processes."""
    with maestro.connect(cluster.scheduler_address, component="test") as app:
        yield app
        check(app)


@pytest.fixture
def where(tmp_path):
    return tmp_path / "run.zarr"


def offered(app, layout, array, name="t2m", attributes=None):
    cdo = app.declare(name, layout, attributes=attributes)
    cdo.offer(layout.split(array))
    return cdo


@pytest.mark.parametrize(
    "layout",
    [
        Distribution(FIELD.shape, (4, 1)),
        Distribution(FIELD.shape, (2, 3), (Cyclic(), BlockCyclic(7)), "F"),
        Distribution(FIELD.shape, (2, 2), (Replicated(), Block())),
    ],
    ids=str,
)
def test_opens_in_zarr_and_in_xarray_as_it_was(pool, where, layout):
    attributes = {"units": "K", "dims": ["time", "place"], "list": [1, 2.5]}
    with maestro.Archiver(pool, where) as archiver:
        offered(pool, layout, FIELD.astype("f4"), attributes=attributes).withdraw()
        assert archiver.saved == {"t2m": "t2m"}  # before the withdraw returned
        assert archiver.bytes_saved == archiver.bytes_held == FIELD.astype("f4").nbytes
    assert "t2m" not in pool.pool

    array = zarr.open_array(where, path="t2m", mode="r")
    assert array.dtype == "f4"
    assert np.array_equal(array[...], FIELD.astype("f4"))
    assert {key: array.attrs[key] for key in attributes} == attributes
    transposed = [codec for codec in _codecs(array) if codec["name"] == "transpose"]
    assert bool(transposed) == (layout.order == "F")
    assert array.attrs["maestro"]["distribution"] == layout.to_dict()

    with xr.open_zarr(where, chunks=None) as data:
        found = data["t2m"]
        assert found.dims == ("time", "place")
        assert found.dtype == "f4"
        assert np.array_equal(found.values, FIELD.astype("f4"))
        assert found.attrs["units"] == "K"


def _codecs(array):
    for codec in array.metadata.to_dict()["codecs"]:
        yield codec
        yield from codec.get("configuration", {}).get("codecs", ())


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1), "F"])
def test_order_is_kept_in_three_dimensions(app, where, order):
    array = np.arange(5 * 6 * 7, dtype=">i4").reshape(5, 6, 7)
    layout = Distribution(array.shape, (2, 1, 2), order=order)
    with maestro.Archiver(app, where):
        offered(app, layout, array).withdraw()
    found = StoredArray.found(maestro.stores.open_store(where), "t2m")
    assert (found.form.order, found.dtype) == (layout.order, np.dtype(">i4"))
    assert np.array_equal(zarr.open_array(where, path="t2m")[...], array)


@pytest.mark.parametrize("order", ["C", "F", (1, 2, 0)])
@pytest.mark.parametrize("in_place", [True, False])
def test_parts_that_lie_as_they_are_to_are_written_from_where_they_are(
    app, where, order, in_place, monkeypatch
):
    """Cut as the parts are, or their slowest axis: without a copy. Else by way of one."""
    array = np.arange(40 * 30 * 50, dtype="f8").reshape(40, 30, 50)
    axis = {"C": 0, "F": 2, (1, 2, 0): 1}[order]
    grid = [1, 1, 1]
    grid[axis] = 2
    fetched = []
    fetch = transfer.fetch
    monkeypatch.setattr(transfer, "fetch", lambda *how: fetched.append(how) or fetch(*how))
    sizes = {"maestro.stores.shard": "120 kB", "maestro.stores.chunk": "40 kB"}
    kinds = (Block(), Block(), Block()) if in_place else (BlockCyclic(3),) * 3
    layout = Distribution(array.shape, grid, kinds, order)
    with dask.config.set(sizes), maestro.Archiver(app, where):
        offered(app, layout, array).withdraw()
    assert np.array_equal(zarr.open_array(where, path="t2m")[...], array)
    assert bool(fetched) != in_place


def test_all_sorts_of_cdos(app, where):
    with maestro.Archiver(app, where) as archiver:
        app.offer("no data", attributes={"step": 6}).withdraw()
        app.offer("a/b", np.float32(2.5)).withdraw()
        app.offer("empty", np.zeros((0, 3), "i2")).withdraw()
        app.offer("long", np.arange(3, dtype="longdouble")).withdraw()
        app.offer("flags", np.array([True, False])).withdraw()
    assert set(archiver.saved.values()) == {"no data", "a/b", "empty", "long", "flags"}
    store = zarr.open_group(where, mode="r")
    assert store["no%20data"].attrs["step"] == 6
    assert store["a%2Fb"][...] == 2.5
    assert store["empty"].shape == (0, 3)
    assert store["flags"][...].tolist() == [True, False]
    found = StoredArray.found(maestro.stores.open_store(where), "long")
    assert found.dtype == np.longdouble
    assert np.array_equal(found.read(0, lambda n: np.empty(n, np.uint8)), np.arange(3))


def test_many_small_ones_share_a_word_to_their_node(app, where, monkeypatch):
    """And where one of them cannot be written, the others are saved all the same."""
    words, fails, ask, write = [], [True], Lanes._ask, StoredArray.write

    def written(array, rank, memory):
        if array.path == "t7" and fails:
            raise maestro.StoreError(f"{array.name} cannot be written")
        write(array, rank, memory)

    monkeypatch.setattr(StoredArray, "write", written)

    async def asked(lanes, node, jobs):
        words.append(len(jobs))
        while len(words) == 1 and len(jobs) + len(lanes._waiting[node]) < 60:
            await asyncio.sleep(0.001)  # the node is busy until there is something to do for all
        return await ask(lanes, node, jobs)

    monkeypatch.setattr(Lanes, "_ask", asked)
    for number in range(60):
        app.offer(f"t{number}", FIELD[:2] + number)
    with maestro.Archiver(app, where) as archiver:
        until(lambda: len(archiver.saved) == 59 and archiver.failures)
        assert list(archiver.failures) == ["t7"]
        fails.clear()
        until(lambda: len(archiver.saved) == 60)
        assert not archiver.failures
    assert max(words) > 10
    for number in range(60):
        found = zarr.open_array(where, path=f"t{number}", mode="r")
        assert np.array_equal(found[...], FIELD[:2] + number)


def test_what_is_there_when_it_comes_and_what_nobody_withdraws(pool, where):
    have = pool.offer("before", FIELD)
    with maestro.Archiver(pool, where) as archiver:
        with maestro.connect(pool.address) as guest:
            guest.offer("guest", FIELD + 1)  # and leaves
        archiver.wait(2, timeout=300)
        until(lambda: "guest" not in pool.pool)
    assert sorted(archiver.saved) == ["before", "guest"]
    have.withdraw()


def test_a_selector_selects(app, where):
    with maestro.Archiver(app, where, "(step > 3)") as archiver:
        for step in range(6):
            app.offer(f"t2m-{step}", [float(step)], attributes={"step": step}).withdraw()
    assert sorted(archiver.saved) == ["t2m-4", "t2m-5"]
    with pytest.raises(maestro.SelectorError):
        maestro.Archiver(app, where, "(step > )")


def test_a_name_that_is_offered_again_is_saved_beside_it(app, where):
    with maestro.Archiver(app, where):
        cdo = app.declare("t2m")
        for step in range(3):
            cdo.offer(FIELD + step)
            cdo.withdraw()
    for step, path in enumerate(["t2m", "t2m@2", "t2m@3"]):
        assert np.array_equal(zarr.open_array(where, path=path)[...], FIELD + step)


def test_ranks_of_separate_apps(pool, where):
    """The first rank is offered, and withdrawn, before the last one is there."""
    layout = Distribution(FIELD.shape, (2, 1))
    parts = layout.split(FIELD)
    with maestro.Archiver(pool, where) as archiver, maestro.connect(pool.address) as other:
        first = pool.declare("t2m", layout, rank=0)
        first.offer(parts[0])
        withdrawn = in_thread(first.withdraw)
        second = other.declare("t2m", layout, rank=1)
        second.offer(parts[1])
        second.withdraw()
        withdrawn()
        archiver.wait(1, timeout=300)
    assert np.array_equal(zarr.open_array(where, path="t2m")[...], FIELD)


def test_ranks_that_never_come_are_not_waited_for(app, where):
    layout = Distribution(FIELD.shape, (2, 1))
    with maestro.Archiver(app, where) as archiver:
        app.declare("t2m", layout, rank=0).offer(layout.split(FIELD)[0])
        with maestro.connect(app.address) as other:
            other.declare("u10", layout, rank=0).offer(layout.split(FIELD)[0])
    assert archiver.failures == archiver.saved == {}


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_compressed(pool, where, codec):
    configuration = {"level": 1, **({"checksum": True} if codec == "zstd" else {})}
    compressors = [{"name": codec, "configuration": configuration}]
    layout = Distribution(FIELD.shape, (3, 2), order="F")
    with maestro.Archiver(pool, where, compressors=compressors):
        offered(pool, layout, FIELD).withdraw()
    array = zarr.open_array(where, path="t2m", mode="r")
    assert array.nbytes_stored() < FIELD.nbytes / 2
    assert np.array_equal(array[...], FIELD)


def test_asynchronously(cluster, where):
    async def main():
        async with maestro.connect(cluster.scheduler_address) as app:
            async with maestro.Archiver(app, where) as archiver:
                await (await app.offer("t2m", FIELD)).withdraw()
                await archiver.wait(1)

    with dask.config.set({"distributed.comm.timeouts.connect": "20s"}):
        asyncio.run(main())
    assert np.array_equal(zarr.open_array(where, path="t2m")[...], FIELD)


def test_to_an_object_store(app):
    with s3_server() as bucket:
        url = f"{bucket}/run.zarr"
        layout = Distribution(FIELD.shape, (3, 2), order="F")
        with maestro.Archiver(app, url), maestro.connect(app.address) as other:
            with pytest.raises(
                maestro.StoreError, match=r"run\.zarr: another program writes to it"
            ):
                maestro.Archiver(other, url, resume=True).open()
            offered(app, layout, FIELD).withdraw()
        with pytest.raises(maestro.StoreExistsError, match=r"run\.zarr: there is something"):
            maestro.Archiver(app, url).open()
        with maestro.Archiver(app, url, resume=True) as archiver:
            app.offer("u10", FIELD).withdraw()
            assert list(archiver.saved) == ["u10"]
        store = maestro.stores.open_store(url).zarr()
        assert np.array_equal(zarr.open_array(store, path="t2m", mode="r")[...], FIELD)
        assert sorted(zarr.open_group(store, mode="r").array_keys()) == ["t2m", "u10"]


# Going on


def test_going_on_saves_what_is_new_and_nothing_twice(app, where):
    have = app.offer("t2m", FIELD)
    with maestro.Archiver(app, where) as archiver:
        archiver.wait(1, timeout=300)
    with maestro.Archiver(app, where, resume=True) as archiver:
        app.offer("u10", FIELD + 1).withdraw()
        have.withdraw()
        assert archiver.saved == {"u10": "u10"}
    root = zarr.open_group(where, mode="r")
    assert sorted(root.array_keys()) == ["t2m", "u10"]
    assert sorted(zarr.open_group(where, mode="r", use_consolidated=True).array_keys()) == [
        *("t2m", "u10")
    ]


def test_what_was_not_written_to_its_end_is_written_anew(app, where):
    with maestro.Archiver(app, where):
        pass
    (where / "t2m" / "c" / "7").mkdir(parents=True)
    (where / "t2m" / "c" / "7" / "0").write_bytes(b"left over")
    with maestro.Archiver(app, where, resume=True):
        app.offer("t2m", FIELD).withdraw()
    assert np.array_equal(zarr.open_array(where, path="t2m")[...], FIELD)
    assert not (where / "t2m" / "c" / "7" / "0").exists()


def test_until_its_end_nothing_can_be_opened(app, where, monkeypatch):
    """Objects first: without its metadata it is no array, to nobody."""
    from maestro.stores import writing

    seen = []

    def commit(store, archive, path, document):
        seen.append(
            [(where / path / "c" / "0" / "0").exists(), (where / path / "zarr.json").exists()]
        )

    monkeypatch.setattr(writing, "commit", commit)
    with dask.config.set({"maestro.stores.shard": "1 MB"}), maestro.Archiver(app, where):
        app.offer("t2m", FIELD).withdraw()
    assert seen == [[True, False]]
    with pytest.raises((FileNotFoundError, KeyError)):
        zarr.open_array(where, path="t2m", mode="r")


def test_killed_at_any_moment_and_started_again_it_loses_nothing(pool, where):
    """Producers go on all the while: what they withdraw waits for the next archiver."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["maestro.programs.archiver", "tests.maestro.programs"])
    random, fields, stop = Random(6), [], threading.Event()
    layout = Distribution(FIELD.shape, (2, 2), order="F")

    def produce(app, name, layout):
        while not stop.is_set():
            number = len(fields)
            fields.append(f"{name}-{number}")
            have = app.declare(f"{name}-{number}", layout, attributes={"number": number})
            have.offer(layout.split(FIELD + number))
            have.withdraw()

    with maestro.connect(pool.address) as other:
        joins = []
        for _ in range(10):
            told = processes.Queue()
            archiver = processes.Process(target=archive, args=(pool.address, where, told))
            archiver.start()
            assert told.get(timeout=300)  # "ready", or what was saved already
            if not joins:
                joins = [
                    in_thread(produce, other, "a", Distribution(FIELD.shape)),
                    in_thread(produce, pool, "b", layout),
                ]
            for _ in range(random.randrange(6)):
                told.get(timeout=300)
            archiver.kill()
            archiver.join()
            told.close()
        stop.set()
        with maestro.Archiver(pool, where, resume=True) as last:
            for join in joins:
                join()
            last.wait()
    root = zarr.open_group(where, mode="r")
    assert sorted(root.array_keys()) == sorted(fields)
    assert not {path for path in where.iterdir() if not (path / "zarr.json").exists()} - {
        where / "zarr.json"
    }
    for name in fields:
        array = root[name]
        assert np.array_equal(array[...], FIELD + array.attrs["number"])


# Bad targets


def test_a_target_that_exists(app, where):
    where.mkdir()
    (where / "mine").touch()
    with pytest.raises(maestro.StoreExistsError, match=r"run\.zarr: there is something already"):
        maestro.Archiver(app, where).open()
    with pytest.raises(maestro.StoreError, match=r"run\.zarr: it holds mine and no zarr\.json"):
        maestro.Archiver(app, where, resume=True).open()
    assert list(where.iterdir()) == [where / "mine"]


def test_a_store_of_another_program(app, where):
    zarr.create_array(where, name="theirs", shape=(3,), dtype="f8")
    with pytest.raises(maestro.StoreError, match=r"run\.zarr: it is no archive"):
        maestro.Archiver(app, where, resume=True).open()


def test_two_archivers_on_one_store(app, where):
    with maestro.Archiver(app, where), maestro.connect(app.address) as other:
        with pytest.raises(maestro.StoreError, match=r"run\.zarr: another program writes to it"):
            maestro.Archiver(other, where, resume=True).open()
        app.offer("t2m", FIELD).withdraw()
    assert np.array_equal(zarr.open_array(where, path="t2m")[...], FIELD)


@pytest.fixture
def disk(tmp_path):
    """A file system of its own of half a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this user may not mount file systems")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_cannot_be_written_to(app, disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(maestro.StoreError, match=r"x\.zarr: it cannot be made: Read-only"):
        maestro.Archiver(app, disk / "x.zarr").open()


@pytest.mark.parametrize("parts", [1, 4])
def test_a_disk_that_fills_up(pool, disk, parts):
    """What does not fit stays in the pool, and is saved once there is room."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    large = np.ones((4, 100_000), "u1")
    with dask.config.set({"maestro.stores.shard": "1 MB", "maestro.stores.chunk": "1 MB"}):
        with maestro.Archiver(pool, disk / "run.zarr") as archiver:
            pool.offer("small", FIELD[0]).withdraw()
            have = offered(pool, Distribution(large.shape, (parts, 1)), large, "large")
            until(lambda: archiver.failures)
            with pytest.raises(
                maestro.StoreError, match=r"run\.zarr: 1 CDOs are not saved, 'large': store"
            ):
                archiver.wait()
            assert "No space left" in str(archiver.failures["large"])
            assert "run.zarr" in str(archiver.failures["large"])
            with pytest.raises(maestro.PoolTimeoutError, match="a subscriber holds it"):
                have.withdraw(timeout=0.1)
            assert np.array_equal(pool.demand("large"), large)
            assert not (disk / "run.zarr" / "large" / "zarr.json").exists()
            ballast.unlink()
            have.withdraw(timeout=300)
            assert archiver.failures == {}
    assert np.array_equal(zarr.open_array(disk / "run.zarr", path="large")[...], large)


def test_closing_says_what_is_not_saved(pool, disk):
    archiver = maestro.Archiver(pool, disk / "run.zarr")
    archiver.open()
    have = pool.offer("large", np.ones(600_000, "u1"))
    until(lambda: archiver.failures)
    with pytest.raises(maestro.StoreError, match="1 CDOs are not saved, 'large'"):
        archiver.close()
    have.withdraw()


def test_a_store_that_disappears(app, where):
    with maestro.Archiver(app, where) as archiver:
        app.offer("t2m", FIELD).withdraw()
        aside = where.rename(where.with_name("aside"))
        have = app.offer("u10", FIELD)
        until(lambda: archiver.failures)
        assert "run.zarr: its directory has disappeared" in str(archiver.failures["u10"])
        assert not where.exists()
        assert np.array_equal(app.demand("u10"), FIELD)
        aside.rename(where)
        have.withdraw(timeout=300)
    assert sorted(zarr.open_group(where, mode="r").array_keys()) == ["t2m", "u10"]


def test_a_store_that_is_made_anew_by_others_is_not_written_to(app, where):
    archiver = maestro.Archiver(app, where)
    archiver.open()
    shutil.rmtree(where)
    with maestro.connect(app.address) as other, maestro.Archiver(other, where, "(step = 1)"):
        have = app.offer("t2m", FIELD)
        until(lambda: archiver.failures)
        assert "run.zarr: another archiver has taken it over" in str(archiver.failures["t2m"])
        with pytest.raises(maestro.StoreError, match="1 CDOs are not saved"):
            archiver.close()
    assert list(zarr.open_group(where, mode="r").array_keys()) == []
    have.withdraw()


def test_no_memory_of_what_is_written_is_left(cluster, where):
    """Files and locks are closed, in this process and in the workers."""
    with maestro.connect(cluster.scheduler_address) as app, maestro.Archiver(app, where):
        app.offer("t2m", FIELD).withdraw()
        assert any("run.zarr" in _link(file) for file in _files())  # the lock
    assert not any("run.zarr" in _link(file) for file in _files())
    with Client(cluster) as client:
        opened = client.run(lambda: [_link(file) for file in _files()])
    assert not [link for links in opened.values() for link in links if "run.zarr" in link]


def _link(file):
    try:
        return os.readlink(f"/proc/self/fd/{file}")
    except OSError:  # closed meanwhile
        return ""


def _files():
    found = []
    for file in os.listdir("/proc/self/fd"):
        if os.path.islink(f"/proc/self/fd/{file}"):
            found.append(file)
    return found
