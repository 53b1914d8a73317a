"""Parts on disk: what goes there, what does not, what is read there, and what if it is full."""

from __future__ import annotations

import os
import random
import tempfile
from contextlib import ExitStack
from pathlib import Path

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maestro
from layouts import Distribution
from maestro.arena import Arena
from maestro.errors import PoolFullError
from maestro.locations import Location
from maestro.nodes.holdings import Arrival, Holdings
from maestro.nodes.lodger import Lodger
from maestro.nodes.spilling import Spill
from maestro.stores.reading import located
from maestro.stores.store import open_store
from maestro.transport import onhost
from maestro.transport.bringing import Delivery
from tests.maestro import programs
from tests.maestro.conftest import check
from tests.maestro.stores.s3 import s3_server
from tests.maestro.test_onhost import pool
from tests.maestro.waiting import until

KIB = 1 << 10
PAGE = os.sysconf("SC_PAGE_SIZE")


class Room:
    """What a node holds, with little memory and little disk."""

    def __init__(self, directory, memory, disk, map_from=PAGE):
        self.arena = Arena(directory, "pool", memory)
        self.spill = Spill(directory / "disk", "pool", disk)
        self.holdings = Holdings(self.arena, map_from, self.spill)

    def bring(self, version, *sizes):
        """Store a part of so many bytes for each rank, all of them of the value of the version."""
        layout = Distribution((sum(sizes),), (len(sizes),))
        assert all(layout.local_size(rank) == size for rank, size in enumerate(sizes))
        delivery = Delivery(version, layout, 1, tuple(range(len(sizes))), 1 << 20, 1, 1.0)
        with Arrival(self.holdings, delivery) as arrival:
            for rank in delivery.ranks:
                arrival.allocate(rank)[...] = version % 251
            assert arrival.enter() is None

    def on_disk(self):
        return {k for k, part in self.holdings.parts.items() if self.where(part) == "disk"}

    def where(self, part):
        if isinstance(part.home, np.ndarray):
            return "own"
        return "disk" if self.spill.owns(part.home) else "arena"

    def drop(self, version, *ranks):
        self.holdings.drop(self.holdings.take_out(version, ranks, True), True)

    def check(self):
        used = {"own": 0, "disk": 0, "arena": 0}
        for (version, _), part in self.holdings.parts.items():
            assert (part.memory == version % 251).all()
            home = part.home
            used[self.where(part)] += getattr(home, "capacity", home.nbytes)
        assert used["own"] == self.holdings.own
        assert used["arena"] == self.arena.used
        assert used["disk"] == self.spill.used <= self.spill.limit
        in_memory = [p for p in self.holdings.parts.values() if self.where(p) != "disk"]
        assert sum(part.nbytes for part in in_memory) <= self.arena.limit
        files = [p for p in Path(self.spill.files.directory).iterdir() if p.name.isdecimal()]
        assert len(files) == len(self.on_disk())

    def close(self):
        self.holdings.close()


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path, 4 * PAGE, 8 * PAGE)
    yield room
    room.check()
    room.close()
    assert [path.name for path in tmp_path.rglob("*")] == ["disk"]


def test_what_was_used_the_longest_ago_goes_first(room):
    for version in range(4):
        room.bring(version, PAGE)
    room.holdings.where(0, [0])
    with room.holdings.reading([(1, 0)]):
        pass
    room.bring(4, PAGE)
    assert room.on_disk() == {(2, 0)}
    room.bring(5, 2 * PAGE)
    assert room.on_disk() == {(2, 0), (3, 0), (0, 0)}


def test_what_is_read_stays_where_it_is(room):
    for version in range(4):
        room.bring(version, PAGE)
    with room.holdings.reading([(0, 0)]):
        room.bring(4, PAGE)
        assert room.on_disk() == {(1, 0)}


def test_what_is_written_to_stays_where_it_is(room):
    """What a producer is at, and what it was lent."""
    layout = Distribution((PAGE,))
    delivery = Delivery(0, layout, 1, (0,), 1 << 20, 1, 1.0)
    path = room.holdings.lend(PAGE)
    with Arrival(room.holdings, delivery) as arrival:  # mapped, and filled by nobody yet
        arrival.segments({})
        arrival.enter()
    lent = Delivery(1, layout, 1, (0,), 1 << 20, 1, 1.0)
    with Arrival(room.holdings, lent) as arrival:
        assert arrival.segments({0: path}) == {0: path}
        arrival.enter()
    room.holdings.parts[1, 0].memory[...] = 1
    room.bring(2, PAGE)
    room.bring(3, PAGE)
    room.bring(4, 2 * PAGE)
    assert room.on_disk() == {(2, 0), (3, 0)}
    room.bring(5, PAGE)
    room.bring(6, 2 * PAGE)
    assert {(0, 0), (1, 0)}.isdisjoint(room.on_disk())
    room.holdings.give_back(path)
    room.holdings.parts[0, 0].memory[...] = 0


def test_what_is_larger_than_all_memory_goes_to_the_disk_at_once(room):
    room.bring(1, 6 * PAGE)
    assert room.on_disk() == {(1, 0)}


