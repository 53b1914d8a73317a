"""What a trigger's function is given of each CDO, and how that is brought to its worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Worker, get_worker

from layouts import Distribution
from layouts.tiled import AnyArray
from maestro.apps.cdo import Cdo
from maestro.apps.filling import fill
from maestro.attributes import plain
from maestro.errors import DataLostError
from maestro.locations import is_location
from maestro.report import Report
from maestro.schemas.core import core_attributes
from maestro.transport.fetching import Whereabouts, fetch
from maestro.transport.shares import Source
from maestro.transport.taking import Found, source_of
from maestro.transport.tasks import on_worker

__all__ = [
    "Match",
    "Part",
    "bring",
    "call",
    "call_async",
    "call_part",
    "call_part_async",
    "fail",
    "lay_parts",
]


@dataclass(frozen=True, eq=False)
class Match:
    """A CDO that a trigger's selector has matched.

    NumPy's functions take it for its data.

    Attributes
    ----------
    name : str
        The CDO.
    version : int
        Serial number of this offering.
    attributes : dict
        What its producers have set, and what maestro itself says: what selectors see.
    data : ndarray, dict or None
        The whole array, row-major; of a group, its members' by name; None for a CDO without data.
    dependencies : dict
        By name, the data of what the CDO depends on.
    distribution : Distribution or None
        How the CDO is offered; None for one without data.
    rank : int or None
        Whose part the data is, where the trigger is for parts: ``distribution.indices(rank)`` says
        which of the array. It lies where its node holds it, in the order in which it was offered,
        and is not to be written to.
    """

    name: str
    version: int
    attributes: dict[str, Any]
    data: Any
    dependencies: dict[str, Any]
    distribution: Distribution | None = None
    rank: int | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self.data is None or isinstance(self.data, dict):
            what = "no data" if self.data is None else "members"
            raise TypeError(f"CDO {self.name!r}: it has {what}, expected an array")
        return np.array(self.data, dtype, copy=copy)


def call(function: Callable[..., Any], given: Sequence[Mapping[str, Any]]) -> Any:
    """Do what was to be done; Dask has put data in the place of its futures."""
    return function(*(Match(**each) for each in given))


async def call_async(function: Callable[..., Any], given: Sequence[Mapping[str, Any]]) -> Any:
    """The same for a coroutine function."""
    return await function(*(Match(**each) for each in given))


def call_part(function: Callable[..., Any], given: Mapping[str, Any], part: Part) -> Any:
    """Do what was to be done with a part, where it lies."""
    return function(Match(**given, data=on_worker(part.data)))


async def call_part_async(
    function: Callable[..., Any], given: Mapping[str, Any], part: Part
) -> Any:
    """The same for a coroutine function."""
    return await function(Match(**given, data=await part.data(get_worker())))


@dataclass(frozen=True)
class Part:
    """A rank's part, and where it is thought to be."""

    source: Source
    where: Whereabouts
    rank: int

    @property
    def workers(self) -> dict[str, Any]:
        """Which of Dask's workers had better do something with it."""
        node = self.where.nodes[self.rank]
        if not node or is_location(node):
            return {}
        return {"workers": [node], "allow_other_workers": True}

    async def data(self, worker: Worker) -> AnyArray:
        """The part where it lies, if that is here; else a copy of it."""
        node, source, rank = worker.extensions["maestro"], self.source, self.rank
        held = self.where.instead.get(rank, rank)
        shown: AnyArray | None = node.holdings.show(source.version, held, source.dtype)
        if shown is not None:
            return shown
        layout = source.distribution
        part = node.ways.empty_part(layout, rank, source.dtype, source.name)
        await fetch(node.ways, source, self.where, layout, {rank: part}, lambda _: None)
        return part


async def lay_parts(cdo: Cdo, version: int) -> list[tuple[dict[str, Any], Part]]:
    """The parts of a CDO that is required, where they are; it stays required.

    Returns
    -------
    list of (dict, Part)
        The fields of a `Match` but its data, and the part; none for a CDO without data.
    """

    async def lay(found: Found, report: Report) -> list[tuple[dict[str, Any], Part]]:
        _check_version(cdo.name, found, version)
        source = source_of(cdo.name, found)
        if source is None:
            return []
        words = {
            "name": cdo.name,
            "version": version,
            "attributes": _attributes(cdo.name, found),
            "dependencies": {},
            "distribution": source.distribution,
        }
        where = Whereabouts(found["nodes"], found["instead"])
        ranks = range(source.distribution.size)
        return [({**words, "rank": rank}, Part(source, where, rank)) for rank in ranks]

    laid: list[tuple[dict[str, Any], Part]] = await cdo._lay_out(lay)
    return laid


def fail(error: BaseException) -> None:
    """End in an error that was met before there was anything to do."""
    raise error


async def bring(cdo: Cdo, version: int) -> dict[str, Any]:
    """Have the data of a CDO that is required lie with a worker; it stays required.

    Returns
    -------
    dict
        The fields of a `Match`; instead of arrays, the futures of Dask that have them.
    """

    async def lay(found: Found, report: Report) -> dict[str, Any]:
        _check_version(cdo.name, found, version)
        source = source_of(cdo.name, found)
        along = found.get("along", {})
        came = {name: await _whole(cdo, name, each, report) for name, each in along.items()}
        came[cdo.name] = await _whole(cdo, cdo.name, found, report)
        return {
            "name": cdo.name,
            "version": version,
            "attributes": _attributes(cdo.name, found),
            "data": _data(cdo.name, found, along, came),
            "dependencies": came,
            "distribution": None if source is None else source.distribution,
        }

    given: dict[str, Any] = await cdo._lay_out(lay)
    return given


def _check_version(name: str, found: Found, version: int) -> None:
    if found["version"] != version:
        raise DataLostError(f"CDO {name!r}: it had left the pool before it could be kept")


async def _whole(cdo: Cdo, name: str, found: Found, report: Report) -> Any:
    """The future of an array; None where there is no data."""
    source = source_of(name, found)
    if source is None:
        return None
    whole = Distribution(source.distribution.shape)
    (future,) = await fill(cdo, whole, source, found, report, loose=True)
    return future


def _data(name: str, found: Found, along: Mapping[str, Found], came: dict[str, Any]) -> Any:
    """Take what belongs to a CDO or a group out of what came."""
    own = came.pop(name)
    if found["group"]:
        return {each: _data(each, along[each], along, came) for each in found["needs"]}
    return own


def _attributes(name: str, found: Found) -> dict[str, Any]:
    """What selectors see."""
    source = source_of(name, found)
    layout = None if source is None else source.distribution
    dtype = None if source is None else source.dtype
    members = found["needs"] if found["group"] else None
    core = core_attributes(name, layout, dtype, members=members)
    return {**plain(found["attributes"]), **core}
