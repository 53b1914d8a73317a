"""One redistribution for all of an app's demands of the same parts in the same layout.

Who comes while the same is under way lets it be copied: memory is copied several times as fast as
it is reordered, and what came from another host need not come twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import TypeAlias

import numpy as np

from layouts.tiled import AnyArray, TiledArray
from maestro.report import Transfer
from maestro.transport.offload import SMALL, off_loop

__all__ = ["Sharing"]

#: Fills parts, and says what was moved for it.
Bring: TypeAlias = Callable[[], Awaitable[list[Transfer]]]


class Sharing:
    """What is under way, by what tells whether it is the same."""

    def __init__(self) -> None:
        self._under_way: dict[
            Hashable, list[tuple[Mapping[int, AnyArray], asyncio.Future[bool]]]
        ] = {}

    async def bring(
        self, key: Hashable, parts: Mapping[int, AnyArray], bring: Bring
    ) -> list[Transfer]:
        """Fill parts, by copying those of another who does if there is one.

        Parameters
        ----------
        key : hashable
            Equal for those whose parts are going to be equal.
        parts : mapping of int to array
            By rank.
        bring : callable
            Fills them.

        Returns
        -------
        list of Transfer
            What was moved for it; nothing where it was copied.
        """
        others = self._under_way.get(key)
        if others is not None:
            copied: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            others.append((parts, copied))
            return [] if await copied else await bring()
        others = self._under_way[key] = []
        came = False
        try:
            transfers = await bring()
            came = True
        finally:
            del self._under_way[key]
            if not came:  # they find out for themselves
                _tell(others, came)
        # Before anybody can write to the first one's.
        try:
            size = sum(part.nbytes for part in parts.values()) * len(others)
            await off_loop(size <= SMALL, _copy, parts, [each for each, _ in others])
        except BaseException:
            came = False
            raise
        finally:
            _tell(others, came)
        return transfers


def _copy(parts: Mapping[int, AnyArray], others: list[Mapping[int, AnyArray]]) -> None:
    for other in others:
        for rank, part in parts.items():
            np.copyto(_memory(other[rank]), _memory(part))


def _memory(part: AnyArray) -> np.ndarray:
    return part.memory if isinstance(part, TiledArray) else part


def _tell(others: list[tuple[Mapping[int, AnyArray], asyncio.Future[bool]]], came: bool) -> None:
    for _, copied in others:
        if not copied.done():
            copied.set_result(came)
