"""Where the interlock's field is on its way: in the nodes' memory, or in a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from _programs import PATIENCE, Programs
from _screen import Bars

from maestro.stores import open_store

__all__ = ["WAYS", "Place", "place"]

HERE = Path(__file__).resolve().parent

#: Ways from app to app, each with what reports call it; over "memory", where a node's memory cannot
#: be mapped, messages go.
WAYS = {
    "memory": {"host", "network"},
    "tcp": {"network"},
    "files": {"store"},
    "objects": {"store"},
}


class Place:
    """Where producers put their slabs.

    Attributes
    ----------
    by : str
        One of `WAYS`.
    store : str or None
        The store's URL; None for the nodes' memory.
    """

    def __init__(self, by: str, store: str | None = None) -> None:
        self.by, self.store = by, store

    @property
    def arguments(self) -> tuple[str, ...]:
        """What producers are to be told."""
        return () if self.store is None else ("--store", self.store)

    def left(self) -> list[str]:
        """What is left in the store; soon after its last CDO has been withdrawn, nothing."""
        if self.store is None:
            return []
        store, end = open_store(self.store), monotonic() + PATIENCE
        while (found := store.children()) and monotonic() < end:
            sleep(0.05)
        return found


@contextmanager
def place(by: str, programs: Programs, bars: Bars) -> Iterator[Place]:
    """Make the place; programs that are started from now on use it."""
    if by == "files":
        with TemporaryDirectory(prefix="maestro-interlock-") as folder:
            yield Place(by, f"file://{folder}")
        return
    if by == "objects":
        yield Place(by, _objects(programs, bars))
        programs.dismiss("store")
        for name, said in programs.news("store"):
            bars.step(name, said["state"])
        return
    if by == "tcp":
        os.environ["DASK_MAESTRO__TRANSFER__SAME_HOST"] = "False"
    yield Place(by)


def _objects(programs: Programs, bars: Bars) -> str:
    """Start an object store; where in it there is room."""
    bars.add("store", 2)
    programs.start("store", HERE / "objects.py", lasting=True)
    for name, said in programs.news("store"):
        bars.step(name, said["state"])
        if "url" in said:
            os.environ.update(said["environment"])
            return f"{said['url']}/pool"
    raise AssertionError("news ends with an error, or never")
