"""The attributes that maestro itself sets, so that selectors see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from layouts import Distribution, Tiled
from maestro.schemas import CORE, Schema
from maestro.schemas.reading import parse_schema

__all__ = ["core_attributes", "core_schema"]

_DESCRIBED = 200  # characters of a distribution's description: irregular ones can be long


_NAME = f"{CORE}cdo.name"


@cache
def core_schema() -> Schema:
    """The schema of maestro's own attributes."""
    text = files("maestro.schemas").joinpath("core.yaml").read_text(encoding="utf-8")
    return parse_schema(text, "core.yaml")


def core_attributes(
    name: str,
    distribution: Distribution | None,
    dtype: np.dtype[Any] | None,
    rank: int | None = None,
    members: Sequence[str] | None = None,
) -> dict[str, Any]:
    """What a handle's layout says, as attributes.

    Parameters
    ----------
    name : str
        Name of the CDO.
    distribution : Distribution or None
        How it is held; None where that is not known, or there is no data.
    dtype : numpy.dtype or None
        Type of its elements.
    rank : int or None
        The rank that is spoken for; None for all of them.
    members : sequence of str or None
        The names of a group's members; None for what is no group.

    Examples
    --------
    >>> from layouts import Distribution
    >>> field = core_attributes("t2m", Distribution((8, 6), (2, 1)), np.dtype("f8"), rank=1)
    >>> field[".maestro.core.cdo.scope.local-size"], field[".maestro.core.cdo.layout.dims-size"]
    (192, [8, 6])
    """
    core = {_NAME: name, **_layout_attributes(distribution, dtype, rank)}
    if members is not None:
        core |= {f"{CORE}cdo.isgroup": True, f"{CORE}cdo.group-members": list(members)}
    return core


@lru_cache(maxsize=256)
def _layout_attributes(
    distribution: Distribution | None, dtype: np.dtype[Any] | None, rank: int | None
) -> dict[str, Any]:
    """Worked out once: every event of every CDO that lies in this way has them."""
    cdo: dict[str, Any] = {}
    if distribution is None:
        cdo["scope.local-size"] = 0
    else:
        order = {"C": 0, "F": 1}.get(str(distribution.order))
        if order is not None:
            cdo["layout.order"] = order
        cdo["layout.ndims"] = len(distribution.shape)
        cdo["layout.dims-size"] = list(distribution.shape)
        described = str(distribution)
        if len(described) > _DESCRIBED:
            described = described[: _DESCRIBED - 3] + "..."
        cdo["dist-layout"] = described
    if dtype is not None:
        cdo["layout.element-size"] = dtype.itemsize
        if distribution is not None:
            cdo["scope.local-size"] = _elements(distribution, rank) * dtype.itemsize
    return {f"{CORE}cdo.{key}": value for key, value in cdo.items()}


def _elements(distribution: Distribution, rank: int | None) -> int:
    """Elements of one rank's part, or of all parts together: copies and padding counted."""
    if rank is not None:
        return distribution.local_size(rank)
    order = distribution.order
    tiles = order.tiles if isinstance(order, Tiled) else (1,) * distribution.ndim
    return math.prod(
        int((-(-cut.counts // tile) * tile).sum())
        for cut, tile in zip(distribution.cuts, tiles, strict=True)
    )