def test_small_parts_go_to_the_disk_as_well(room):
    sizes = [PAGE // 4] * 16
    room.bring(1, *sizes)
    assert room.holdings.own == 4 * PAGE
    room.bring(2, 2 * PAGE)
    assert len(room.on_disk()) == 8


def test_a_full_disk_is_an_error_and_changes_nothing(room):
    for version in range(3):
        room.bring(version, 4 * PAGE)
    before = dict(room.holdings.parts)
    with pytest.raises(PoolFullError, match=r"rank 0: no room for its \d+ bytes: .*0 of \d+ bytes"):
        room.bring(3, 4 * PAGE)
    assert room.holdings.parts == before


def test_a_disk_with_less_room_than_was_thought(room, monkeypatch):
    """The same where the system says so, in the middle of it."""
    room.bring(0, 4 * PAGE)
    before = dict(room.holdings.parts)

    def full(file, start, size):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("maestro.arena.arena.os.posix_fallocate", full)
        with pytest.raises(PoolFullError, match=r"rank 0: no room .*No space left on device"):
            room.bring(1, 2 * PAGE)
    assert room.holdings.parts == before


def test_a_disk_that_fails_while_it_is_written_to(room, monkeypatch):
    room.bring(0, 4 * PAGE)
    with monkeypatch.context() as patch:
        patch.setattr(
            "maestro.nodes.spilling._copy", lambda *_: (_ for _ in ()).throw(OSError(5, "EIO"))
        )
        with pytest.raises(OSError, match="EIO"):
            room.bring(1, 2 * PAGE)
    assert room.on_disk() == set()


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 2 * PAGE))
def test_any_parts_in_any_order(randomness: random.Random, map_from):
    """Never more memory or disk than there is, and every byte where it is looked for."""
    with tempfile.TemporaryDirectory() as directory:
        room = Room(Path(directory), 4 * PAGE, 12 * PAGE, map_from)
        for version in range(30):
            if randomness.random() < 0.3 and room.holdings.parts:
                key = randomness.choice(sorted(room.holdings.parts))
                room.drop(*key)
            elif randomness.random() < 0.3 and room.holdings.parts:
                version, rank = randomness.choice(sorted(room.holdings.parts))
                room.holdings.where(version, [rank])
            else:
                before = dict(room.holdings.parts)
                sizes = [randomness.choice([1, 100, PAGE, PAGE + 1, 3 * PAGE])]
                try:
                    room.bring(version, *sizes * randomness.randint(1, 3))
                except PoolFullError:
                    assert room.holdings.parts.keys() == before.keys()
                    assert room.spill.used + 9 * PAGE > room.spill.limit
            room.check()
        room.close()


# In a pool

MEMORY = 1 << 30
ROWS = Distribution((256, 128, 4), (4, 1, 1))  # 1 MiB
COLUMNS = Distribution(ROWS.shape, (1, 3, 1), order="F")
ARRAY = programs.field(ROWS)


def small_pool(tmp_path, disk, directory=None):
    for name in ("arena", "disk"):
        (tmp_path / name).mkdir()
    options = {
        "maestro.node.memory": 1.5 * (1 << 20) / MEMORY,
        "maestro.node.spill.limit": disk,
        "maestro.node.spill.directory": directory or str(tmp_path / "disk"),
    }
    return pool(1, tmp_path / "arena", MEMORY, **options)


def test_what_goes_to_the_disk_while_it_is_read_is_read_there(tmp_path, monkeypatch):
    move, moved = onhost.move_all, []

    def spill(*args):
        move(*args)
        moved.append(args)
        if len(moved) == 2:
            assert app.client.run(_spill_all) == dict.fromkeys(app.pool.nodes, 4)

    with small_pool(tmp_path, "8 MiB") as app:
        app.offer("t2m", ROWS.split(ARRAY), ROWS)
        want = app.declare("t2m", COLUMNS)
        monkeypatch.setattr(onhost, "NEWS", 1)  # pair of ranks by pair of ranks
        monkeypatch.setattr(onhost, "move_all", spill)
        for part, wanted in zip(want.demand(timeout=300), COLUMNS.split(ARRAY), strict=True):
            assert np.array_equal(part, wanted)
        assert len(moved) > 12
        assert want.report.bytes == ARRAY.nbytes
        check(app)


def _spill_all(dask_worker):
    holdings = dask_worker.extensions["maestro"].holdings
    number = 0
    while holdings._spill_oldest():
        number += 1
    return number


