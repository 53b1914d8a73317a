"""Between which places bytes go in one process, on one host, or over a network; and at what cost.

::

    process   copied in place, by one pass over memory
    host      the reader maps the memory of the other process: one pass as well
    network   packed, sent, received, unpacked
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Link", "LinkCosts", "Place", "link_between", "link_bytes", "link_costs"]

Link: TypeAlias = Literal["process", "host", "network"]

LINKS: tuple[Link, ...] = ("process", "host", "network")


@dataclass(frozen=True)
class Place:
    """Where a rank lives.

    Attributes
    ----------
    host : str
        Ranks of one host can map each other's memory.
    process : int or str
        Which process of that host.
    """

    host: str
    process: int | str


@dataclass(frozen=True)
class LinkCosts:
    """Cost of a byte over each kind of link, relative to a copy within one process.

    The defaults are ratios measured on one machine, 64 MiB of doubles that were touched before, one
    thread. Host: a copy out of another process' memory, mapped anew each time with its pages
    populated, took 1.9 to 2.2 times one within the process (1.0 where the mapping was kept).
    Network: packed, sent over one Dask tcp connection within the host, and unpacked, 5.8 to 7.1
    times. Only their relation counts; measure your own network.
    """

    process: float = 1.0
    host: float = 2.0
    network: float = 6.0


def link_between(one: Place, other: Place) -> Link:
    """The cheapest kind of link that two places have.

    Examples
    --------
    >>> link_between(Place("a", 1), Place("a", 2))
    'host'
    """
    if one.host != other.host:
        return "network"
    return "process" if one.process == other.process else "host"


def link_costs(
    sources: Sequence[Place], targets: Sequence[Place], costs: LinkCosts | None = None
) -> NDArray[np.float64]:
    """The cost of a byte from each source rank to each place: what `plan` takes as ``links``.

    Parameters
    ----------
    sources : sequence of Place
        Where each source rank lives.
    targets : sequence of Place
        The places for target ranks, one each.
    costs : LinkCosts, optional
        Those measured by default.

    Returns
    -------
    float64 array, shape (len(sources), len(targets))

    Examples
    --------
    Source ranks 0 and 1 live on one host, and so do the places 1 and 2:

    >>> from layouts import Distribution, Irregular, plan
    >>> links = link_costs([Place("a", 0), Place("a", 1), Place("b", 0)],
    ...                    [Place("b", 0), Place("a", 0), Place("a", 1)])
    >>> links
    array([[6., 1., 2.],
           [6., 2., 1.],
           [1., 6., 6.]])
    >>> rows = Distribution((9,), grid=(3,))
    >>> plan(rows, rows, relabel=True, links=links).places
    array([1, 2, 0])
    """
    chosen = LinkCosts() if costs is None else costs
    by_kind = np.array([getattr(chosen, link) for link in LINKS], np.float64)
    return by_kind[_kinds(sources, targets)]


def link_bytes(
    matrix: ArrayLike, sources: Sequence[Place], targets: Sequence[Place]
) -> dict[Link, int]:
    """How many bytes go over each kind of link.

    Parameters
    ----------
    matrix : array_like of int, shape (len(sources), len(targets))
        Bytes from each source rank to each target rank, as of ``plan.matrix(itemsize)``.
    sources, targets : sequence of Place
        Where each source and each target rank lives.

    Raises
    ------
    ValueError
        If the matrix has another shape.

    Examples
    --------
    >>> link_bytes([[8, 16], [24, 32]], [Place("a", 0), Place("b", 0)], [Place("a", 0)] * 2)
    {'process': 24, 'host': 0, 'network': 56}
    """
    given, kinds = np.asarray(matrix), _kinds(sources, targets)
    if given.shape != kinds.shape:
        raise ValueError(
            f"matrix: its shape is {given.shape}, expected {kinds.shape}: a row for each source"
            " rank, a column for each target rank"
        )
    return {link: int(given[kinds == number].sum()) for number, link in enumerate(LINKS)}


def _kinds(sources: Sequence[Place], targets: Sequence[Place]) -> NDArray[np.intp]:
    """The number, in `LINKS`, of the link between each pair."""
    hosts = _numbered([place.host for place in (*sources, *targets)])
    processes = _numbered([(place.host, place.process) for place in (*sources, *targets)])
    here, there = slice(len(sources)), slice(len(sources), None)
    same_host = hosts[here, np.newaxis] == hosts[there]
    same_process = processes[here, np.newaxis] == processes[there]
    return np.where(same_process, 0, np.where(same_host, 1, 2))


def _numbered(values: Sequence[object]) -> NDArray[np.intp]:
    """Equal values as equal numbers."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.intp)
