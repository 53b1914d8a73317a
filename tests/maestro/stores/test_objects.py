"""A store with an object store: the same as on a file system, and its lock."""

from __future__ import annotations

import logging

import dask
import numpy as np
import pytest

import maestro.config  # noqa: F401  (its defaults)
from maestro.errors import StoreError, StoreExistsError
from maestro.stores import open_store
from tests.maestro.stores.s3 import s3_server


@pytest.fixture(scope="module")
def bucket():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with s3_server() as url:
        yield url


@pytest.fixture
def store(bucket, request):
    return open_store(f"{bucket}/{request.node.name}")


def test_objects(store):
    store.make()
    assert store.read("a/b") is None
    assert store.size("a/b") is None
    store.write("a/b", b"12345")
    store.write("a/b", np.frombuffer(b"1234", np.uint8))
    assert (store.read("a/b"), store.read("a/b", 1), store.read("a/b", -1)) == (
        *(b"1234", b"234", b"4"),
    )
    assert store.size("a/b") == 4
    memory = np.zeros(3, np.uint8)
    store.read_into("a/b", memory, 1)
    assert memory.tobytes() == b"234"
    with pytest.raises(StoreError, match="a/b ends 1 bytes early, expected 3"):
        store.read_into("a/b", memory, 2)
    with pytest.raises(StoreError, match="c cannot be read"):
        store.read_into("c", memory)


def test_what_is_created_is_not_replaced_unless_asked(store):
    store.create("a/b", b"1")
    with pytest.raises(StoreExistsError, match="a/b is there already"):
        store.create("a/b", b"2")
    assert store.read("a/b") == b"1"
    store.create("a/b", b"3", replace=True)
    assert store.read("a/b") == b"3"


def test_children_and_deletion(store):
    for key in ("a/b/c", "a/d", "e"):
        store.write(key, b"1")
    assert store.children() == ["a", "e"]
    assert store.children("a") == ["b", "d"]
    store.delete("a")
    store.delete("a")
    assert store.children() == ["e"]
    assert store.children("a") == []


def test_one_writer(store):
    store.lock({"app": "first"}, lambda _: False)
    other = open_store(store.url)
    with pytest.raises(
        StoreError, match=r"test_one_writer: .* \{'app': 'first'\}, .* delete .*lock"
    ):
        other.lock({"app": "second"}, lambda _: False)
    other.release()  # which was not its own
    other.lock({"app": "second"}, lambda owner: owner == {"app": "first"})
    other.release()
    store.lock({"app": "first"}, lambda _: False)
    store.release()
    assert store.children() == []


def test_what_does_not_answer_is_named(bucket):
    settings = {"config": {"endpoint": "http://127.0.0.1:9"}, "retry_config": {"max_retries": 0}}
    with dask.config.set({"maestro.stores.objects": settings}):
        store = open_store(f"{bucket}/x")
        with pytest.raises(StoreError, match=f"store {bucket}/x: a cannot be read"):
            store.read("a")
    with (
        dask.config.set({"maestro.stores.objects": {"endpoint": "x"}}),
        pytest.raises(ValueError, match=r"stores\.objects: got"),
    ):
        open_store(f"{bucket}/x")
    with pytest.raises(StoreError, match="nonsense://x: there is no way to it"):
        open_store("nonsense://x")
