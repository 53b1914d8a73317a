"""Segments: reserved, used again, adopted and cleared away, by one process and by several."""

from __future__ import annotations

import gc
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maestro.arena import Arena, Mappings, Recycler, is_same_host, places, reap
from maestro.arena import arena as module
from maestro.arena.mappings import resident
from tests.maestro.forking import FORKSERVER

KIB = 1 << 10


@pytest.fixture
def arena(tmp_path):
    arena = Arena(tmp_path, "pool", 1 << 20)
    yield arena
    arena.close()
    assert not list(tmp_path.iterdir())


def test_a_segment_is_used_again_under_another_number(arena):
    first = arena.reserve(100 * KIB, 1, 0)
    arena.release(first)
    second = arena.reserve(90 * KIB, 2, 3)
    assert second.path == first.path
    assert second.generation > first.generation
    assert arena.used == first.capacity
    assert arena.kept == 0


def test_a_segment_far_larger_than_needed_is_left_alone(arena):
    arena.release(arena.reserve(200 * KIB, 1, 0))
    small = arena.reserve(64 * KIB, 2, 0)
    assert small.capacity == 64 * KIB
    assert arena.kept == 200 * KIB


def test_segments_kept_and_in_use_stay_within_the_limit(arena):
    held = [arena.reserve(256 * KIB, 1, rank) for rank in range(4)]
    for segment in held:
        arena.release(segment)
    assert (arena.used, arena.kept) == (0, 1 << 20)
    arena.reserve(512 * KIB, 2, 0)
    assert (arena.used, arena.kept) == (512 * KIB, 512 * KIB)
    assert sum(not Path(segment.path).exists() for segment in held) == 2


def test_who_reads_what_is_gone_can_tell(arena):
    mappings = Mappings()
    segment = arena.reserve(100 * KIB, 1, 0)
    memory = mappings.attach(segment.path, segment.nbytes)
    memory[...] = 7
    assert mappings.use(segment.path).generation == segment.generation
    arena.release(segment)
    assert mappings.use(segment.path).generation == 0
    arena.reserve(100 * KIB, 2, 0)
    assert mappings.use(segment.path).generation != segment.generation


def linked(arena):
    """What the links in an arena's directory lead to, by version and rank."""
    return {
        tuple(map(int, link.name.split("-")[1:])): os.readlink(link)
        for link in Path(arena.directory).glob("part-*")
    }


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 1)), max_size=30))
def test_links_lead_to_the_latest_use_of_what_is_in_use(tmp_path_factory, steps):
    arena = Arena(tmp_path_factory.mktemp("linked"), "pool", 4 * KIB * 4, linked=True)
    used, lent = [], arena.reserve(4 * KIB, 0, 0, lent=True)
    for what, version, rank in steps:
        if what == 0:
            used.append(arena.reserve(4 * KIB, version, rank))
        elif what == 1 and used:
            (arena.release if rank else arena.discard)(used.pop(version % len(used)))
        elif what == 2:
            lent = arena.reuse(lent, 4 * KIB, version, rank)
        by_part = {}
        for segment in sorted([*used, lent], key=lambda each: each.generation):
            by_part[segment.version, segment.rank] = segment.path
        for part, path in linked(arena).items():
            assert by_part[part] == path
        latest = max([*used, lent], key=lambda each: each.generation)
        if what != 1:
            assert linked(arena)[latest.version, latest.rank] == latest.path
    arena.close()


def test_the_pages_of_what_is_dropped_go_at_once_and_readers_live(arena):
    mappings = Mappings()
    segment = arena.reserve(512 * KIB, 1, 0)
    memory = mappings.attach(segment.path, segment.nbytes)
    memory[...] = 7
    arena.release(segment)
    arena.reserve(1 << 20, 2, 0)  # there is no room for both
    assert not Path(segment.path).exists()
    assert mappings.use(segment.path).generation == 0
    assert memory.size == 512 * KIB
    assert set(np.unique(memory)) <= {0, 7}  # where the file system makes holes, zeros


