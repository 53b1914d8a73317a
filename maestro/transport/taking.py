"""What a demand brings, once the manager has said where it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from layouts import Distribution, plan
from layouts.orders import Order
from layouts.tiled import AnyArray, move
from maestro.errors import InconsistentError, PoolTimeoutError
from maestro.report import Report
from maestro.spelling import dtype_from_wire, layout_from_wire, whole
from maestro.transport import transfer
from maestro.transport.fetching import Again, whereabouts
from maestro.transport.ways import Ways

__all__ = ["Brought", "Found", "Take", "Wanted", "in_time", "out_of", "sizes", "source_of", "take"]

#: Takes a rank's part.
Take: TypeAlias = Callable[[int, AnyArray], None]

#: What the manager says of a CDO: version, layout, nodes and attributes, in plain values.
Found: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a CDO, and how.

    Attributes
    ----------
    name : str
        The CDO.
    distribution : Distribution or None
        How it is wanted; None for one whole array, in ``order``.
    rank : int or None
        Whose part; None for those of all ranks.
    order : order
        Of a whole array.
    region : sequence of slice, optional
        What of it, by global indices.
    """

    name: str
    distribution: Distribution | None = None
    rank: int | None = None
    order: Order = "C"
    region: Sequence[slice] | None = None

    def target(self, offered: Distribution) -> Distribution:
        """The distribution in which it is to come."""
        target = self.distribution or whole(offered.shape, self.order)
        if self.region is None:
            return target
        try:
            return target.section(self.region)
        except (ValueError, IndexError) as error:
            raise InconsistentError(f"CDO {self.name!r}: {error}") from None
        except TypeError as error:
            raise TypeError(f"CDO {self.name!r}: {error}") from None

    def result(self, parts: Mapping[int, AnyArray]) -> Any:
        """The parts as a demand gives them."""
        if self.distribution is None or self.rank is not None:
            return next(iter(parts.values()))
        return list(parts.values())

    def ranks(self, target: Distribution) -> Sequence[int]:
        """The ranks whose parts are wanted."""
        return range(target.size) if self.rank is None else [self.rank]


def source_of(name: str, found: Found) -> transfer.Source | None:
    """What is offered; None for a CDO without data."""
    if found["distribution"] is None:
        return None
    layout = layout_from_wire(found["distribution"])
    return transfer.Source(name, found["version"], layout, dtype_from_wire(found["dtype"]))


@dataclass
class Brought:
    """What a demand has brought.

    Attributes
    ----------
    found : mapping
        What the manager said of it.
    result : array, list of arrays or None
        As `Cdo.demand` gives it.
    report : Report
        What was moved.
    along : dict
        What came along, by name.
    """

    found: Found
    result: Any
    report: Report
    along: dict[str, Any]


async def take(
    ways: Ways,
    wanted: Wanted,
    found: Found,
    report: Report,
    again: Again,
    hand: Take | None = None,
) -> Any:
    """Bring the data.

    Parameters
    ----------
    ways : Ways
        This program's ways to the nodes.
    wanted : Wanted
        What of it, and how.
    found : mapping
        What the manager says of it.
    report : Report
        Where to note what was moved.
    again : callable
        Asked where the parts are, if one is not there.
    hand : callable, optional
        Takes the parts as they come; then nothing is returned.

    Returns
    -------
    array, list of arrays or None
        As `Cdo.demand` gives it.
    """
    source = source_of(wanted.name, found)
    if source is None:
        if wanted.distribution is not None:
            raise InconsistentError(
                f"CDO {wanted.name!r}: it is offered without data, expected {wanted.distribution}"
            )
        return None
    target = wanted.target(source.distribution)
    ranks = wanted.ranks(target)
    parts = {rank: ways.empty_part(target, rank, source.dtype, wanted.name) for rank in ranks}

    def arrived(rank: int) -> None:
        if hand is not None:
            hand(rank, parts.pop(rank))

    where = await whereabouts(ways, found)
    fetch = partial(
        transfer.fetch, ways, source, where, target, parts, arrived, wanted.region, again
    )
    if hand is None:
        same = source.version, target, tuple(parts), str(wanted.region)
        report.transfers = await ways.sharing.bring(same, parts, fetch)
    else:
        report.transfers = await fetch()
    return None if hand is not None else wanted.result(parts)


def out_of(wanted: Wanted, result: Any, hand: Take | None) -> Any:
    """What is wanted, out of what was brought without regard to region or ways to hand it over."""
    if result is None:
        return None
    single = wanted.distribution is None or wanted.rank is not None
    given = [result] if single else list(result)
    here = wanted.distribution or whole(given[0].shape, wanted.order)
    ranks = wanted.ranks(here)
    parts: dict[int, AnyArray] = dict(zip(ranks, given, strict=True))
    if wanted.region is not None:
        target = wanted.target(here)
        way = plan(here, target, region=wanted.region)
        for rank in ranks:
            part = target.empty(rank, given[0].dtype)
            for source, pieces in way.incoming(rank):
                move(part, parts[source], pieces, threads=1)
            parts[rank] = part
    if hand is None:
        return wanted.result(parts)
    for rank, part in parts.items():
        hand(rank, part)
    return None


def sizes(wanted: Wanted, found: Found | None, dtype: Any = None) -> list[int]:
    """Bytes of the parts that a demand will bring, as far as they are known."""
    layout = wanted.distribution
    if found and found.get("distribution") is not None:
        layout = layout or whole(layout_from_wire(found["distribution"]).shape)
        dtype = dtype_from_wire(found["dtype"])
    if layout is None or dtype is None:
        return []
    return [layout.local_size(rank) * dtype.itemsize for rank in wanted.ranks(layout)]


@asynccontextmanager
async def in_time(
    name: str, found: Found, timeout: float | None, waited: float
) -> AsyncIterator[None]:
    """Let what is brought take what is left of the time, and say what there was to bring."""
    try:
        async with asyncio.timeout(None if timeout is None else max(0.0, timeout - waited)):
            yield
    except TimeoutError as error:
        if isinstance(error, PoolTimeoutError):
            raise
        nodes = {
            node for each in (found, *found.get("along", {}).values()) for node in each["nodes"]
        }
        raise PoolTimeoutError(
            f"CDO {name!r}: its data was not here after {timeout:g} s: nodes"
            f" {', '.join(sorted(filter(None, nodes)))} hold it"
        ) from None
