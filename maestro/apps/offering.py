"""What is offered, checked against what was declared, before the pool hears of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from distributed import Client

from layouts import Distribution
from layouts.orders import Order, in_order
from layouts.tiled import AnyArray, TiledArray, as_array
from maestro.errors import InconsistentError, RankError
from maestro.spelling import dtype_to_wire, whole
from maestro.stores.staging import Stored
from maestro.transport import transfer
from maestro.transport.ends import AT_ONCE
from maestro.transport.lending import Lent
from maestro.transport.ways import Ways

__all__ = ["Given", "Offering", "checked_rank", "checked_stored", "offering"]


class Given(Protocol):
    """What is offered, wherever it is: its layout, and how it comes to the nodes.

    ``near`` says at which nodes some ranks would rather be, or in which store they live; ``quick``,
    whether bringing it takes no time.
    """

    @property
    def distribution(self) -> Distribution | None: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any] | None: ...  # noqa: D102
    @property
    def near(self) -> Mapping[int, str]: ...  # noqa: D102

    @property
    def quick(self) -> bool: ...  # noqa: D102

    async def bring(
        self, client: Client, ways: Ways, source: transfer.Source, places: Mapping[int, str]
    ) -> None:
        """Bring the parts to their nodes."""


@dataclass(frozen=True)
class Offering:
    """Parts by rank with their layout; neither layout nor parts for a CDO without data.

    Some of the parts may lie in memory that a node has lent.
    """

    distribution: Distribution | None
    dtype: np.dtype[Any] | None
    parts: dict[int, AnyArray]

    lent: dict[int, Lent] = field(default_factory=dict)

    @property
    def near(self) -> dict[int, str]:
        """At which nodes some ranks would rather be: where they are already."""
        return {rank: own.node for rank, own in self.lent.items()}

    @property
    def quick(self) -> bool:
        """Whether all of it goes in a word."""
        return sum(part.nbytes for part in self.parts.values()) <= AT_ONCE

    async def bring(
        self, client: Client, ways: Ways, source: transfer.Source, places: Mapping[int, str]
    ) -> None:
        """Bring the parts, or a copy of them, to their nodes."""
        await transfer.store(ways, source, places, self.parts, self.lent)


def offering(
    name: str,
    data: Any,
    distribution: Distribution | None,
    dtype: np.dtype[Any] | None,
    rank: int | None,
) -> Offering:
    """The parts that ``data`` gives for what a handle has declared.

    Raises
    ------
    InconsistentError
        If there are not as many parts as declared, or of other shapes or dtypes.
    TypeError
        If the elements hold Python objects.
    """
    if data is None:
        if distribution is not None:
            raise InconsistentError(
                f"CDO {name!r}: no data was given, expected {_expected(distribution, rank)}"
            )
        return Offering(None, dtype, {})
    if distribution is None:
        array = as_array(data)
        distribution = whole(array.shape, _order_of(array))
        parts = {0: array}
    else:
        parts = _by_rank(name, data, distribution, rank)
    dtype = dtype or next(iter(parts.values())).dtype
    dtype_to_wire(dtype, name)
    for number, part in parts.items():
        expected = distribution.local_shape(number)
        if part.shape != expected:
            raise InconsistentError(
                f"CDO {name!r}: the part of rank {number} has shape {part.shape}, expected"
                f" {expected} of {distribution}"
            )
        if part.dtype != dtype:
            raise InconsistentError(
                f"CDO {name!r}: the part of rank {number} has dtype {part.dtype}, expected {dtype}"
            )
    return Offering(distribution, dtype, parts)


def checked_rank(name: str, distribution: Distribution | None, rank: Any) -> int | None:
    """The rank as an int, or None for all of them.

    Raises
    ------
    RankError
        If the distribution has no such rank, or there is none.
    """
    if rank is None:
        return None
    if distribution is None:
        raise RankError(f"CDO {name!r}: rank {rank} was given, expected a distribution with it")
    try:
        distribution.coordinates(rank)
    except (IndexError, TypeError) as error:
        raise RankError(f"CDO {name!r}: {error}") from None
    return int(rank)


def checked_stored(
    name: str, data: Stored, distribution: Distribution | None, dtype: np.dtype[Any] | None
) -> Stored:
    """What is offered from a store.

    Raises
    ------
    InconsistentError
        If another distribution or dtype was declared.
    """
    for word, given, expected in (
        ("distribution", data.distribution, distribution),
        ("dtype", data.dtype, dtype),
    ):
        if expected is not None and given != expected:
            raise InconsistentError(f"CDO {name!r}: {word} {given} was given, expected {expected}")
    return data


def _order_of(array: AnyArray) -> Order:
    """The order in which a whole array is kept: its own if that has a name, else row-major."""
    if isinstance(array, TiledArray):
        return array.order
    return "C" if in_order(array, "C") or not in_order(array, "F") else "F"


def _by_rank(
    name: str, data: Any, distribution: Distribution, rank: int | None
) -> dict[int, AnyArray]:
    if rank is not None:
        return {rank: as_array(data)}
    if isinstance(data, np.ndarray) or not isinstance(data, Sequence):
        if distribution.size == 1:
            return {0: as_array(data)}
        raise InconsistentError(
            f"CDO {name!r}: one array was given, expected {_expected(distribution, rank)};"
            " distribution.split(array) makes one"
        )
    if len(data) != distribution.size:
        raise InconsistentError(
            f"CDO {name!r}: {len(data)} parts were given, expected {_expected(distribution, rank)}"
        )
    return {number: as_array(part) for number, part in enumerate(data)}


def _expected(distribution: Distribution, rank: int | None) -> str:
    if rank is None:
        return f"a list of {distribution.size} parts"
    return f"the part of rank {rank}, of shape {distribution.local_shape(rank)}"
