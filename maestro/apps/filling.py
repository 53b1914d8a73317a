"""What a handle wants, on Dask's workers: brought there, or sent there if it is here already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import Future

from layouts import Distribution
from maestro.apps.daskarrays import array_of, cut, fill_parts, scatter_parts
from maestro.errors import InconsistentError
from maestro.report import Report
from maestro.transport import transfer
from maestro.transport.fetching import whereabouts
from maestro.transport.taking import Brought, Found, source_of

if TYPE_CHECKING:
    from maestro.apps.cdo import Cdo

__all__ = ["fill", "persist", "scatter"]


async def persist(cdo: Cdo, found: Found, report: Report) -> Any:
    """What is wanted, as a Dask array."""
    source = _source(cdo.name, found)
    target = cdo.distribution or source.distribution
    chunks = cut(source, target)
    return array_of(await fill(cdo, target, source, found, report), chunks, source)


async def scatter(cdo: Cdo, brought: Brought) -> Any:
    """What was moved here ahead, as a Dask array."""
    source = _source(cdo.name, brought.found)
    parts = brought.result if cdo.distribution else source.distribution.split(brought.result)
    target = cdo.distribution or source.distribution
    return await scatter_parts(cdo._link.client, cdo._link.ways, source, target, parts)


async def fill(
    cdo: Cdo,
    target: Distribution,
    source: transfer.Source,
    found: Found,
    report: Report,
    loose: bool = False,
) -> list[Future]:
    """Have what a handle wants, or what comes along with it, lie with Dask's workers."""
    link = cdo._link

    async def attempt(again: bool) -> list[Future]:
        where = await (cdo._again(source.name)() if again else whereabouts(link.ways, found))
        nodes = sorted(await link.call("nodes"))
        parts, moved, chosen = await fill_parts(
            link.client, source, where, target, nodes, link.ways, loose
        )
        report.transfers += moved
        report.kept += chosen.kept
        report.saved += chosen.saved
        return parts

    parts: list[Future] = await cdo._insist(attempt)
    return parts


def _source(name: str, found: Found) -> transfer.Source:
    """What is offered; there must be data."""
    source = source_of(name, found)
    if source is None:
        raise InconsistentError(
            f"CDO {name!r}: it is offered without data, expected a Dask array's"
        )
    return source
