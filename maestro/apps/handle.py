"""What CDOs and groups have in common, as one app holds them: a name, attributes and a life."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from maestro.apps.ahead import Move, checked_eagerness
from maestro.apps.lifecycle import Lifecycle
from maestro.apps.link import Link
from maestro.attributes import Attributes
from maestro.config import get_number
from maestro.errors import (
    DataLostError,
    InconsistentError,
    LifecycleError,
    MaestroError,
    PoolLostError,
)
from maestro.schemas import Schemas
from maestro.schemas.core import core_attributes
from maestro.spelling import dtype_to_wire, layout_to_wire
from maestro.transport.fetching import Again, Whereabouts, whereabouts
from maestro.transport.taking import Found, in_time

if TYPE_CHECKING:
    from maestro.apps.group import Group
    from maestro.apps.offering import Given

__all__ = ["Handle", "checked_name"]


def checked_name(name: Any) -> str:
    """A name that can be told everywhere: in messages, in stores, on a terminal.

    Raises
    ------
    TypeError
        If it is no string, or empty.
    InconsistentError
        If it holds half of a surrogate pair, which no encoding has.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"name: got {name!r}, expected a string that is not empty")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InconsistentError(
            f"name: got {name!r}, expected characters; at {error.start} is half of a surrogate pair"
        ) from None
    return name


