"""Where parts go for which a node's memory has no room, if that is a store: they live there then.

A part is written, the manager is told that it lives in the store, and only then is it forgotten
here. Whoever demands it from then on reads it there, from any host and whatever becomes of the
node; who was just about to ask this node for it asks the manager again. It is deleted when its CDO
leaves the pool.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from layouts import Distribution
from layouts.tiled import AnyArray
from maestro.errors import StoreError
from maestro.locations import Location
from maestro.stores.lodging import lodge
from maestro.stores.store import open_store

__all__ = ["Lodger"]

logger = logging.getLogger("maestro.node")


class Lodger:
    """A node's way to put parts up in a store. For threads other than the one that made it.

    Parameters
    ----------
    url : str
        The store, as every program of the pool sees it.
    pool : str
        Which pool the node is of: a prefix in the store, which goes with the pool.
    limit : int
        Bytes of the node's parts that may be there. Who promises room keeps to it.
    tell : callable
        Called with version, rank and location: tells the manager; whether it has heard it. Blocks.

    Raises
    ------
    StoreError
        If there is no way to such a store.
    """

    def __init__(
        self, url: str, pool: str, limit: int, tell: Callable[[int, int, str], bool]
    ) -> None:
        self.limit = limit
        self._store, self._pool, self._tell = open_store(url), pool, tell
        self._host = threading.get_ident()  # whose loop hears what the manager answers

    def lodge(self, part: AnyArray, layout: Distribution, version: int, rank: int) -> bool:
        """Put a part up; whether it is there, and the manager knows."""
        if threading.get_ident() == self._host:
            return False
        path = f"{self._pool}/{version}.{rank}.{uuid4().hex}"
        where = Location(self._store.url, path, whole=True)
        try:
            self._store.make()
            lodge(self._store, path, part, layout, "a part")
            if self._tell(version, rank, str(where)):
                return True
        except StoreError as error:
            logger.warning("A part of %d bytes stays in memory: %s", part.nbytes, error)
        with suppress(StoreError):
            self._store.delete(path)
        return False
