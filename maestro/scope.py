"""What is used in ``with`` or in ``async with``, as its app is blocking or asynchronous."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Self

__all__ = ["Scope"]


class Scope(ABC):
    """Something that begins with a block and ends with it; once, in either kind of block.

    What begins and ends it blocks, or returns an awaitable, as the app's methods do.
    """

    #: Errors of the end that are not raised where the block has raised: what was first is said.
    _second: ClassVar[tuple[type[Exception], ...]] = ()

    def _enter(self) -> Any:
        """Begin, unless it has begun when it was made."""
        return None

    @abstractmethod
    def _exit(self) -> Any:
        """End."""

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(*(() if error is None else self._second)):
            self._exit()

    async def __aenter__(self) -> Self:
        entering = self._enter()
        if entering is not None:
            await entering
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(*(() if error is None else self._second)):
            await self._exit()
