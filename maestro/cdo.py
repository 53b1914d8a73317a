"""A CDO as one app holds it: a handle with its life, its attributes and its data's layout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from time import perf_counter
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from layouts import Distribution
from layouts.orders import Order
from layouts.tiled import AnyArray
from maestro import transfer
from maestro.arrivals import Arrivals
from maestro.attributes import Attributes
from maestro.config import get_bytes, get_seconds
from maestro.daskarrays import Chunks, chunks_of, is_dask_array, persist_parts
from maestro.errors import (
    InconsistentError,
    MaestroError,
    PoolFullError,
    PoolLostError,
    PoolTimeoutError,
)
from maestro.lending import Lent, set_writeable
from maestro.lifecycle import Lifecycle
from maestro.link import Link
from maestro.messages import dtype_from_wire, dtype_to_wire
from maestro.offering import Offering, checked_rank, offering
from maestro.report import Report
from maestro.schemas import Schemas
from maestro.schemas.core import core_attributes

__all__ = ["Cdo"]

#: Takes a rank's part.
Take: TypeAlias = Callable[[int, AnyArray], None]


class Cdo:
    """One app's handle to a core data object; made by `App.declare`.

    Every call blocks until it is done, or returns an awaitable where the app is asynchronous. A
    call that fails raises and leaves handle and pool as they were.

    Attributes
    ----------
    name : str
        Name of the CDO.
    distribution : Distribution or None
        How this app holds it; None for whole arrays and for CDOs without data.
    dtype : numpy.dtype or None
        Type of the elements; None until it is known.
    rank : int or None
        The rank that this handle speaks for; None for all of them.
    attributes : Attributes
        To be set until the handle is sealed, which fills in the defaults of schemas; after a
        demand, what all handles have set.
    report : Report or None
        What the last demand moved.
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
    ) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"name: got {name!r}, expected a string that is not empty")
        if distribution is not None and not isinstance(distribution, Distribution):
            raise TypeError(
                f"CDO {name!r}: distribution: got {distribution!r}, expected a Distribution"
            )
        self._link = link
        self._handle = uuid4().hex
        self._life = Lifecycle(name)
        self.name = name
        self.distribution = distribution
        self.dtype = None if dtype is None else np.dtype(dtype)
        self.rank = checked_rank(name, distribution, rank)
        self._schemas = schemas or Schemas()
        self.attributes = Attributes(name, attributes, self._schemas, self._core)
        self._missing: tuple[str, ...] = ()  # required attributes, once sealed
        self.report: Report | None = None
        self._lent: dict[int, Lent] = {}  # what `empty` gave, by rank
        if self.dtype is not None:
            dtype_to_wire(self.dtype, name)

    @property
    def state(self) -> str:
        """Where the handle is in its life: declared, sealed, offered, required and so on."""
        return self._life.state

    def __repr__(self) -> str:
        rank = "" if self.rank is None else f" rank {self.rank} of"
        what = "without layout" if self.distribution is None else str(self.distribution)
        return f"<Cdo {self.name!r}, {self.state},{rank} {what}, dtype {self.dtype}>"

    def seal(self) -> Any:
        """Fix the attributes and announce the handle to the pool.

        Raises
        ------
        InconsistentError
            If another handle of this name states another shape, dtype or attribute value.
        LifecycleError
            If it is sealed already.
        """
        return self._link.run(self._seal)

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
        LifecycleError
            If it is not the turn of an offer.
        """
        return self._link.run(self._offer, data, timeout)

    def withdraw(self, timeout: float | None = None) -> Any:
        """Take the data out of the pool, once every requirement on it is served.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; without limit by default.

        Raises
        ------
        PoolTimeoutError
            If the time runs out, naming the apps that still require it; it stays in the pool.
        """
        return self._link.run(self._withdraw, timeout)

    def require(self) -> Any:
        """Ask for the CDO to be kept, now or once it is offered, until it is demanded here.

        Where its size is known already, memory for it is made ready meanwhile: the first touch of
        fresh memory takes several times as long as filling it.
        """
        return self._link.run(self._require)

    def retract(self) -> Any:
        """Take a requirement back."""
        return self._link.run(self._retract)

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
            lambda take: self._demand(timeout, "C", take, region),
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
        return self._link.run(self._demand, timeout, "C", gather=self._persist)

    def dispose(self) -> Any:
        """Give the handle up. Arrays that it gave stay valid."""
        return self._link.run(self._dispose)

    # The same as coroutines on the client's loop

    async def _seal(self) -> None:
        with self._life.turn("seal"):
            sealing = self._sealing()
            try:
                await self._link.call(**sealing)
            except BaseException:
                self.attributes.unseal()
                raise

    def _core(self) -> dict[str, Any]:
        return core_attributes(self.name, self.distribution, self.dtype, self.rank)

    def _sealing(self) -> dict[str, Any]:
        """Fix the attributes; what is to be said of the handle."""
        checked = self.attributes.seal()
        self._missing = checked.missing
        return {
            "word": "seal",
            "handle": self._handle,
            "name": self.name,
            "rank": self.rank,
            "attributes": checked.stated,
            "defaults": checked.defaults,
            **self._layout(self.distribution, self.dtype),
        }

    @asynccontextmanager
    async def _turn(self, call: str) -> AsyncIterator[dict[str, Any] | None]:
        """Make a call that seals by itself; if it fails, the seal is taken back as well.

        What it gives is to be called first.
        """
        before = self.state
        with self._life.turn(call):
            if before != "declared":
                yield None
                return
            sealing = self._sealing()
            try:
                yield sealing
            except BaseException:
                with suppress(MaestroError):  # it may never have been sealed
                    await self._link.call("dispose", handle=self._handle)
                self.attributes.unseal()
                raise

    async def _offer(self, data: Any, timeout: float | None = None) -> None:
        patience = get_seconds("offer.patience") if timeout is None else timeout
        self._life.check("offer")
        given: Offering | Chunks
        if is_dask_array(data):
            stated = self.name, data, self.distribution, self.dtype, self.rank
            given = await chunks_of(self._link.client, *stated)
        else:
            given = self._offering(data)
        async with self._turn("offer") as first:
            self._schemas.miss(self._missing)
            answer = await self._link.call(
                "offer",
                first=first,
                handle=self._handle,
                near=dict(given.near),
                wait=patience > 0,
                timeout=patience or None,
                **self._layout(given.distribution, given.dtype),
            )
            try:
                if given.distribution is not None and given.dtype is not None:
                    source = transfer.Source(
                        self.name, answer["version"], given.distribution, given.dtype
                    )
                    await given.bring(self._link.client, self._link.ways, source, answer["nodes"])
            except BaseException:
                await self._tell("abort")
                raise
            await self._link.call("stored", handle=self._handle)
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
        return replace(given, lent={rank: own for rank, own in lent.items() if own.path})

    async def _empty(self) -> Any:
        layout, dtype = self.distribution, self.dtype
        if layout is None or dtype is None:
            raise InconsistentError(
                f"CDO {self.name!r}: empty: got {layout} and dtype {dtype}, expected both declared"
            )
        ways = self._link.ways
        ranks = range(layout.size) if self.rank is None else [self.rank]
        nodes = await self._link.call("nodes")
        near = await ways.on_this_host(nodes)
        free = {node: nodes[node]["limit"] - nodes[node]["used"] for node in sorted(near)}
        least = get_bytes("transfer.map-from")
        self._lent = {}
        for rank in ranks:
            nbytes = layout.local_size(rank) * dtype.itemsize
            node = max(free, key=lambda each: free[each], default="")
            if node and nbytes >= least:
                try:
                    self._lent[rank] = await ways.lend_part(node, layout, rank, dtype)
                except MemoryError as error:
                    raise PoolFullError(
                        f"CDO {self.name!r}: no memory for the part of rank {rank}, {nbytes}"
                        f" bytes: {error}"
                    ) from None
                free[node] -= nbytes
            else:
                part = ways.empty_part(layout, rank, dtype, self.name)
                self._lent[rank] = Lent(part, "", "")
        parts = [self._lent[rank].part for rank in ranks]
        return parts if self.rank is None else parts[0]

    async def _withdraw(self, timeout: float | None) -> None:
        with self._life.turn("withdraw"):
            await self._link.call("withdraw", timeout=timeout, handle=self._handle)
            for own in self._lent.values():
                set_writeable(own.part, True)

    async def _require(self, warm: bool = True) -> None:
        async with self._turn("require") as first:
            found = await self._link.call("require", first=first, handle=self._handle)
        if warm:
            self._link.ways.warm_soon(self._sizes(found))

    def _sizes(self, found: dict[str, Any] | None) -> list[int]:
        """Bytes of the parts that a demand will bring, as far as they are known."""
        layout, dtype = self.distribution, self.dtype
        if found is not None and found["distribution"] is not None:
            layout = layout or Distribution(Distribution.from_dict(found["distribution"]).shape)
            dtype = dtype_from_wire(found["dtype"])
        if layout is None or dtype is None:
            return []
        ranks = range(layout.size) if self.rank is None else [self.rank]
        return [layout.local_size(rank) * dtype.itemsize for rank in ranks]

    async def _retract(self) -> None:
        with self._life.turn("retract"):
            await self._link.call("retract", handle=self._handle)

    async def _demand(
        self,
        timeout: float | None,
        order: Order,
        take: Take | None = None,
        region: Sequence[slice] | None = None,
        gather: Callable[[dict[str, Any], Report], Awaitable[Any]] | None = None,
    ) -> Any:
        begun = perf_counter()
        async with self._turn("demand") as first:
            found = await self._link.call(
                "demand", timeout=timeout, first=first, handle=self._handle
            )
            report = Report(self.name, waited=perf_counter() - begun)
            try:
                left = None if timeout is None else max(0.0, timeout - report.waited)
                async with asyncio.timeout(left):
                    if gather is not None:
                        result = await gather(found, report)
                    else:
                        result = await self._take(found, order, report, take, region)
            except BaseException as error:
                await self._tell("received", served=False)
                if isinstance(error, TimeoutError) and not isinstance(error, PoolTimeoutError):
                    raise PoolTimeoutError(
                        f"CDO {self.name!r}: its data was not here after {timeout:g} s: nodes"
                        f" {', '.join(sorted(set(found['nodes'])))} hold it"
                    ) from None
                raise
            self._link.tell("received", handle=self._handle, served=True)
            report.seconds = perf_counter() - begun - report.waited
            self.attributes.unite(found["attributes"])
            self.report = report
            return result

    async def _take(
        self,
        found: dict[str, Any],
        order: Order,
        report: Report,
        take: Take | None,
        region: Sequence[slice] | None,
    ) -> Any:
        if found["distribution"] is None:
            if self.distribution is not None:
                raise InconsistentError(
                    f"CDO {self.name!r}: it is offered without data, expected {self.distribution}"
                )
            return None
        offered = Distribution.from_dict(found["distribution"])
        dtype = dtype_from_wire(found["dtype"])
        target = self.distribution or Distribution(offered.shape, order=order)
        if region is not None:
            try:
                target = target.section(region)
            except (ValueError, IndexError) as error:
                raise InconsistentError(f"CDO {self.name!r}: {error}") from None
            except TypeError as error:
                raise TypeError(f"CDO {self.name!r}: {error}") from None
        ranks = range(target.size) if self.rank is None else [self.rank]
        empty_part = self._link.ways.empty_part
        parts = {rank: empty_part(target, rank, dtype, self.name) for rank in ranks}
        source = transfer.Source(self.name, found["version"], offered, dtype)

        def arrived(rank: int) -> None:
            if take is not None:
                take(rank, parts.pop(rank))

        report.transfers = await transfer.fetch(
            self._link.ways,
            source,
            transfer.Whereabouts(found["nodes"]),
            target,
            parts,
            arrived,
            region,
        )
        if take is not None:
            return None
        if self.distribution is None or self.rank is not None:
            return parts[ranks[0]]
        return list(parts.values())

    async def _persist(self, found: dict[str, Any], report: Report) -> Any:
        if found["distribution"] is None:
            raise InconsistentError(
                f"CDO {self.name!r}: it is offered without data, expected a Dask array's"
            )
        offered = Distribution.from_dict(found["distribution"])
        source = transfer.Source(
            self.name, found["version"], offered, dtype_from_wire(found["dtype"])
        )
        nodes = sorted(await self._link.call("nodes"))
        target = self.distribution or offered
        array, report.transfers = await persist_parts(
            self._link.client, source, found["nodes"], target, nodes
        )
        return array

    async def _tell(self, word: str, **how: Any) -> None:
        """Let the manager know how an offer or a demand ended; a lost pool need not know."""
        with suppress(PoolLostError):
            await self._link.call(word, handle=self._handle, **how)

    async def _dispose(self) -> None:
        before = self.state
        with self._life.turn("dispose"):
            if before != "declared":
                await self._link.call("dispose", handle=self._handle)
            self._lent = {}

    def _dispose_soon(self) -> None:
        """Dispose of a handle that nobody else knows of."""
        before = self.state
        with self._life.turn("dispose"):
            if before != "declared":
                self._link.tell("dispose", handle=self._handle)

    def _layout(
        self, distribution: Distribution | None, dtype: np.dtype[Any] | None
    ) -> dict[str, Any]:
        return {
            "distribution": None if distribution is None else distribution.to_dict(),
            "dtype": None if dtype is None else dtype_to_wire(dtype, self.name),
        }