def test_what_is_discarded_is_nobodys_but_keeps_its_bytes(arena):
    segment = arena.reserve(100 * KIB, 1, 0)
    memory = Mappings().attach(segment.path, segment.nbytes)
    memory[...] = 7
    arena.discard(segment)
    other = arena.reserve(100 * KIB, 2, 0)
    Mappings().attach(other.path, other.nbytes)[...] = 1
    assert (memory == 7).all()
    assert arena.used == other.capacity


def test_a_full_file_system_is_an_error_and_leaves_nothing(arena, monkeypatch):
    kept = arena.reserve(100 * KIB, 1, 0)
    arena.release(kept)

    def full(file, start, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "posix_fallocate", full)
    before = set(os.listdir(arena.directory))
    with pytest.raises(MemoryError, match=r"no room for a segment of \d+ bytes.*No space left"):
        arena.reserve(300 * KIB, 2, 0)
    assert set(os.listdir(arena.directory)) == before - {Path(kept.path).name}
    assert (arena.used, arena.kept) == (0, 0)


def test_only_who_sees_the_token_is_on_the_host(arena, tmp_path):
    assert is_same_host(arena.directory, arena.token)
    assert not is_same_host(arena.directory, "0" * 32)
    assert not is_same_host(arena.directory, "")
    assert not is_same_host(str(tmp_path / "elsewhere"), arena.token)


def test_nobody_else_may_look(arena):
    segment = arena.reserve(64 * KIB, 1, 0)
    assert os.stat(arena.directory).st_mode & 0o777 == 0o700
    assert os.stat(segment.path).st_mode & 0o777 == 0o600


def test_segments_of_a_living_node_are_not_adopted(tmp_path, arena):
    other = Arena(tmp_path, "pool", 1 << 20)
    segment = other.reserve(64 * KIB, 1, 0)
    with pytest.raises(BlockingIOError):
        arena.adopt(other.directory, {(1, 0): segment.nbytes})
    other.close()


def test_what_a_node_that_closes_has_in_use_is_left_to_be_adopted(tmp_path, arena):
    other = Arena(tmp_path, "pool", 1 << 20)
    segment = other.reserve(64 * KIB, 1, 0).complete()
    other.release(other.reserve(100 * KIB, 1, 1))
    other.close()
    (adopted,) = arena.adopt(other.directory, {(1, 0): segment.nbytes})
    assert adopted == segment
    arena.release(adopted)
    empty = Arena(tmp_path, "pool", 1 << 20)
    empty.close()
    assert not Path(empty.directory).exists()


def _die(parent, pool, sizes, found):
    arena = Arena(parent, pool, 1 << 24)
    mappings = Mappings()
    for rank, size in enumerate(sizes):
        segment = arena.reserve(size, 5, rank)
        mappings.attach(segment.path, size)[...] = rank + 1
        mappings.mark_filled(segment.path)
    found.put(arena.directory)
    found.close()
    found.join_thread()
    os.kill(os.getpid(), signal.SIGKILL)


def left_by_a_killed_node(parent, pool, sizes):
    found = FORKSERVER.Queue()
    node = FORKSERVER.Process(target=_die, args=(parent, pool, sizes, found))
    node.start()
    directory = found.get(timeout=300)
    node.join(300)
    found.close()
    return directory


def test_what_a_killed_node_left_is_adopted(tmp_path, arena):
    sizes = [64 * KIB, 80 * KIB, 100 * KIB]
    directory = left_by_a_killed_node(tmp_path, "pool", sizes)
    found = arena.adopt(directory, {(5, 0): sizes[0], (5, 2): sizes[2], (4, 0): 5, (5, 1): 7})
    assert sorted(segment.rank for segment in found) == [0, 2]
    for segment in found:
        assert (Mappings().attach(segment.path, segment.nbytes) == segment.rank + 1).all()
    assert arena.used == sum(segment.capacity for segment in found)
    assert len([name for name in os.listdir(directory) if name.isdecimal()]) == 2
    arena.release(found[0])
    assert arena.reserve(found[0].nbytes, 6, 0).path == found[0].path


