"""A store: bytes under keys, on a file system or with an object store.

Calls block and are for threads. Whatever goes wrong is a `StoreError` that names the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from maestro.errors import StoreError

__all__ = ["Bytes", "Dead", "Owner", "Store", "explained", "open_store"]

Bytes: TypeAlias = bytes | NDArray[np.uint8]

#: Who writes to a store: what it says of itself, and whether one that says so is known to be dead.
Owner: TypeAlias = Mapping[str, Any]
Dead: TypeAlias = Callable[[Owner], bool]


class Store(Protocol):
    """What maestro needs of a store.

    Attributes
    ----------
    url : str
        Where it is, as any program of the pool can open it again.
    at_once : int
        Small calls that are worth a thread each: many, where each waits for an answer.
    """

    url: str
    at_once: int

    def make(self) -> None:
        """Be there: a directory, or nothing where prefixes need no making."""

    def lock(self, owner: Owner, dead: Dead) -> None:
        """Be the only one who writes, until `release`, or until the process ends.

        Parameters
        ----------
        owner : mapping
            What others are told of this one, in plain values.
        dead : callable
            Whether another owner is known to be dead. Asked where the store itself does not know.

        Raises
        ------
        StoreError
            If somebody else writes.
        """

    def release(self) -> None:
        """Let others write."""

    def read(self, key: str, start: int = 0) -> bytes | None:
        """The bytes of an object from ``start`` on (from its end if negative); None without it."""

    def read_into(self, key: str, memory: NDArray[np.uint8], start: int = 0) -> None:
        """Fill memory with the bytes of an object from ``start`` on.

        Raises
        ------
        StoreError
            If it is missing, or ends before.
        """

    def size(self, key: str) -> int | None:
        """Bytes of an object; None without it."""

    def write(self, key: str, *content: Bytes) -> None:
        """Write an object, in place of what is there; it need not be whole if this fails."""

    def create(self, key: str, content: bytes, replace: bool = False) -> None:
        """Write an object whole, or not at all: one that is not there, or in place of another.

        Raises
        ------
        StoreExistsError
            If it is there.
        """

    def children(self, prefix: str = "") -> list[str]:
        """Names directly below a prefix: those of objects and of further prefixes."""

    def delete(self, prefix: str) -> None:
        """Delete all below a prefix; nothing if there is nothing."""

    def zarr(self) -> Any:
        """The same as a store of the zarr library, to read and write."""


def open_store(url: str | Path) -> Store:
    """The store at a local path, or at an URL such as ``s3://bucket/prefix``.

    Raises
    ------
    StoreError
        If there is no way to such a store.

    Examples
    --------
    >>> open_store("/data/run.zarr").url
    'file:///data/run.zarr'
    """
    scheme, found, rest = str(url).partition("://")
    if not found or scheme == "file":
        from maestro.stores.local import LocalStore

        return LocalStore(Path(rest if found else scheme))
    from maestro.stores.objects import ObjectStore

    return ObjectStore(str(url))


@contextmanager
def explained(store: str, what: str, *errors: Any) -> Iterator[None]:
    """Let what goes wrong name the store, and what was done there."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, *errors) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise StoreError(f"store {store}: {what}: {said}") from error
