"""A program connected to a pool."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from distributed.security import Security
from numpy.typing import ArrayLike, DTypeLike

from layouts import Distribution
from layouts.orders import Order, Tiled, slowest_first
from maestro.apps.cdo import Cdo
from maestro.apps.connection import Connection
from maestro.apps.group import Group
from maestro.apps.handle import Handle
from maestro.apps.schemafiles import Given, schemas_of
from maestro.apps.subscription import Subscription
from maestro.config import get_number
from maestro.events import WHEN, Event, checked_kinds, unpack
from maestro.logs import follow_environment
from maestro.messages import BATCH
from maestro.pool import Pool
from maestro.selectors import Selector
from maestro.triggers.conditions import Condition
from maestro.triggers.trigger import Trigger

__all__ = ["App", "connect"]

logger = logging.getLogger("maestro.app")

#: How a trigger's function may be run.
_HOW = ("priority", "resources", "retries", "workers")


def connect(
    pool: Any = None,
    *,
    workflow: str | None = None,
    component: str | None = None,
    security: Security | None = None,
    timeout: float | None = None,
    asynchronous: bool | None = None,
    schemas: Given | None = None,
) -> App:
    """Connect this program to a pool.

    Parameters
    ----------
    pool : str, distributed.Client, or cluster, optional
        Address of a Dask scheduler, a client, or a cluster object. Scheduler and workers become
        pool manager and nodes if they are not yet. By default a pool is started in this process,
        for others to join at `App.address`.
    workflow, component : str
        What this program is part of, and what it is; errors and listings name it so. By default as
        ``MSTRO_WORKFLOW_NAME`` and ``MSTRO_COMPONENT_NAME`` say, or "default" and "app".
    security : distributed.Security, optional
        For TLS, as Dask takes it.
    timeout : float, optional
        Seconds to try to reach the scheduler; ``maestro.timeouts.connect`` by default.
    asynchronous : bool, optional
        Whether calls return awaitables. By default ``with`` makes the app blocking and
        ``async with`` or ``await`` asynchronous.
    schemas : path, Schema, or several of them, optional
        What attributes there are, and of what types: YAML files of Maestro Core's form. By default
        those that are configured: see ``maestro.schemas``, ``MSTRO_SCHEMA_LIST``.

    Returns
    -------
    App
        To be used in ``with`` or ``async with``, or as it is until `App.leave`.

    Raises
    ------
    PoolNotFoundError
        If no scheduler is there, or it cannot become a pool.
    SchemaError
        If a schema is not found, can't be read, or contradicts another one.
    TypeError
        If ``pool`` is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> import maestro
    >>> with maestro.connect() as app:
    ...     handle = app.offer("u10", np.arange(6.0).reshape(2, 3))
    ...     app.demand("u10", order="F").flags.f_contiguous
    True
    """
    try:
        follow_environment()
    except ValueError as error:  # no reason not to run
        logger.warning("%s", error)
    if workflow is None:
        workflow = os.environ.get("MSTRO_WORKFLOW_NAME") or "default"
    if component is None:
        component = os.environ.get("MSTRO_COMPONENT_NAME") or "app"
    app = App(pool, workflow, component, security, timeout, asynchronous, schemas_of(schemas))
    if not app._asynchronous and not _in_event_loop():
        _ = app._link  # connect now, so that what is wrong is said here
    return app


class App(Connection):
    """A program connected to a pool; made by `connect`.

    Methods block, or return awaitables where the app is asynchronous.
    """

    def declare(
        self,
        name: str,
        distribution: Distribution | None = None,
        dtype: DTypeLike | None = None,
        attributes: Mapping[str, Any] | None = None,
        rank: int | None = None,
        depends: Iterable[str | Cdo] = (),
        eagerness: str = "lazy",
    ) -> Cdo:
        """Make a handle to a CDO; nothing is announced yet.

        Parameters
        ----------
        name : str
            Name of the CDO in the pool.
        distribution : Distribution, optional
            How this app holds it, or wants it. Without, it is one whole array, or no data at all.
        dtype : dtype, optional
            Type of the elements; by default what is offered.
        attributes : mapping, optional
            Keys and plain values; where a schema knows the key, of its type.
        rank : int, optional
            The rank that this handle speaks for; all of them by default.
        depends : iterable of str or Cdo, optional
            CDOs that this one is nothing without, such as the grid of a field. Where who offers it
            says so, they stay in the pool for as long as this one, and every demand brings them
            along: see `Cdo.dependencies`. Where who demands it says so, they come along here. A
            handle says in which layout.
        eagerness : str
            When data is moved: "lazy", once it is demanded; "eager", what this handle requires as
            soon as it is in the pool, so that the demand finds it here; "push", what this handle
            offers to everyone who requires it, as if they were eager. What was moved ahead counts
            as served, and takes ``maestro.transfer.ahead`` bytes at most, in the order in which it
            was required; the rest stays in the pool until it is demanded.

        Raises
        ------
        RankError
            If the distribution has no such rank.
        SchemaError
            If an attribute is not as its schema says.
        """
        layout = distribution, dtype, attributes, rank
        return Cdo(self._link, name, *layout, self.schemas, depends, eagerness)

    def group(
        self,
        name: str,
        members: Iterable[Handle] = (),
        attributes: Mapping[str, Any] | None = None,
        eagerness: str = "lazy",
    ) -> Group:
        """Make a handle to a group of CDOs, which are offered, wanted and withdrawn as one.

        Parameters
        ----------
        name : str
            Name of the group in the pool.
        members : iterable of Cdo or Group, optional
            Handles that this app has declared, and not sealed; more can be added. Who wants a group
            needs none: it gets what is offered under this name.
        attributes : mapping, optional
            Keys and plain values, of the group itself.
        eagerness : str
            As for `declare`.

        Examples
        --------
        >>> import maestro
        >>> with maestro.connect() as app:
        ...     forecast = app.group("forecast")
        ...     forecast.add(app.declare("t2m"), app.declare("u10"))
        ...     forecast.offer({"t2m": [280.0, 281.0], "u10": [3.0, 4.0]})
        ...     wanted = app.group("forecast")
        ...     data = wanted.demand(timeout=10)
        ...     for cdo in wanted:
        ...         print(cdo.name, data[cdo.name])
        ...     forecast.withdraw()
        t2m [280. 281.]
        u10 [3. 4.]
        """
        return Group(self._link, name, members, attributes, self.schemas, eagerness)

    def offer(
        self,
        name: str,
        data: ArrayLike | Sequence[ArrayLike] | None = None,
        distribution: Distribution | None = None,
        attributes: Mapping[str, Any] | None = None,
        copies: int | None = None,
    ) -> Any:
        """Declare and offer in one: a whole array, or the parts of a distribution.

        ``copies`` says at how many nodes each part is kept, as for `Cdo.offer`.

        Returns
        -------
        Cdo
            The handle, to withdraw and dispose of. It need not be kept: what an app has offered
            leaves the pool with the app, once those who require it are served.
        """
        cdo = self.declare(name, distribution, None, attributes)
        return self._link.run(self._offer, cdo, data, copies)

    def demand(
        self,
        name: str,
        order: Order = "C",
        timeout: float | None = None,
        region: Sequence[slice] | None = None,
    ) -> Any:
        """Declare, demand and dispose in one: an array, in the given memory order.

        The whole array, or the region of it that slices give, one of step 1 for each axis; then
        only this moves.

        Returns
        -------
        ndarray
            The caller's own copy; for `layouts.Tiled`, a `layouts.TiledArray`.
        """
        if order not in ("C", "F") and not isinstance(order, Tiled):
            slowest_first(order, len(order))  # refuse what is no order before anything is asked
        return self._link.run(self._demand, self.declare(name), order, timeout, region)

    def subscribe(
        self,
        selector: str | None = None,
        *,
        kinds: str | Iterable[str] | None = None,
        ack: bool = False,
        when: str = "after",
        own: bool = True,
        since: int | None = None,
        durable: str | None = None,
        patience: float | None = None,
    ) -> Any:
        """Be told of what happens in the pool.

        Parameters
        ----------
        selector : str, optional
            Which CDOs, as `maestro.selectors.Selector` reads it; all events, also those without a
            CDO, by default.
        kinds : str or iterable of str, optional
            Some of `maestro.events.KINDS`, such as "offer"; all by default.
        ack : bool
            Whether the pool waits for this subscriber's acknowledgement, for
            ``maestro.events.patience`` at most. Before an operation, the operation waits; after
            an offer, the CDO stays in the pool until then.
        when : str
            Be told "before" operations take effect, or "after".
        own : bool
            Whether to be told also of what this app does itself.
        since : int, optional
            A serial from which on to be told also of what has happened already.
        durable : str, optional
            A name under which the subscription outlives this app, if it dies, for as long as the
            pool waits for acknowledgements. Whoever subscribes under it then is told again of all
            that was not acknowledged.
        patience : float, optional
            Seconds for which the pool waits for this subscriber while its app lives, instead of
            ``maestro.events.patience``.

        Returns
        -------
        Subscription
            To poll, to wait for, or to go through with ``for`` or ``async for``.

        Raises
        ------
        SelectorError
            If the selector can't be read; the text shows where.
        ValueError
            If there is no such kind, or ``when`` is neither of the two.

        Examples
        --------
        >>> import maestro
        >>> with maestro.connect() as app:
        ...     offers = app.subscribe('(.maestro.core.cdo.name ~= "^u")', kinds="offer")
        ...     handle = app.offer("u10", [1.0, 2.0])
        ...     [(event.kind, event.name) for event in offers.wait(timeout=10)]
        [('offer', 'u10')]
        """
        Selector(selector)  # what is wrong is said here, before anything is asked
        if when not in WHEN:
            raise ValueError(f"when: got {when!r}, expected 'before' or 'after'")
        return self._link.run(
            self._subscribe,
            selector=selector,
            kinds=list(checked_kinds(kinds)),
            when=when,
            ack=bool(ack),
            own=bool(own),
            since=since,
            durable=durable,
            patience=patience,
        )

    def when(
        self,
        *selectors: str | None,
        by: str | Sequence[str] | None = None,
        own: bool = True,
        limit: int | None = None,
        parts: bool = False,
        **how: Any,
    ) -> Callable[[Callable[..., Any]], Trigger]:
        """Have a function run by Dask when CDOs are in the pool; to be used as a decorator.

        With one selector there is a task for each CDO that matches; with several, for each set of
        CDOs of which one matches each. What is in the pool already counts.

        The function is given a `Match` for each selector: a CDO's name, its attributes, and its
        data as an array, on the worker whose node has most of it. Each CDO stays in the pool until
        its task has ended, and if a worker dies the task runs on another one.

        Parameters
        ----------
        *selectors : str
            As `maestro.selectors.Selector` reads them; without any, all CDOs match.
        by : str or sequence of str, optional
            Attributes by which CDOs belong together: those of a set have the same values. Without,
            the first that matches each selector are a set, then the second of each, and so on.
        own : bool
            Whether what this app itself offers counts.
        limit : int, optional
            Tasks under way at once, ``maestro.triggers.limit`` by default. What else matches waits
            in the pool for its turn.
        parts : bool
            Whether there is a task for each part of a CDO, rather than one for the whole of it: on
            the worker whose node holds the part, which it is handed where it lies, without a copy.
            With one selector only. Tasks of parts have the rank in their keys.
        **how
            How the function is to be run: ``workers``, ``resources``, ``retries`` or ``priority``,
            as `distributed.Client.submit` takes them.

        Returns
        -------
        callable
            Takes the function, and returns a `Trigger`, which gives the tasks' futures. It works
            until it is ended, or the app leaves. A task that fails is told there, and in the log,
            and keeps nobody from anything.

        Raises
        ------
        SelectorError
            If a selector can't be read; the text shows where.
        TypeError
            If the function can't be sent to workers, or is none.
        ValueError
            If there is a task for each part of several CDOs.

        Examples
        --------
        >>> import numpy as np
        >>> import maestro
        >>> with maestro.connect() as app:
        ...     @app.when('(name = "u")', '(name = "v")', by="step")
        ...     def strongest(u, v):
        ...         return float(np.hypot(u, v).max())
        ...
        ...     for step in (6, 12):
        ...         for name, values in (("u", [3.0, 0.0]), ("v", [4.0, step])):
        ...             said = {"name": name, "step": step}
        ...             have = app.offer(f"{name}+{step}", values, attributes=said)
        ...     strongest.end()
        ...     sorted((step, future.result()) for step, future in strongest)
        [(6, 6.0), (12, 12.0)]
        """
        condition = Condition.of(selectors, by)
        if parts and len(condition.selectors) > 1:
            raise ValueError(
                f"when: parts: got {len(condition.selectors)} selectors, expected one at most"
            )
        if strange := how.keys() - _HOW:
            raise TypeError(f"when: got {', '.join(sorted(strange))}, expected {', '.join(_HOW)}")
        most = get_number("triggers.limit") if limit is None else limit
        if not most >= 1:
            raise ValueError(f"limit: got {limit!r}, expected 1 or more tasks")

        def decorate(function: Callable[..., Any]) -> Trigger:
            trigger = Trigger(self, function, condition, own, int(most), bool(parts), how)
            self._triggers.add(trigger)
            return trigger._start()

        return decorate

    def log(self, since: int = 1, most: int | None = None) -> Any:
        """What has happened in the pool, as far as it is kept: a list of events.

        Parameters
        ----------
        since : int
            The serial of the first event that is wanted. The first of the list has a larger one
            where what was before it is not kept any more.
        most : int, optional
            Events to return at most.
        """
        return self._link.run(self._log, since, most)

    @property
    def pool(self) -> Any:
        """What is in the pool now, a `Pool`: a mapping from names to entries.

        An awaitable where the app is asynchronous.
        """
        return self._link.run(self._list_pool)

    @property
    def apps(self) -> Any:
        """The apps that are connected now: a list of dicts of app, workflow and component."""
        return self._link.run(self._list_apps)

    async def _offer(self, cdo: Cdo, data: Any, copies: int | None) -> Cdo:
        await cdo._offer(data, copies=copies)
        return cdo

    async def _demand(
        self, cdo: Cdo, order: Order, timeout: float | None, region: Sequence[slice] | None
    ) -> Any:
        try:
            return await cdo._demand(timeout, order, region=region, along=False)
        finally:
            cdo._dispose_soon()

    async def _subscribe(self, **asked: Any) -> Subscription:
        name = uuid4().hex
        asked = {"durable": None, "patience": None, **asked}
        await self._link.call("subscribe", subscription=name, **asked)
        return Subscription(self._link, name)

    async def _log(self, since: int, most: int | None) -> list[Event]:
        events: list[Event] = []
        left = sys.maxsize if most is None else most
        while left > 0:
            asked = min(BATCH, left)
            answer = await self._link.call("log", since=since, most=asked)
            found = list(unpack(answer["events"]))
            events += found
            if len(found) < asked:
                break
            since, left = found[-1].serial + 1, left - asked
        return events

    async def _list_pool(self) -> Pool:
        return Pool(await self._link.call("list"))

    async def _list_apps(self) -> list[dict[str, str]]:
        listing = await self._link.call("list")
        apps: list[dict[str, str]] = listing["apps"]
        return apps


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