def test_only_what_is_all_there_is_adopted_and_what_may_be_written_to_keeps_its_bytes(
    tmp_path, arena
):
    other = Arena(tmp_path, "pool", 1 << 20)
    mappings = Mappings()
    half = other.reserve(64 * KIB, 1, 0)  # its producer is at it
    lent = other.reserve(64 * KIB, 0, 0, lent=True)
    offered = other.reuse(other.reserve(64 * KIB, 0, 0, lent=True), 64 * KIB, 1, 1, filled=True)
    withdrawn = other.reuse(other.reserve(64 * KIB, 0, 0, lent=True), 64 * KIB, 1, 2, filled=True)
    memory = [mappings.attach(s.path, s.nbytes) for s in (half, lent, offered, withdrawn)]
    for each in memory:
        each[...] = 7
    withdrawn.cleared()
    other.close()
    wanted = dict.fromkeys([(1, 0), (0, 0), (1, 1), (1, 2)], 64 * KIB)
    (adopted,) = arena.adopt(other.directory, wanted)
    assert adopted.path == offered.path
    assert adopted.lent
    assert not any(Path(s.path).exists() for s in (half, lent, withdrawn))
    assert all((each == 7).all() for each in memory)


def test_what_is_adopted_is_used_again_under_a_number_it_never_had(tmp_path, arena):
    other = Arena(tmp_path, "pool", 1 << 20)
    for rank in range(5):
        segment = other.reserve(64 * KIB, 1, rank).complete()
    other.close()
    (adopted,) = arena.adopt(other.directory, {(1, 4): segment.nbytes})
    arena.release(adopted)
    again = arena.reserve(64 * KIB, 2, 0)
    assert again.path == adopted.path
    assert again.generation > adopted.generation


def test_a_segment_that_its_node_died_making_is_cleared_away(tmp_path, arena):
    other = Arena(tmp_path, "pool", 1 << 20)
    other.reserve(64 * KIB, 1, 0)
    Path(other.directory, "99").touch()
    other.close()
    assert arena.adopt(other.directory, {}) == []
    assert not [name for name in os.listdir(other.directory) if name.isdecimal()]


def test_what_a_killed_pool_left_is_cleared_away_and_no_more(tmp_path, arena):
    directory = left_by_a_killed_node(tmp_path, "other", [64 * KIB])
    kept = arena.reserve(64 * KIB, 1, 0)
    assert reap(tmp_path) == [Path(directory).parent]
    assert Path(kept.path).exists()
    assert reap(tmp_path) == []


def test_another_pools_arena_is_not_adopted(tmp_path, arena):
    directory = left_by_a_killed_node(tmp_path, "other", [64 * KIB])
    assert arena.adopt(directory, {(5, 0): 64 * KIB}) == []
    reap(tmp_path)


