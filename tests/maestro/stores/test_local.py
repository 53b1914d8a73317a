"""A store on a file system."""

from __future__ import annotations

import numpy as np
import pytest

from maestro.errors import StoreError, StoreExistsError
from maestro.stores import open_store


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "here")
    store.make()
    return store


def test_objects(store):
    assert store.read("a/b") is None
    assert store.size("a/b") is None
    store.write("a/b", b"12345")
    store.write("a/b", np.frombuffer(b"1234", np.uint8))
    assert (store.read("a/b"), store.read("a/b", 1), store.read("a/b", -1)) == (
        b"1234",
        b"234",
        b"4",
    )
    assert store.size("a/b") == 4
    memory = np.zeros(3, np.uint8)
    store.read_into("a/b", memory, 1)
    assert memory.tobytes() == b"234"
    with pytest.raises(StoreError, match="a/b ends 1 bytes early, expected 3"):
        store.read_into("a/b", memory, 2)
    with pytest.raises(StoreError, match="c cannot be read: No such file"):
        store.read_into("c", memory)


def test_what_is_created_is_not_replaced_unless_asked(store):
    store.create("a/b", b"1")
    with pytest.raises(StoreExistsError, match="a/b is there already"):
        store.create("a/b", b"2")
    assert store.read("a/b") == b"1"
    store.create("a/b", b"3", replace=True)
    assert store.read("a/b") == b"3"
    assert store.children("a") == ["b"]


def test_children_and_deletion(store):
    for key in ("a/b/c", "a/d", "e"):
        store.write(key, b"")
    assert store.children() == ["a", "e"]
    assert store.children("a") == ["b", "d"]
    store.delete("a")
    store.delete("a")
    assert store.children() == ["e"]
    assert store.children("a") == []


def test_one_writer(store):
    store.lock({}, lambda _: False)
    other = open_store(store.url)
    with pytest.raises(StoreError, match="here: another program writes to it"):
        other.lock({}, lambda _: True)
    store.release()
    other.lock({}, lambda _: False)
    other.release()


def test_a_store_that_has_disappeared_is_not_made_again(store, tmp_path):
    (tmp_path / "here").rmdir()
    for write in (store.write, store.create):
        with pytest.raises(StoreError, match="here: its directory has disappeared"):
            write("a/b", b"1")
    assert not (tmp_path / "here").exists()


def test_where_no_directory_can_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/x: it cannot be made: Not a directory"):
        open_store(tmp_path / "file" / "x").make()
    with pytest.raises(StoreError, match="nowhere: it cannot be locked: No such file"):
        open_store(tmp_path / "nowhere").lock({}, lambda _: False)