def test_a_full_pool_spills_and_everything_can_be_had(tmp_path):
    with small_pool(tmp_path, "8 MiB") as app:
        (limit,) = {node["limit"] for node in app.pool.nodes.values()}
        assert limit == (3 << 19) + (8 << 20)
        for number in range(6):
            app.offer(f"t{number}", ROWS.split(ARRAY + number), ROWS)
        assert sum(1 for path in (tmp_path / "disk").rglob("*") if path.name.isdecimal()) >= 18
        for number in range(6):
            want = app.declare(f"t{number}", COLUMNS)
            parts = want.demand(timeout=300)
            for part, wanted in zip(parts, COLUMNS.split(ARRAY + number), strict=True):
                assert np.array_equal(part, wanted)
            assert {transfer.transport for transfer in want.report.transfers} == {"host"}
        with dask.config.set({"maestro.transfer.same-host": False}):
            for number in range(6):
                assert np.array_equal(app.demand(f"t{number}"), ARRAY + number)
        check(app)
        with pytest.raises(maestro.PoolFullError, match="'x': no room for 4 parts"):
            app.offer("x", [np.zeros((256, 512))] * 4, Distribution((1024, 512), (4, 1)))
        check(app)
    assert not list((tmp_path / "disk").iterdir())


# Into a store


class Inn:
    """A store, and a manager that hears, or not, what is put up there."""

    def __init__(self, path, hears=True):
        self.store, self.hears, self.told = open_store(path), hears, {}
        self.lodger = Lodger(self.store.url, "pool", 8 * PAGE, self.tell)
        self.lodger._host = -1  # this thread may wait

    def tell(self, version, rank, location):
        if self.hears:
            self.told[version, rank] = Location.of(location)
        return self.hears

    def read(self, key, dtype):
        array = located(self.told[key], None, np.dtype(dtype))
        return array.read(0, lambda nbytes: np.empty(nbytes, np.uint8))


@pytest.fixture
def holdings(tmp_path):
    inn = Inn(tmp_path / "inn")
    room = Room(tmp_path, 4 * PAGE, 0)
    room.holdings = Holdings(room.arena, PAGE, lodger=inn.lodger)
    room.inn = inn
    yield room
    room.close()


def test_what_was_used_the_longest_ago_goes_to_the_store(holdings):
    for version in range(4):
        holdings.bring(version, PAGE)
    holdings.holdings.where(0, [0])
    holdings.bring(4, 2 * PAGE)
    assert set(holdings.inn.told) == {(1, 0), (2, 0)}
    assert set(holdings.holdings.parts) == {(0, 0), (3, 0), (4, 0)}
    assert holdings.arena.used == 4 * PAGE
    assert np.array_equal(holdings.inn.read((2, 0), "<u1"), np.full(PAGE, 2))
    with pytest.raises(PoolFullError):  # what has no room in memory cannot begin in the store
        holdings.bring(5, 6 * PAGE)


def test_what_is_read_by_then_stays_until_it_is_read(holdings, monkeypatch):
    for version in range(4):
        holdings.bring(version, PAGE)
    part, lodge = holdings.holdings.parts[0, 0], holdings.inn.lodger.lodge
    with ExitStack() as reading:

        def begin_to_read(*what):
            reading.enter_context(holdings.holdings.reading([(0, 0)]))
            return lodge(*what)

        monkeypatch.setattr(holdings.inn.lodger, "lodge", begin_to_read)
        holdings.bring(4, PAGE)  # it takes another one's place
        assert set(holdings.holdings.parts) == {(2, 0), (3, 0), (4, 0)}
        assert (part.memory == 0).all()
        assert holdings.arena.used == 4 * PAGE
    assert holdings.arena.used == 3 * PAGE


def test_what_the_manager_does_not_hear_of_stays(holdings):
    for version in range(4):
        holdings.bring(version, PAGE)
    holdings.inn.hears = False
    with pytest.raises(PoolFullError):
        holdings.bring(4, PAGE)
    assert len(holdings.holdings.parts) == 4
    assert holdings.inn.store.children("pool") == []


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_a_full_pool_spills_to_a_store_and_everything_is_read_there(tmp_path, kind):
    with ExitStack() as stack:
        bucket = stack.enter_context(s3_server()) if kind == "s3" else f"file://{tmp_path}"
        store = open_store(f"{bucket}/inn")
        app = stack.enter_context(small_pool(tmp_path, "8 MiB", store.url))
        for number in range(4):
            cdo = app.offer(f"t{number}", ROWS.split(ARRAY + number), ROWS)
        (prefix,) = store.children()
        assert len(store.children(prefix)) >= 10  # of 16 parts of 256 KiB, at most six in memory
        (worker,) = app.pool.nodes
        assert app.pool.nodes[worker]["used"] == 4 * ARRAY.nbytes
        for number in range(4):
            want = app.declare(f"t{number}", COLUMNS)
            for part, wanted in zip(want.demand(), COLUMNS.split(ARRAY + number), strict=True):
                assert np.array_equal(part, wanted)
            if not number:
                assert {transfer.transport for transfer in want.report.transfers} == {"store"}
        region = (slice(3, 70), slice(1, 2), slice(0, 4))
        with dask.config.set({"maestro.transfer.same-host": False}):
            assert np.array_equal(app.demand("t1", region=region), ARRAY[region] + 1)
        check(app)
        cdo.withdraw()
        spilled = {path.split(".")[0] for path in store.children(prefix)}
        until(lambda: len(store.children(prefix)) <= 12)
        assert len(spilled) >= 3
        check(app)
        del app
        stack.pop_all().close() if kind == "file" else None
    if kind == "file":
        assert store.children() == []