def test_many_come_and_go_while_others_clear_away(tmp_path):
    def live(number):
        for _ in range(20):
            arena = Arena(tmp_path, f"pool-{number % 2}", 1 << 20)
            segment = arena.reserve(64 * KIB, 1, 0)
            assert Path(segment.path).exists()
            reap(tmp_path)
            assert Path(segment.path).exists()
            arena.close()

    threads = [threading.Thread(target=live, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not list(tmp_path.iterdir())


def test_without_shared_memory_temporary_files_do_and_it_is_said(monkeypatch, caplog):
    monkeypatch.setattr(places.os, "access", lambda *_: False)
    assert places.default_parent().is_dir()
    assert "maestro.arena.directory" in caplog.text


def test_mappings_are_kept_while_their_files_are_there(arena):
    mappings = Mappings()
    arena.limit = 1 << 30
    segments = [arena.reserve(64 * KIB, 1, rank) for rank in range(40)]
    for segment in segments:
        mappings.attach(segment.path, segment.nbytes)
    first = mappings.attach(segments[0].path, 10)
    first[:] = 5
    assert (mappings.attach(segments[0].path, 10) == 5).all()
    assert len(mappings) == 40
    for segment in segments:
        arena.discard(segment)
    for rank in range(40):
        segment = arena.reserve(64 * KIB, 2, rank)
        mappings.attach(segment.path, segment.nbytes)
    assert len(mappings) < 80
    assert (first == 5).all()


def test_pages_are_put_out_of_the_process_and_come_back(arena):
    """What Dask's memory monitor would count, too."""
    arena.limit = 1 << 30
    size = 64 << 20
    segment = arena.reserve(size, 1, 0)
    mappings = Mappings(limit=size)
    memory = mappings.attach(segment.path, size)
    memory[...] = 7
    _, before = resident()
    mappings.empty()
    pages, shared = resident()
    assert shared <= before - size
    assert shared <= pages
    assert (memory == 7).all()
    assert resident()[1] >= before - (1 << 20)


def test_mappings_know_how_much_they_are(arena):
    mappings = Mappings()
    segments = [arena.reserve(64 * KIB, 1, rank) for rank in range(3)]
    for segment in segments:
        mappings.attach(segment.path, 10)
    size = os.stat(segments[0].path).st_size
    assert mappings.nbytes == 3 * size
    mappings.forget(segments[1].path)
    mappings.forget(segments[1].path)
    assert mappings.nbytes == 2 * size
    mappings.clear()
    assert mappings.nbytes == 0


def test_mappings_of_what_is_gone_or_too_small_are_refused(arena):
    mappings = Mappings()
    segment = arena.reserve(64 * KIB, 1, 0)
    with pytest.raises(OSError, match="expected 1000000"):
        mappings.attach(segment.path, 1000000)
    with pytest.raises(FileNotFoundError):
        mappings.attach(segment.path + "0", 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 1 << 18)), max_size=30))
def test_recycled_memory_is_never_lent_twice(calls):
    recycler = Recycler(keep=1 << 19)
    lent: dict[int, tuple[np.ndarray, int]] = {}
    for number, (place, nbytes) in enumerate(calls):
        lent.pop(place, None)
        memory = recycler.empty(nbytes)
        assert memory.nbytes == nbytes
        memory[...] = number % 251
        lent[place] = (memory[:: max(1, nbytes // 7)], number % 251)  # only a view is kept
        del memory
        gc.collect(0)
        assert recycler.kept <= recycler.keep
        for view, value in lent.values():
            assert (view == value).all()


def test_warm_memory_is_what_comes_next():
    recycler = Recycler(keep=1 << 20)
    recycler.warm([1 << 18, 1 << 18, 1 << 20])
    assert recycler.kept == 1 << 19  # no more than is kept
    recycler.warm([1 << 18])
    assert recycler.kept == 1 << 19
    held = [recycler.empty(1 << 18) for _ in range(2)]
    assert recycler.kept == 0
    del held


def test_memory_comes_back_with_its_last_view():
    recycler = Recycler(keep=1 << 20)
    array = recycler.empty(1 << 20).view("f8").reshape(256, 512).T
    view = memoryview(array[3:5])
    address = array.ctypes.data
    del array
    assert recycler.kept == 0
    del view
    assert recycler.kept == 1 << 20
    assert recycler.empty((1 << 20) - 100).ctypes.data == address


def test_memory_that_comes_back_in_other_threads():
    recycler = Recycler(keep=1 << 22)

    def work():
        for _ in range(200):
            memory = recycler.empty(1 << 17)
            memory[0] = 1
            assert memory[0] == 1
            del memory

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 << 17 <= recycler.kept <= 4 << 17
    recycler.clear()
    assert recycler.kept == 0