class Handle:
    """One app's handle to something of the pool: a `Cdo` or a `Group`.

    Every call blocks until it is done, or returns an awaitable where the app is asynchronous. A
    call that fails raises and leaves handle and pool as they were.

    Attributes
    ----------
    name : str
        Name in the pool.
    attributes : Attributes
        To be set until the handle is sealed, which fills in the defaults of schemas; after a
        demand, what all handles have set.
    eagerness : str
        When data is moved: one of `maestro.apps.ahead.EAGERNESS`.
    """

    def __init__(
        self,
        link: Link,
        name: str,
        attributes: Mapping[str, Any] | None,
        schemas: Schemas | None,
        life: Lifecycle,
        eagerness: str,
    ) -> None:
        self._link = link
        self._handle = uuid4().hex
        self._life = life
        self._schemas = schemas or Schemas()
        self._missing: tuple[str, ...] = ()  # required attributes, once sealed
        self._group: Group | None = None  # the group that it is a member of
        self._move: Move | None = None  # its data, on its way here ahead of a demand
        self._ticket = 0  # its place in the order of requirements
        self._pushed = False  # whether what it requires is pushed
        self.eagerness = checked_eagerness(name, eagerness)
        self.name = name
        self.attributes = Attributes(name, attributes, self._schemas, self._core)

    @property
    def state(self) -> str:
        """Where the handle is in its life: declared, sealed, offered, required and so on."""
        return self._life.state

    def seal(self) -> Any:
        """Fix the attributes and announce the handle to the pool.

        Raises
        ------
        InconsistentError
            If another handle of this name states another shape, dtype or attribute value, or what
            it depends on depends on it.
        LifecycleError
            If it is sealed already.
        """
        return self._link.run(self._seal)

    def withdraw(self, timeout: float | None = None) -> Any:
        """Take the data out of the pool, once every requirement on it is served.

        And once what depends on it has left the pool.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most; without limit by default.

        Raises
        ------
        PoolTimeoutError
            If the time runs out, naming the apps that still require it; it stays in the pool.
        LifecycleError
            If this app itself offers what depends on it: it would wait for itself.
        """
        return self._link.run(self._withdraw, timeout)

    def require(self) -> Any:
        """Ask for it to be kept, now or once it is offered, until it is demanded here.

        Where its size is known already, memory for it is made ready meanwhile: the first touch of
        fresh memory takes several times as long as filling it.
        """
        return self._link.run(self._want)

    def retract(self) -> Any:
        """Take a requirement back."""
        return self._link.run(self._retract)

    def dispose(self) -> Any:
        """Give the handle up. Arrays that it gave stay valid."""
        return self._link.run(self._dispose)

    # The same as coroutines on the client's loop

    def _core(self) -> dict[str, Any]:
        """What maestro itself says of it."""
        return core_attributes(self.name, None, None)

    def _sealing(self) -> dict[str, Any]:
        """Fix the attributes; the call that announces the handle."""
        return {"word": "seal", **self._words()}

    def _words(self) -> dict[str, Any]:
        """Fix the attributes; what is said of the handle."""
        raise NotImplementedError

    def _asking(self, given: Given | None, copies: int | None = None) -> dict[str, Any]:
        """What is said of an offer."""
        wanted = int(get_number("offer.copies")) if copies is None else copies
        layout: dict[str, Any] = {"distribution": None, "dtype": None}
        if given is not None and given.distribution is not None:
            layout["distribution"] = layout_to_wire(given.distribution)
        if given is not None and given.dtype is not None:
            layout["dtype"] = dtype_to_wire(given.dtype, self.name)
        near = {} if given is None else dict(given.near)
        how = {"near": near, "copies": wanted, "placed": None}
        return {"handle": self._handle, **how, **layout}

    def _again(self, name: str) -> Again:
        """What a demand asks when a part was not there: waits until all are to be had."""

        async def again() -> Whereabouts:
            found = await self._link.call("locate", handle=self._handle)
            return await whereabouts(
                self._link.ways, found if name == self.name else found["along"][name]
            )

        return again

    def _unseal(self) -> None:
        self.attributes.unseal()

    def _announcement(self) -> dict[str, Any]:
        """The part of it which is the same for all handles."""
        checked = self.attributes.seal()
        self._missing = checked.missing
        return {
            "handle": self._handle,
            "name": self.name,
            "attributes": checked.stated,
            "defaults": checked.defaults,
            "push": self.eagerness == "push",
        }

    async def _seal(self) -> None:
        with self._life.turn("seal"):
            sealing = self._sealing()
            try:
                await self._link.call(**sealing)
            except BaseException:
                self._unseal()
                raise

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
                self._unseal()
                raise

    async def _insist(self, attempt: Callable[[bool], Awaitable[Any]]) -> Any:
        """Do something that ends with data lost if a node dies; then do it ``again``."""
        left = int(get_number("transfer.retries"))
        again = False
        while True:
            try:
                return await attempt(again)
            except DataLostError:
                if left <= 0:
                    raise
            left, again = left - 1, True

    @asynccontextmanager
    async def _entering(self, given: Iterable[Given]) -> AsyncIterator[None]:
        """Let the pool know that all is there; or, if it failed, that nothing is offered.

        What takes no time is not waited for: a node that dies meanwhile may as well die right
        after. And a CDO without data is there as soon as it is offered.
        """
        try:
            yield
        except BaseException:
            await self._tell("abort")
            raise
        if all(each.quick for each in given):
            self._link.tell("stored", handle=self._handle, awaited=False)
            return
        try:
            await self._link.call("stored", handle=self._handle, awaited=True)
        except DataLostError:
            await self._tell("abort")
            raise

    async def _withdraw(self, timeout: float | None) -> None:
        with self._life.turn("withdraw"):
            await self._link.call("withdraw", timeout=timeout, handle=self._handle)

    async def _want(self) -> None:
        await self._require()

    async def _require(self, wanted: bool = True) -> dict[str, Any] | None:
        """Require it; what is not wanted here is only to be kept in the pool.

        Returns
        -------
        dict or None
            How it is laid out; None if it is not in the pool yet.
        """
        async with self._turn("require") as first:
            if wanted:
                self._link.required[self._handle] = self
            self._ticket, self._pushed = next(self._link.ahead.tickets), False
            found = await self._link.call("require", first=first, handle=self._handle)
        if self.eagerness != "lazy" or self._pushed:
            self._move_ahead()
        elif wanted:
            self._link.ways.warm_soon(self._sizes(found or {}))
        return cast("dict[str, Any] | None", found)

    def _move_ahead(self) -> None:
        """Move the data here as soon as it is in the pool, before it is demanded."""
        self._pushed = True  # also if the requirement is just being made
        if self._move is None and self.state == "required":
            self._move = Move(self._link.ahead, self)

    @asynccontextmanager
    async def _moved(self, timeout: float | None) -> AsyncIterator[Any]:
        """What was moved ahead, which stays here if it can't be given; None if nothing was."""
        brought = None
        if self._move is not None:
            try:
                brought = await self._move.claim(timeout)
            except DataLostError:  # it is still required: the next one is
                self._move = Move(self._link.ahead, self)
                raise
        if brought is None:
            self._move = None
        yield brought
        self._give_up_move()

    async def _ask(
        self,
        timeout: float | None = None,
        first: dict[str, Any] | None = None,
        along: bool = True,
        waited: float = 0.0,
    ) -> Any:
        """Where it is, once it is in the pool, and what goes along with it."""
        asked = {"handle": self._handle, "along": along, "waited": waited}
        return await self._link.call("demand", timeout=timeout, first=first, **asked)

    @asynccontextmanager
    async def _receiving(
        self,
        found: Found,
        timeout: float | None = None,
        waited: float = 0.0,
        stay: bool = False,
    ) -> AsyncIterator[None]:
        """Bring what was found, in time, and let the pool know whether it is here."""
        try:
            async with in_time(self.name, found, timeout, waited):
                yield
        except BaseException:
            await self._tell("received", served=False, stay=False, moved={})
            raise
        moved = self._link.telemetry.news()
        self._link.tell_later("received", handle=self._handle, served=True, stay=stay, moved=moved)

    def _same(self, found: Found) -> Hashable:
        return None

    async def _bring_ahead(self, found: Found) -> Any:
        raise NotImplementedError

    def _sizes(self, found: dict[str, Any]) -> list[int]:
        """Bytes of the parts that a demand will bring, as far as they are known."""
        raise NotImplementedError

    async def _retract(self) -> None:
        with self._life.turn("retract"):
            await self._link.call("retract", handle=self._handle)
            self._give_up_move()

    def _give_up_move(self) -> None:
        if self._move is not None:
            self._move.drop()
            self._move = None

    async def _tell(self, word: str, **how: Any) -> None:
        """Let the manager know how an offer or a demand ended; a lost pool need not know."""
        with suppress(PoolLostError):
            await self._link.call(word, handle=self._handle, **how)

    async def _dispose(self) -> None:
        if self._group is not None:
            raise LifecycleError(
                f"CDO {self.name!r}: dispose was called, expected the group {self._group.name!r} to"
                " be disposed of"
            )
        before = self.state
        with self._life.turn("dispose"):
            if before != "declared":
                await self._link.call("dispose", handle=self._handle)

    def _release_soon(self) -> None:
        """Take a requirement back, and dispose of its handle, that nobody else knows of."""
        with self._life.turn("retract"):
            self._link.tell_later("retract", handle=self._handle)
        self._dispose_soon()

    def _dispose_soon(self) -> None:
        """Dispose of a handle that nobody else knows of."""
        before = self.state
        with self._life.turn("dispose"):
            if before != "declared":
                self._link.tell_later("dispose", handle=self._handle)
