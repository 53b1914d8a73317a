"""What an app moves before it is demanded: eagerly, or because who offers it pushes it.

::

    require ──> asked ──it is in the pool──> queued ──its turn, and room──> moving ──> here
                  │                            │                              │         │
    demand:   waits for it              takes over itself                 waits for it  has it

Moves go in the order of the requirements, one after the other: what is required first is needed
first. What is here and was not demanded yet takes ``maestro.transfer.ahead`` bytes at most; what
has no room stays in the pool, and required, until there is some or it is demanded. What is here is
served: its producers may withdraw it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from time import perf_counter
from typing import Any, Protocol

from maestro.errors import MaestroError, PoolTimeoutError
from maestro.transport.taking import Found

__all__ = ["EAGERNESS", "Ahead", "Move", "checked_eagerness"]

#: When what is required is moved: once it is demanded; as soon as it is there; or, said by who
#: offers it, as soon as it is there to everyone who requires it.
EAGERNESS = ("lazy", "eager", "push")


def checked_eagerness(name: str, eagerness: str) -> str:
    """Raise ValueError unless it is one of `EAGERNESS`."""
    if eagerness not in EAGERNESS:
        raise ValueError(
            f"CDO {name!r}: eagerness: got {eagerness!r}, expected one of {', '.join(EAGERNESS)}"
        )
    return eagerness


class Movable(Protocol):
    """A handle, as a move needs it."""

    name: str
    _ticket: int  # its place in the order of requirements

    async def _ask(self, timeout: float | None, *, waited: float = 0.0) -> Found:
        """Where it is, once it is in the pool; so long was waited for it before."""

    def _sizes(self, found: Any) -> list[int]:
        """Bytes of the parts that come."""

    def _same(self, found: Found) -> Hashable:
        """Equal for those who can share one redistribution; None for who can't."""

    async def _bring_ahead(self, found: Found) -> Any:
        """Bring them, and let the pool know that they are here."""


@dataclass(order=True)
class _Waiting:
    ticket: int
    nbytes: int = field(compare=False)
    same: Hashable = field(compare=False)
    granted: asyncio.Future[None] = field(compare=False)


class Ahead:
    """Whose turn it is to move ahead, and how many bytes an app has ahead.

    Parameters
    ----------
    limit : int
        Bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self.moves: set[Move] = set()
        self.tickets = itertools.count()
        self._queue: list[_Waiting] = []
        self._moving = 0
        self._same: Hashable = None  # of those that move

    async def turn(self, ticket: int, nbytes: int, same: Hashable = None) -> None:
        """Wait until it is one's turn, and there is room.

        Parameters
        ----------
        ticket : int
            Smaller ones go first.
        nbytes : int
            What it is going to take.
        same : hashable, optional
            Those to whom this is equal go together, also with one that moves already.
        """
        granted = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(ticket, nbytes, same, granted))
        # Not at once: what was found at the same time is going to be in the queue, too.
        asyncio.get_running_loop().call_soon(self._grant)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.end_turn()
                self.free(nbytes)
            raise

    def end_turn(self) -> None:
        """It is the next one's turn."""
        self._moving -= 1
        self._grant()

    def free(self, nbytes: int) -> None:
        """So many bytes are the program's now, or nobody's."""
        self.used -= nbytes
        self._grant()

    def _grant(self) -> None:
        self._queue = [each for each in self._queue if not each.granted.done()]  # not given up
        if not self._queue:
            return
        self._queue.sort()
        first = None if self._moving else self._queue[0]
        if first is not None:
            self._same = first.same
        for each in self._queue:
            if each is not first and (self._same is None or each.same != self._same):
                continue
            if self.used + each.nbytes > self.limit:
                return
            self.used += each.nbytes
            self._moving += 1
            each.granted.set_result(None)

    def close(self) -> None:
        """Leave nothing under way."""
        for move in list(self.moves):
            move.drop()


class _Stage(Enum):
    ASKED = "asked"
    QUEUED = "queued"
    MOVING = "moving"
    HERE = "here"
    FAILED = "failed"


class Move:
    """One handle's data on its way here, before it is demanded.

    Parameters
    ----------
    ahead : Ahead
        The app's.
    handle : Movable
        What is to be moved.
    """

    def __init__(self, ahead: Ahead, handle: Movable) -> None:
        self._ahead, self._handle = ahead, handle
        self._stage = _Stage.ASKED
        self._nbytes = 0
        self._brought: Any = None
        self._error: MaestroError | None = None
        self._found = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        ahead.moves.add(self)

    async def _run(self) -> None:
        try:
            found = await self._handle._ask(None)
            self._stage = _Stage.QUEUED
            self._found.set()
            nbytes = sum(self._handle._sizes(found))
            if nbytes > self._ahead.limit:
                self._stage = _Stage.FAILED  # it stays where it is until it is demanded
                return
            await self._ahead.turn(self._handle._ticket, nbytes, self._handle._same(found))
            self._nbytes, self._stage = nbytes, _Stage.MOVING
            try:
                self._brought = await self._handle._bring_ahead(found)
            finally:
                self._ahead.end_turn()
            self._stage = _Stage.HERE
        except Exception as error:
            # That something was lost the manager says once; all else will be met with again.
            if self._stage is _Stage.ASKED and isinstance(error, MaestroError):
                self._error = error
            self._stage = _Stage.FAILED
        finally:
            self._found.set()
            if self._stage is not _Stage.HERE:
                self._let_go()

    async def claim(self, timeout: float | None) -> Any:
        """What is here, or will be; None if it is for the demand itself to bring it.

        It stays here until it is dropped.

        Raises
        ------
        PoolTimeoutError
            If it is not in the pool in time, or not here.
        DataLostError
            If it was lost.
        """
        begun = perf_counter()
        if not await _in_time(self._found.wait(), timeout):
            await self._handle._ask(0, waited=float(timeout or 0))  # raises what is missing
            return self.drop()
        if self._stage is _Stage.QUEUED:
            return self.drop()
        left = None if timeout is None else max(0.0, timeout - (perf_counter() - begun))
        if self._stage is _Stage.MOVING and not await _in_time(asyncio.wait({self._task}), left):
            raise PoolTimeoutError(
                f"CDO {self._handle.name!r}: its data was not here after {timeout:g} s: it is"
                " under way"
            )
        if self._error is not None:
            raise self._error
        return self._brought

    def drop(self) -> None:
        """Give up what is not here, and let go of what is."""
        self._task.cancel()
        if self._stage is _Stage.HERE:
            self._let_go()

    def _let_go(self) -> None:
        self._ahead.moves.discard(self)
        nbytes, self._nbytes, self._brought = self._nbytes, 0, None
        self._ahead.free(nbytes)


async def _in_time(work: Awaitable[Any], timeout: float | None) -> bool:
    """Whether it was done in time; if not, it is not waited for any more."""
    try:
        async with asyncio.timeout(timeout):
            await work
    except TimeoutError:
        return False
    return True
