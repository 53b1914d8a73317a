"""Garbage collection in a manager's process: each object is looked at once, and again in peace."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from maestro import collection
from maestro.collection import Collection


class Thing:
    """Something that refers to itself, so that only a collection frees it."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def asked(monkeypatch):
    """How often a manager was asked something; what is put aside is soon worth a look."""
    monkeypatch.setattr(collection, "OFTEN", 0)
    return [0]


def test_what_outlives_a_look_is_looked_at_again_in_a_quiet_moment(asked):
    async def main():
        things = [Thing() for _ in range(1000)]
        kept = Collection(lambda: asked[0])
        try:
            more = [Thing() for _ in range(1000)]
            gc.collect(1)
            gone = [weakref.ref(things[0]), weakref.ref(more[0])]
            del things, more
            gc.collect()
            assert all(ref() is not None for ref in gone), "they were put aside"
            asked[0] += 1
            kept._look()
            assert all(ref() is not None for ref in gone), "somebody asked meanwhile"
            kept._look()
            assert all(ref() is None for ref in gone)
        finally:
            kept.close()
        assert kept._collected not in gc.callbacks
        assert not gc.get_freeze_count()

    asyncio.run(main())
