"""The librarian: a program that brings stored data into the pool."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from layouts import Distribution
from layouts.orders import Order
from maestro.apps.app import App
from maestro.apps.cdo import Cdo
from maestro.errors import InconsistentError, StoreError
from maestro.locations import Location
from maestro.schemas.core import core_attributes
from maestro.scope import Scope
from maestro.selectors import Selector
from maestro.stores.datasets import is_file, variables
from maestro.stores.lanes import Lanes
from maestro.stores.naming import OURS, Origin, original_attributes
from maestro.stores.staging import Stored
from maestro.stores.store import Store, open_store
from maestro.stores.stored import META, StoredArray
from maestro.transport.offload import off_loop

__all__ = ["Holding", "Librarian"]

#: CDOs that are brought at once.
TURNS = 128


@dataclass(frozen=True)
class Holding:
    """A CDO as a store has it.

    Attributes
    ----------
    name : str
        Its name.
    path : str
        Where in the store it is.
    attributes : dict
        What its producers said of it.
    distribution : Distribution or None
        How it was distributed; of what another program stored, how it lies there. None for a CDO
        without data.
    layout : Distribution or None
        How it lies in the store: one rank for each object.
    dtype : numpy.dtype or None
        Type of its elements.
    """

    name: str
    path: str
    attributes: dict[str, Any]
    distribution: Distribution | None
    layout: Distribution | None
    dtype: np.dtype[Any] | None

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        if self.layout is None or self.dtype is None:
            return 0
        return math.prod(self.layout.shape) * self.dtype.itemsize


class Librarian(Scope, Mapping[str, Holding]):
    """Stages what a Zarr store holds: a mapping from names to holdings. To be used in ``with``.

    Archives of maestro's come back as they were, names, types, attributes, distributions and
    orders; of other programs' Zarr stores, of version 3 or 2, every array is a CDO named by its
    path. So is every variable of a file that xarray reads, such as NetCDF, or GRIB with cfgrib:
    messages of several kinds become several arrays, as `maestro.stores.datasets` names them.

    Parameters
    ----------
    app : App
        On whose behalf. What is staged leaves the pool with it.
    store : str or Path
        A local path, or an URL such as ``s3://bucket/prefix``, which nodes and this program see.
    tell : callable, optional
        Called with the name of each CDO that is staged.

    Attributes
    ----------
    staged : list of Cdo
        The handles that offer.

    Raises
    ------
    StoreError
        When it is opened, if there is no such store, or it cannot be read.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> import maestro
    >>> from layouts import Distribution
    >>> with tempfile.TemporaryDirectory() as folder, maestro.connect() as app:
    ...     with maestro.Archiver(app, f"{folder}/run.zarr"):
    ...         app.offer("t2m", np.arange(6.0).reshape(2, 3)).withdraw()
    ...     with maestro.Librarian(app, f"{folder}/run.zarr") as librarian:
    ...         cdo = librarian.stage("t2m", Distribution((2, 3), (1, 3), order="F"))
    ...         print(list(librarian), app.pool["t2m"].distribution)
    ['t2m'] (2, 3) over 1x3 ranks: Block x Block, order F
    """

    def __init__(
        self, app: App, store: str | Path, tell: Callable[[str], None] = lambda name: None
    ) -> None:
        self._tell = tell
        self._bytes = [0, 0]
        self._app, self._link = app, app._link
        self._url = str(store)
        self._holdings: dict[str, Holding] = {}
        self._store: Store | None = None
        self._lanes = Lanes(self._link, "stage")
        self.staged: list[Cdo] = []

    def open(self) -> Any:
        """Look what there is."""
        return self._link.run(self._open)

    def stage(
        self,
        name: str,
        distribution: Distribution | None = None,
        order: Order | None = None,
        reads: bool = True,
    ) -> Any:
        """Offer a CDO of the store's.

        Parameters
        ----------
        name : str
            Which.
        distribution : Distribution, optional
            How the nodes are to hold it; as it was by default.
        order : order, optional
            Another order in memory.
        reads : bool
            Whether the nodes read it now, each what it is to hold. Else nothing is read: it stays
            in the store, and is read by whoever demands it. It is then offered as it lies there.

        Returns
        -------
        Cdo
            The handle that offers it, to withdraw and dispose of.

        Raises
        ------
        KeyError
            If the store has no such CDO.
        StoreError
            If something of it is missing, cut short or cannot be read; nothing of it is offered.
        InconsistentError
            If the distribution is not one of its shape.
        """
        return self._link.run(self._stage, name, distribution, order, reads)

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes that were staged, and that were to be."""
        return self._bytes[0], self._bytes[1]

    def stage_all(
        self,
        selector: str | None = None,
        order: Order | None = None,
        reads: bool = True,
        names: Sequence[str] | None = None,
    ) -> Any:
        """Offer all that a selector selects, of some names or all, each as it was.

        Raises
        ------
        StoreError
            As for `stage`; also if there is no such name, or nothing is selected.

        Returns
        -------
        list of Cdo
            The handles, in the order of names. If one cannot be staged, those that are, are
            withdrawn.
        """
        return self._link.run(self._stage_all, selector, order, reads, names)

    def close(self) -> Any:
        """Withdraw what was staged here, once those who require it are served."""
        return self._link.run(self._close)

    def _enter(self) -> Any:
        return self.open()

    def _exit(self) -> Any:
        return self.close()

    def __getitem__(self, name: str) -> Holding:
        return self._holdings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._holdings)

    def __len__(self) -> int:
        return len(self._holdings)

    async def _open(self) -> None:
        self._store = store = await off_loop(False, open_store, self._url)
        self._holdings = {h.name: h for h in await off_loop(False, lambda: [*_holdings(store)])}
        if not self._holdings:
            raise StoreError(f"store {store.url}: there is no array, expected a Zarr store")

    async def _stage(
        self, name: str, distribution: Distribution | None, order: Order | None, reads: bool
    ) -> Cdo:
        holding = self._holdings[name]
        store = self._store
        cdo = self._app.declare(name, attributes=holding.attributes)
        if holding.layout is None or holding.dtype is None or store is None:
            await cdo._offer(None)
        else:
            location = Location(store.url, holding.path)
            lying = Stored.lying(location, holding.layout, holding.dtype)
            if reads:
                wanted = distribution or holding.distribution or holding.layout
                if order is not None:
                    wanted = Distribution(wanted.shape, wanted.grid, wanted.axes, order)
                if wanted.shape != holding.layout.shape:
                    raise InconsistentError(
                        f"CDO {name!r}: {wanted} was given, expected the shape"
                        f" {holding.layout.shape} of {holding.path!r} in {store.url}"
                    )
                lying = replace(lying, distribution=wanted, lanes=self._lanes, near={})
            await cdo._offer(lying)
        self.staged.append(cdo)
        self._bytes[0] += holding.nbytes
        self._tell(name)
        return cdo

    async def _stage_all(
        self,
        selector: str | None,
        order: Order | None,
        reads: bool,
        names: Sequence[str] | None,
    ) -> list[Cdo]:
        matches = Selector(selector).matches
        unknown = set(names or ()) - self.keys()
        chosen = [
            name
            for name, holding in sorted(self.items())
            if (names is None or name in names) and matches(_selectable(holding))
        ]
        if unknown or not chosen:
            what = ", ".join(sorted(unknown)) or f"anything that {selector} selects"
            raise StoreError(f"store {self._url}: there is not {what} among its {len(self)} CDOs")
        self._bytes[1] += sum(self[name].nbytes for name in chosen)
        turn = asyncio.Semaphore(TURNS)
        before = len(self.staged)

        async def one(name: str) -> Cdo:
            async with turn:
                return await self._stage(name, None, order, reads)

        found = await asyncio.gather(*map(one, chosen), return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException):
                staged, self.staged = self.staged[before:], self.staged[:before]
                await _withdraw(staged)
                raise error
        return [cdo for cdo in found if isinstance(cdo, Cdo)]

    async def _close(self) -> None:
        staged, self.staged = self.staged, []
        await self._lanes.close()
        await _withdraw(staged)


