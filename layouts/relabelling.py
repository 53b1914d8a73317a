"""Which target rank lives where: the numbering that keeps the most bytes in place.

A *place* is what a rank lives at: a process, a worker, a host. By default rank ``k`` of the source
and rank ``k`` of the target live at one place, ``k``. Where nobody depends on which place gets
which target rank, the labels may be permuted, and much of the data then need not move::

    place               0         1         2         3
    source rank         0 [AB]    1 [CD]    2 [EF]    3 [GH]
    target rank         0 [GH]    1 [AB]    2 [CD]    3 [EF]       everything moves
    ... relabelled      1 [AB]    2 [CD]    3 [EF]    0 [GH]       nothing does

Choosing them is the linear assignment problem, solved exactly: SciPy's ``linear_sum_assignment``,
after D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Transactions on
Aerospace and Electronic Systems 52 (2016). Its use for redistribution follows M. Kabić et al.,
"COSTA: Communication-Optimal Shuffle and Transpose Algorithm with Process Relabeling", ISC High
Performance (2021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layouts.distribution import Distribution
from layouts.matrix import check_room, held, keep_what_is_read

__all__ = ["MOST_RANKS", "Links", "best_places"]

#: Cost per byte from where a source rank lives to a place: a matrix [source, place], or a function.
Links: TypeAlias = ArrayLike | Callable[[int, int], float]

Costs: TypeAlias = NDArray[np.float64]

#: The assignment is dense: 1000 ranks took 0.02 to 0.1 s and 16 MB (with links 32 MB), 4000 ranks
#: 0.2 to 1.3 s and 256 MB (with links 4.7 s and 512 MB).
MOST_RANKS = 8192

#: Matrices that are there at once, with links; measured, SciPy makes none of its own.
_ARRAYS = 4


def best_places(
    source: Distribution, target: Distribution, links: Links | None = None
) -> tuple[int, ...]:
    """The place of each target rank at which the moves cost the least.

    Parameters
    ----------
    source, target : Distribution
        Of one shape. The places are ``0`` to ``target.size - 1``; source rank ``k`` lives at ``k``.
    links : array_like of shape (source.size, target.size), or callable, optional
        Cost per byte from where source rank ``s`` lives to place ``p``: ``links[s, p]`` or
        ``links(s, p)``; finite, not negative. By default 0 where ``s == p`` and 1 elsewhere, so
        that the fewest bytes move.

    Returns
    -------
    tuple of int, length target.size
        A permutation. Of equally good ones, one that leaves the most ranks where they are; always
        the same for the same input. With ``links``, costs that differ by less than a billionth of
        the largest that a rank could have count as equal.

    Raises
    ------
    ValueError
        If there are more than `MOST_RANKS` ranks on a side, or ``links`` are not as above.
    MemoryError
        If the matrices would need more than half of this machine's memory.
    """
    ranks = source.size, target.size
    if max(ranks) > MOST_RANKS:
        raise ValueError(
            f"relabel: got {ranks[0]} source and {ranks[1]} target ranks, expected at most"
            f" {MOST_RANKS} on each side: the assignment is solved densely, and one matrix of"
            f" them is {8 * ranks[0] * ranks[1]} bytes"
        )
    check_room("relabel", max(ranks), target.size, _ARRAYS, "plan without it")
    if links is None:
        costs, unit = _bytes_missing(source, target)
    else:
        costs, unit = _link_costs(source, target, links)
    return _assign(costs, unit)


def _bytes_missing(source: Distribution, target: Distribution) -> tuple[Costs, float]:
    """Elements, up to a constant, that each target rank lacks at each place; and their unit."""
    here = held(source, target)[: target.size]
    costs = np.zeros((target.size, target.size))
    np.negative(here, out=costs[: len(here)], casting="unsafe")
    return costs, float(np.gcd.reduce(here, axis=None))


def _link_costs(source: Distribution, target: Distribution, links: Links) -> tuple[Costs, float]:
    """What it costs to bring each target rank's part to each place; and what is no difference."""
    per_byte = _link_matrix(links, (source.size, target.size))
    keep_what_is_read(per_byte, source, np.arange(target.size))
    costs: Costs = per_byte.T @ held(source, target).astype(np.float64)
    return costs, float(costs.max()) * 2.0**-30


def _link_matrix(links: Links, shape: tuple[int, int]) -> Costs:
    """The cost per byte from each source rank to each place: a new array."""
    if callable(links):
        each: Any = (links(s, p) for s in range(shape[0]) for p in range(shape[1]))
        matrix = np.fromiter(each, np.float64, shape[0] * shape[1]).reshape(shape)
    else:
        matrix = np.array(links, np.float64)
    if matrix.shape != shape:
        raise ValueError(
            f"links: the shape is {matrix.shape}, expected {shape}: a row for each source rank, a"
            " column for each place"
        )
    wrong = ~(np.isfinite(matrix) & (matrix >= 0))
    if wrong.any():
        s, p = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"links: from source rank {s} to place {p} it is {matrix[s, p]}, expected a finite"
            " cost of 0 or more"
        )
    return matrix


def _assign(costs: Costs, unit: float) -> tuple[int, ...]:
    """The cheapest permutation for costs [place, target rank] in multiples of ``unit``.

    Counted in units and times n + 1, costs leave room for a bonus of 1 for each rank that stays:
    all n of them do not make up for one unit. Up to 2**53 all of this is exact.
    """
    from scipy.optimize import linear_sum_assignment  # 0.1 s, for those who relabel

    ranks = len(costs)
    scaled = costs * ((ranks + 1) / unit) if unit else np.zeros_like(costs)
    scaled[np.diag_indices(ranks)] -= 1
    places, labels = linear_sum_assignment(scaled)
    if costs[places, labels].sum() >= costs.trace():
        return tuple(range(ranks))  # whatever rounding did, never worse than not to relabel
    return tuple(np.argsort(labels).tolist())
