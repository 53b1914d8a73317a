"""What a CDO is called in a store, and what an array there says of the CDO that it was.

A name becomes one that every Zarr library and every file system takes: letters, digits, ``._-~``,
all else as percent and its bytes. Attributes become JSON, as it is where JSON can say it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgpack
import numpy as np

from layouts import Distribution
from maestro.spelling import dtype_from_wire, dtype_to_wire

__all__ = [
    "FORMAT",
    "Origin",
    "dimensions",
    "node_name",
    "original_attributes",
    "to_attributes",
    "to_json",
]

#: Raised with every change that an older reader would not understand.
FORMAT = 1

#: Characters of a name in a store at most: file systems take 255.
_LONGEST = 200

#: The attribute under which stands what is maestro's own.
OURS = "maestro"


def node_name(name: str) -> str:
    """The name in a store of a CDO.

    Examples
    --------
    >>> node_name("t2m"), node_name("ensemble 3/t2m"), node_name(".."), node_name("zarr.json")
    ('t2m', 'ensemble%203%2Ft2m', '%2E%2E', 'zarr%2Ejson')
    """
    said = quote(name, safe="", errors="surrogatepass")
    if said.startswith(("__", ".")) or said == "zarr.json":
        said = said.replace(".", "%2E").replace("_", "%5F")
    if len(said) > _LONGEST:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        said = f"{said[: _LONGEST - 17]}~{digest}"
    return said


class Origin(dict[str, Any]):
    """What an array says of the CDO that it was: its name, layout, pool and version."""

    @classmethod
    def of(
        cls,
        name: str,
        distribution: Distribution | None,
        dtype: np.dtype[Any] | None,
        pool: str,
        version: int,
    ) -> Origin:
        """Of a CDO that is in a pool."""
        return cls(
            format=FORMAT,
            name=name,
            distribution=None if distribution is None else distribution.to_dict(),
            dtype=None if dtype is None else dtype_to_wire(dtype, name),
            pool=pool,
            version=version,
        )

    @classmethod
    def found(cls, attributes: Mapping[str, Any]) -> Origin | None:
        """As an array's attributes tell it; None if maestro did not write it.

        Raises
        ------
        ValueError
            If it is none that this version understands.
        """
        words = attributes.get(OURS)
        if words is None:
            return None
        if not isinstance(words, Mapping) or words.get("format") != FORMAT:
            raise ValueError(f"attribute {OURS!r}: got {words!r}, expected format {FORMAT}")
        missing = {"name", "distribution", "dtype", "pool", "version"} - words.keys()
        if missing:
            raise ValueError(f"attribute {OURS!r}: {sorted(missing)} are missing")
        return cls(words)

    @property
    def distribution(self) -> Distribution | None:
        """How the CDO was offered."""
        words = self["distribution"]
        return None if words is None else Distribution.from_dict(words)

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Type of its elements."""
        return None if self["dtype"] is None else dtype_from_wire(self["dtype"])


def to_attributes(attributes: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    """A CDO's attributes and its origin, as the attributes of an array.

    Examples
    --------
    >>> origin = Origin.of("t2m", None, None, "pool", 1)
    >>> found = to_attributes({"units": "K", "raw": b"1", "bad": float("nan")}, origin)
    >>> sorted(found), original_attributes(found)
    (['maestro', 'units'], {'units': 'K', 'raw': b'1', 'bad': nan})
    """
    plain = {key: value for key, value in attributes.items() if key != OURS and _is_json(value)}
    packed = {
        key: base64.b64encode(msgpack.packb(value, unicode_errors="surrogatepass")).decode()
        for key, value in attributes.items()
        if key not in plain
    }
    return {**plain, OURS: {**origin, **({"packed": packed} if packed else {})}}


def original_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The CDO's attributes, of those of an array."""
    plain = {key: value for key, value in attributes.items() if key != OURS}
    ours = attributes.get(OURS)
    packed = ours.get("packed", {}) if isinstance(ours, Mapping) else {}
    unpacked = {
        key: msgpack.unpackb(base64.b64decode(value), unicode_errors="surrogatepass")
        for key, value in packed.items()
    }
    return {**plain, **unpacked}


def _is_json(value: Any) -> bool:
    """Whether JSON gives the value back as it is, in every library."""
    match value:
        case float():
            return math.isfinite(value)
        case str():
            return not any("\ud800" <= each <= "\udfff" for each in value)
        case list():
            return all(map(_is_json, value))
        case dict():
            return all(_is_json(key) and _is_json(each) for key, each in value.items())
    return value is None or isinstance(value, bool | int)


def dimensions(shape: Sequence[int], attributes: Mapping[str, Any]) -> list[str]:
    """Names of the axes: the attribute "dims" where it names them, else by number and extent.

    So that arrays whose axes are of one extent share it where they are opened together, and others
    do not.

    Examples
    --------
    >>> dimensions((240, 37), {}), dimensions((240, 37), {"dims": ["time", "latitude"]})
    (['axis0_240', 'axis1_37'], ['time', 'latitude'])
    """
    given = attributes.get("dims")
    if (
        isinstance(given, list)
        and all(isinstance(each, str) for each in given)
        and len(set(given)) == len(given) == len(shape)
    ):
        return list(given)
    return [f"axis{axis}_{n}" for axis, n in enumerate(shape)]


def to_json(document: Mapping[str, Any]) -> bytes:
    """A metadata document as it is stored."""
    return json.dumps(document, allow_nan=False).encode()