async def _withdraw(cdos: Iterable[Cdo]) -> None:
    for cdo in cdos:
        if cdo.state == "offered":
            await cdo._withdraw(None)
        if cdo.state != "disposed":
            await cdo._dispose()


def _selectable(holding: Holding) -> dict[str, Any]:
    """What selectors see of it."""
    core = core_attributes(holding.name, holding.distribution, holding.dtype)
    return {**holding.attributes, **core}


def _holdings(store: Store) -> Iterator[Holding]:
    """All CDOs of a store: what is not complete is none."""
    if is_file(store):
        for each in variables(store):
            layout = each.layout
            yield Holding(each.path, each.path, each.attributes, layout, layout, each.dtype)
        return
    content = store.read(META)
    if content is not None and _is_ours(store, content):
        for name in store.children():
            document = store.read(f"{name}/{META}") if name != META else None
            if document is not None:
                yield _archived(store, name, document)
        return
    for path in _arrays(store, content):
        array = StoredArray.found(store, path)
        attributes = array.attributes
        yield Holding(path or "array", path, attributes, array.layout, array.layout, array.dtype)


def _is_ours(store: Store, content: bytes) -> bool:
    try:
        words = json.loads(content)
        return words["node_type"] == "group" and OURS in (words.get("attributes") or {})
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"store {store.url}: its {META} can't be read: {error!r}") from None


def _archived(store: Store, path: str, content: bytes) -> Holding:
    try:
        document = json.loads(content)
        attributes = document["attributes"]
        origin = Origin.found(attributes)
        if origin is None:
            raise ValueError(f"there is no attribute {OURS!r}")
        name = f"{origin['name']}{path[path.index('@') :]}" if "@" in path else origin["name"]
        known = name, path, original_attributes(attributes), origin.distribution
        if document["node_type"] == "group":
            return Holding(*known, None, None)
        array = StoredArray.of(store, path, document)
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise StoreError(f"store {store.url}: {path}/{META} can't be read: {error!r}") from None
    return Holding(*known, array.layout, array.dtype)


def _arrays(store: Store, content: bytes | None) -> list[str]:
    """Paths of all arrays of another program's store."""
    import zarr

    try:
        if content is not None and json.loads(content).get("node_type") == "array":
            return [""]
        group = zarr.open(store.zarr(), mode="r")
        if isinstance(group, zarr.Array):
            return [""]
        return sorted(
            path for path, found in group.members(max_depth=None) if isinstance(found, zarr.Array)
        )
    except Exception as error:  # whatever is there
        raise StoreError(f"store {store.url}: it is no Zarr store: {error}") from error
