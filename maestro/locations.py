"""Where parts live that no node holds: in a store, in words that stand where an address does.

::

    shard:file:///data/run.zarr#t2m      the source rank's part is the object of that number
    part:s3://bucket/pool#t2m.7f3a/0     it is a whole array, the pool's own, and goes with it
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Location", "is_location", "is_owned"]

_SHARD, _PART = "shard:", "part:"


def is_location(node: str | None) -> bool:
    """Whether this is where a part lives in a store, rather than a node's address."""
    return node is not None and node.startswith((_SHARD, _PART))


def is_owned(node: str | None) -> bool:
    """Whether what is there goes when its CDO leaves the pool."""
    return node is not None and node.startswith(_PART)


@dataclass(frozen=True)
class Location:
    """Where parts live in a store.

    Attributes
    ----------
    store, path : str
        URL of the store, and the array's path there.
    whole : bool
        Whether the array is one rank's part; else it is cut into objects, one for each rank.

    Examples
    --------
    >>> str(Location("file:///data/run.zarr", "t2m"))
    'shard:file:///data/run.zarr#t2m'
    >>> Location.of("part:s3://bucket/pool#t2m/0")
    Location(store='s3://bucket/pool', path='t2m/0', whole=True)
    """

    store: str
    path: str
    whole: bool = False

    def __str__(self) -> str:
        return f"{_PART if self.whole else _SHARD}{self.store}#{self.path}"

    @classmethod
    def of(cls, text: str) -> Location:
        """The location that words speak of."""
        kind, _, rest = text.partition(":")
        store, _, path = rest.rpartition("#")
        return cls(store, path, f"{kind}:" == _PART)
