"""A CDO as one app holds it: a handle with its life, its attributes and its data's layout."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from layouts import Distribution
from layouts.orders import Order
from maestro.apps.arrivals import Arrivals
from maestro.apps.daskarrays import chunks_of, is_dask_array
from maestro.apps.filling import persist, scatter
from maestro.apps.handle import Handle, checked_name
from maestro.apps.leasing import storing_ahead
from maestro.apps.lifecycle import Lifecycle
from maestro.apps.link import Link
from maestro.apps.memory import lent_parts
from maestro.apps.offering import Given, Offering, checked_rank, checked_stored, offering
from maestro.config import get_seconds
from maestro.errors import InconsistentError
from maestro.report import Report
from maestro.schemas import Schemas
from maestro.schemas.core import core_attributes
from maestro.spelling import dtype_to_wire, layout_to_wire
from maestro.stores.lodging import Lodged
from maestro.stores.staging import Stored
from maestro.transport import transfer
from maestro.transport.lending import Lent, set_writeable
from maestro.transport.taking import Brought, Found, Take, Wanted, out_of, sizes, take

__all__ = ["Cdo"]


class Cdo(Handle):
    """One app's handle to a core data object; made by `App.declare`.

    Attributes
    ----------
    distribution : Distribution or None
        How this app holds it; None for whole arrays and for CDOs without data.
    dtype : numpy.dtype or None
        Type of the elements; None until it is known.
    rank : int or None
        The rank that this handle speaks for; None for all of them.
    report : Report or None
        What the last demand moved.
    dependencies : dict
        After a demand, what came along with it, by name: the data of the CDOs that it depends on,
        and of those that these depend on. Each as a whole array, or as the handle says that
        ``depends`` gave for it.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        distribution: Distribution | None = None,
        dtype: DTypeLike | None = None,
        attributes: Mapping[str, Any] | None = None,
        rank: int | None = None,
        schemas: Schemas | None = None,
        depends: Iterable[str | Cdo] = (),
        eagerness: str = "lazy",
    ) -> None:
        checked_name(name)
        if distribution is not None and not isinstance(distribution, Distribution):
            raise TypeError(
                f"CDO {name!r}: distribution: got {distribution!r}, expected a Distribution"
            )
        self.distribution = distribution
        self.dtype = None if dtype is None else np.dtype(dtype)
        self.rank = checked_rank(name, distribution, rank)
        super().__init__(link, name, attributes, schemas, Lifecycle(name), eagerness)
        self.report: Report | None = None
        self.dependencies: dict[str, Any] = {}
        self._depends = checked_depends(name, depends)
        self._lent: dict[int, Lent] = {}  # what `empty` gave, by rank
        if self.dtype is not None:
            dtype_to_wire(self.dtype, name)

    def __repr__(self) -> str:
        rank = "" if self.rank is None else f" rank {self.rank} of"
        what = "without layout" if self.distribution is None else str(self.distribution)
        return f"<Cdo {self.name!r}, {self.state},{rank} {what}, dtype {self.dtype}>"

    def empty(self) -> Any:
        """Memory for the data, to be written into and then offered, without a copy.

        Where a node of the pool is on this host, the memory is the node's own: offering what is in
        it takes no time. While it is offered it is read-only; after the withdrawal it can be
        written to and offered again. It stays valid, and is used for nothing else, for as long as
        an array refers to it.

        Returns
        -------
        ndarray or list of ndarray
            This rank's part, or those of all ranks where the handle speaks for all; of any content.
            In the order `layouts.Tiled`, each is a `layouts.TiledArray`.

        Raises
        ------
        InconsistentError
            If distribution or dtype are not declared.
        PoolFullError
            If there is no room.

        Examples
        --------
        >>> import maestro
        >>> from layouts import Distribution
        >>> with maestro.connect() as app:
        ...     cdo = app.declare("t2m", Distribution((300, 400)), "f8", rank=0)
        ...     part = cdo.empty()
        ...     part[...] = 273.15
        ...     cdo.offer()
        ...     part.flags.writeable, float(app.demand("t2m")[7, 7])
        (False, 273.15)
        """
        return self._link.run(self._empty)

    def offer(
        self,
        data: ArrayLike | Sequence[ArrayLike] | None = None,
        timeout: float | None = None,
        store: str | None = None,
        copies: int | None = None,
    ) -> Any:
        """Bring the data into the pool.

        The pool takes a copy: the arrays stay the caller's, and their later changes are not seen;
        but for those that `empty` gave.
        The CDO is in the pool once every rank is offered, by whichever apps.

        Parameters
        ----------
        data : array or list of arrays, optional
            This rank's part, or the list of all parts where the handle speaks for all ranks; a
            whole array where no distribution was declared. Any strides. Nothing for a CDO without
            data, and for what `empty` gave, which is not copied. A Dask array is taken chunk by
            chunk from the workers that compute it: each chunk is a part, so the distribution, if
            one was declared, must cut it alike.
        timeout : float, optional
            Seconds to wait for room at most, ``maestro.offer.patience`` by default.
        store : str, optional
            A local path or an URL such as ``s3://bucket/prefix``, which everyone sees: the data
            lives there, and takes no memory of the pool. It is read there by whoever demands it,
            and deleted when it leaves the pool.
        copies : int, optional
            At how many nodes each part is kept, of different hosts where that can be;
            ``maestro.offer.copies`` by default. With 2, no single node that dies is missed.

        Raises
        ------
        InconsistentError
            If a part's shape or dtype is not what the handle, or another one, says.
        AlreadyOfferedError
            If the name, or this rank of it, is in the pool.
        SchemaError
            If a required attribute is not set, and ``maestro.schemas.missing`` is to refuse that.
        PoolFullError
            If no node has room, and none comes in time; it says who holds the most.
        StoreError
            If the store cannot be written to.
        LifecycleError
            If it is not the turn of an offer.
        """
        return self._link.run(self._offer, data, timeout, store, copies)

    def demand(self, timeout: float | None = None, region: Sequence[slice] | None = None) -> Any:
        """Get the data, in the layout that this handle declared; it may be offered later.

        Parameters
        ----------
        timeout : float, optional
            Seconds that it may take in all; without limit by default.
        region : sequence of slice, optional
            Global indices, a slice of step 1 for each axis: only these are brought. Each rank gets
            what its part has of the region.

        Returns
        -------
        ndarray, list of ndarray, or None
            This rank's part, or the list of all parts where the handle speaks for all ranks; the
            whole array where no distribution was declared; None for a CDO without data. The
            arrays are the caller's own. In the order `layouts.Tiled`, each is a
            `layouts.TiledArray`.

        Raises
        ------
        PoolTimeoutError
            If the time runs out, saying which ranks are missing.
        DataLostError
            If an app or a node that held a part died.
        InconsistentError
            If this handle's shape or dtype is not that of the offer, or the region is not in it.

        Examples
        --------
        >>> import numpy as np
        >>> import maestro
        >>> with maestro.connect() as app:
        ...     handle = app.offer("t2m", np.arange(12.0).reshape(3, 4))
        ...     app.declare("t2m").demand(region=(slice(1, 3), slice(0, 2)))
        array([[4., 5.],
               [8., 9.]])
        """
        return self._link.run(self._demand, timeout, "C", region=region)

    def demand_parts(
        self, timeout: float | None = None, region: Sequence[slice] | None = None
    ) -> Arrivals:
        """Get the data part by part, each as soon as its own pieces are in.

        No part waits for another, so a handle that speaks for many ranks can work on the first ones
        while the last are under way. This object keeps no part that it has handed over.

        Parameters
        ----------
        timeout : float, optional
            Seconds that it may take in all, from the first part asked for to the last that came;
            without limit by default.
        region : sequence of slice, optional
            What of the array is wanted, as for `demand`.

        Returns
        -------
        Arrivals
            To iterate over, with ``for`` or ``async for``: ranks and parts, as `demand` gives them.
            The handle is demanded once the iteration has ended. Errors are those of `demand`;
            parts handed over before one are good.

        Examples
        --------
        >>> import numpy as np
        >>> import maestro
        >>> from layouts import Distribution
        >>> with maestro.connect() as app:
        ...     handle = app.offer("t2m", np.arange(6.0))
        ...     cdo = app.declare("t2m", Distribution((6,), (2,)))
        ...     for rank, part in sorted(cdo.demand_parts(), key=lambda found: found[0]):
        ...         print(rank, part)
        0 [0. 1. 2.]
        1 [3. 4. 5.]
        """
        return Arrivals(
            self._link,
            lambda hand: self._demand(timeout, "C", hand, region),
        )

    def demand_dask(self, timeout: float | None = None) -> Any:
        """Get the data as a Dask array, whose chunks are this handle's parts, or else the offer's.

        The parts are filled on Dask's workers, and stay there; which worker gets which is chosen so
        that the fewest bytes move. They are there when this returns, and stay for as long as the
        array is referred to, whatever is withdrawn or disposed of meanwhile.

        Parameters
        ----------
        timeout : float, optional
            Seconds that it may take in all; without limit by default.

        Returns
        -------
        dask.array.Array
            To be computed with this app's client: ``with app.client.as_current():`` where that is
            not Dask's default one. `report` says what moved.

        Raises
        ------
        InconsistentError
            If the distribution is none that a Dask array can have: replicated, or dealt in rounds.
        PoolTimeoutError, DataLostError
            As for `demand`.

        Examples
        --------
        >>> import dask.array as da
        >>> import maestro
        >>> from layouts import Distribution
        >>> with maestro.connect() as app:
        ...     handle = app.offer("t2m", da.arange(12, chunks=4).reshape(3, 4))
        ...     columns = Distribution((3, 4), grid=(1, 2))
        ...     array = app.declare("t2m", columns).demand_dask()
        ...     with app.client.as_current():
        ...         array.chunks, int(array.sum().compute())
        (((3,), (2, 2)), 66)
        """
        if self.rank is not None:
            raise InconsistentError(
                f"CDO {self.name!r}: the handle speaks for rank {self.rank}, expected one that"
                " speaks for all of a Dask array's chunks"
            )
        return self._link.run(self._demand, timeout, "C", gather=partial(persist, self))

    # The same as coroutines on the client's loop

    def _core(self) -> dict[str, Any]:
        return core_attributes(self.name, self.distribution, self.dtype, self.rank)

    def _words(self) -> dict[str, Any]:
        layout, dtype = self.distribution, self.dtype
        return {
            **self._announcement(),
            "distribution": layout_to_wire(layout),
            "dtype": None if dtype is None else dtype_to_wire(dtype, self.name),
            "rank": self.rank,
            "depends": list(self._depends),
            "group": False,
            "members": [],
        }

    async def _offer(
        self,
        data: Any,
        timeout: float | None = None,
        store: str | None = None,
        copies: int | None = None,
    ) -> None:
        patience = get_seconds("offer.patience") if timeout is None else timeout
        self._life.check("offer")
        given = await self._given(data, store)
        begun = perf_counter()
        async with self._turn("offer") as first:
            self._schemas.miss(self._missing)

            async def attempt(again: bool) -> None:
                before = None if again else first
                how = {"wait": patience > 0, "timeout": patience or None}
                asked = self._asking(given, copies)
                async with storing_ahead(self._link, self.name, given, asked) as stored:
                    answer = await self._link.call("offer", first=before, **how, **asked)
                    through = stored(answer)
                if given.distribution is not None:
                    async with self._entering([given]):
                        await (through or self._bring(given, answer))

            await self._insist(attempt)  # the parts are here
            self._offered(given)
        self._link.telemetry.offered(self.name, self._nbytes, perf_counter() - begun)

    @property
    def _nbytes(self) -> int:
        """Array bytes of what this handle speaks for."""
        layout, dtype = self.distribution, self.dtype
        if layout is None or dtype is None:
            return 0
        size = math.prod(layout.shape) if self.rank is None else layout.local_size(self.rank)
        return size * dtype.itemsize

    async def _given(self, data: Any, store: str | None = None) -> Given:
        """What is offered, if it is as declared."""
        if isinstance(data, Stored):
            return checked_stored(self.name, data, self.distribution, self.dtype)
        if is_dask_array(data):
            stated = self.name, data, self.distribution, self.dtype, self.rank
            return await chunks_of(self._link.client, self._link.ways, *stated)
        given = self._offering(data)
        return given if store is None else Lodged.of(self.name, given, store)

    async def _bring(self, given: Given, answer: dict[str, Any]) -> None:
        """Bring it to the nodes that the manager chose."""
        source = self._source(given, answer)
        if source is not None:
            for places in (answer["nodes"], *answer["copies"]):
                await given.bring(self._link.client, self._link.ways, source, places)

    def _source(self, given: Given, answer: dict[str, Any]) -> transfer.Source | None:
        """What is offered; None for a CDO without data."""
        if given.distribution is None or given.dtype is None:
            return None
        return transfer.Source(self.name, answer["version"], given.distribution, given.dtype)

    def _offered(self, given: Given) -> None:
        """It is in the pool."""
        self.distribution, self.dtype = given.distribution, given.dtype
        if isinstance(given, Offering):
            for own in given.lent.values():
                set_writeable(own.part, False)

    def _offering(self, data: Any) -> Offering:
        if data is None and self._lent:
            data = [own.part for _, own in sorted(self._lent.items())]
            data = data if self.rank is None else data[0]
        given = offering(self.name, data, self.distribution, self.dtype, self.rank)
        lent = {r: own for r, own in self._lent.items() if own.part is given.parts.get(r)}
        lent = {rank: own for rank, own in lent.items() if own.path}
        return replace(given, lent=lent) if lent else given

    async def _empty(self) -> Any:
        layout, dtype = self.distribution, self.dtype
        if layout is None or dtype is None:
            raise InconsistentError(
                f"CDO {self.name!r}: empty: got {layout} and dtype {dtype}, expected both declared"
            )
        ranks = range(layout.size) if self.rank is None else [self.rank]
        self._lent = {}
        self._lent = await lent_parts(self._link, self.name, layout, ranks, dtype)
        parts = [own.part for own in self._lent.values()]
        return parts if self.rank is None else parts[0]

    async def _withdraw(self, timeout: float | None) -> None:
        await super()._withdraw(timeout)
        self._withdrawn()

    def _withdrawn(self) -> None:
        """What was lent is the app's again."""
        for own in self._lent.values():
            set_writeable(own.part, True)

    def _wanted(self, order: Order = "C", region: Sequence[slice] | None = None) -> Wanted:
        return Wanted(self.name, self.distribution, self.rank, order, region)

    def _sizes(self, found: dict[str, Any]) -> list[int]:
        return sizes(self._wanted(), found, self.dtype) + [
            size
            for name, each in found.get("along", {}).items()
            for size in sizes(self._along(name), each)
        ]

    def _along(self, name: str) -> Wanted:
        """How something that this depends on is to come along."""
        handle = self._depends.get(name)
        return Wanted(name) if handle is None else handle._wanted()

    async def _demand(
        self,
        timeout: float | None,
        order: Order,
        hand: Take | None = None,
        region: Sequence[slice] | None = None,
        gather: Callable[[dict[str, Any], Report], Awaitable[Any]] | None = None,
        along: bool = True,
    ) -> Any:
        begun = perf_counter()
        wanted = self._wanted(order, region)
        async with self._turn("demand") as first, self._moved(timeout) as brought:
            if brought is None:
                found = await self._ask(timeout, first, along)
                report = Report(self.name, waited=perf_counter() - begun)
                async with self._receiving(found, timeout, report.waited):
                    brought = await self._fetch(wanted, found, report, hand, gather)
            elif gather is not None:
                brought.result = await scatter(self, brought)
            else:
                brought.result = out_of(wanted, brought.result, hand)
            self.attributes.unite(brought.found["attributes"])
            self.report, self.dependencies = brought.report, brought.along
            return brought.result

    async def _fetch(
        self,
        wanted: Wanted,
        found: Found,
        report: Report,
        hand: Take | None = None,
        gather: Callable[[Any, Report], Awaitable[Any]] | None = None,
    ) -> Brought:
        """Bring it, and what it depends on."""
        begun, ways = perf_counter(), self._link.ways
        if gather is not None:
            result = await gather(found, report)
        else:
            result = await take(ways, wanted, found, report, self._again(self.name), hand)
        came = {}
        for name, each in found.get("along", {}).items():
            since, also = perf_counter(), Report(name)
            came[name] = await take(ways, self._along(name), each, also, self._again(name))
            also.seconds = perf_counter() - since
            self._link.telemetry.demanded(also)
        report.seconds = perf_counter() - begun
        self._link.telemetry.demanded(report)
        return Brought(found, result, report, came)

    def _same(self, found: Found) -> Hashable:
        return found["version"], self.distribution, self.rank

    async def _bring_ahead(self, found: Found) -> Brought:
        async with self._receiving(found):
            return await self._fetch(self._wanted(), found, Report(self.name))

    async def _lay_out(self, lay: Callable[[Found, Report], Awaitable[Any]]) -> Any:
        """Have the data brought to workers; it stays required."""
        begun = perf_counter()
        async with self._turn("fetch"):
            found = await self._ask()
            report = Report(self.name, waited=perf_counter() - begun)
            async with self._receiving(found, stay=True):
                result = await lay(found, report)
                report.seconds = perf_counter() - begun - report.waited
                self._link.telemetry.demanded(report)
            self.report = report
            return result

    async def _dispose(self) -> None:
        await super()._dispose()
        self._lent = {}


def checked_depends(name: str, depends: Iterable[str | Cdo]) -> dict[str, Cdo | None]:
    """What a CDO depends on, by name, with the handles that say how it is wanted.

    Raises
    ------
    TypeError
        If one is neither a name nor a handle.
    """
    found: dict[str, Cdo | None] = {}
    for each in [depends] if isinstance(depends, str) else depends:
        if isinstance(each, Cdo):
            found[each.name] = each
        elif isinstance(each, str) and each:
            found.setdefault(each, None)
        else:
            raise TypeError(f"CDO {name!r}: depends: got {each!r}, expected names or handles")
    return found
