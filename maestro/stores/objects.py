"""A store with an object store: S3, Google's, Azure's, through obstore."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maestro.config import get_mapping
from maestro.errors import StoreError, StoreExistsError
from maestro.stores.store import Bytes, Dead, Owner, explained

__all__ = ["ObjectStore"]

SETTINGS = ("config", "client_options", "retry_config")


class ObjectStore:
    """A prefix in an object store.

    An object is there as a whole or not at all. Nothing there goes away with a process, so the lock
    is an object of its own, beside the store, that says whose it is.
    """

    at_once = 8

    def __init__(self, url: str) -> None:
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ImportError as error:
            raise StoreError(
                f"store {url}: object stores need the package obstore: install maestro-pool[s3]"
            ) from error
        self.url = url.rstrip("/")
        self._api, self._errors = obstore, (BaseError, ValueError)
        parent, _, self._name = self.url.rpartition("/")
        settings = get_mapping("stores.objects")
        if not settings.keys() <= set(SETTINGS):
            raise ValueError(
                f"maestro.stores.objects: got {sorted(settings)}, expected some of {SETTINGS}"
            )
        with explained(self.url, "there is no way to it", *self._errors, TypeError):
            self._objects = from_url(self.url, **settings)
            self._beside = from_url(parent, **settings)
        self._locked = False

    def __repr__(self) -> str:
        return f"<store {self.url}>"

    def make(self) -> None:
        """Nothing: a prefix is there with its first object."""

    def lock(self, owner: Owner, dead: Dead) -> None:
        """Put the lock there if none is, or in place of a dead owner's."""
        lock, words = f"{self._name}.lock", json.dumps(dict(owner)).encode()
        exists = self._api.exceptions.AlreadyExistsError
        with explained(self.url, "it cannot be locked", *self._errors):
            try:
                self._api.put(self._beside, lock, words, mode="create")
            except exists:
                found = self._api.get(self._beside, lock)
                theirs = json.loads(bytes(found.bytes()))
                if not dead(theirs):
                    raise StoreError(
                        f"store {self.url}: another program writes to it, {theirs}, expected to be"
                        f" the only one; if that one is dead, delete {self.url}.lock"
                    ) from None
                self._api.delete(self._beside, lock)
                self._api.put(self._beside, lock, words, mode="create")
        self._locked = True

    def release(self) -> None:
        """Delete the lock."""
        locked, self._locked = self._locked, False
        if locked:
            with explained(self.url, "it cannot be unlocked", *self._errors):
                self._api.delete(self._beside, f"{self._name}.lock")

    def read(self, key: str, start: int = 0) -> bytes | None:
        """Get an object, or its end."""
        options: Any = {}
        if start:
            options = {"range": {"suffix": -start} if start < 0 else {"offset": start}}
        with explained(self.url, f"{key} cannot be read", *self._errors):
            try:
                return bytes(self._api.get(self._objects, key, options=options).bytes())
            except FileNotFoundError:
                return None

    def read_into(self, key: str, memory: NDArray[np.uint8], start: int = 0) -> None:
        """Get a range of an object."""
        if not len(memory):
            return
        end = start + len(memory)
        with explained(self.url, f"{key} cannot be read", *self._errors):
            content: Any = self._api.get_range(self._objects, key, start=start, end=end)
            found = np.frombuffer(content, np.uint8)
        if len(found) != len(memory):
            raise StoreError(
                f"store {self.url}: {key} ends {len(memory) - len(found)} bytes early, expected"
                f" {len(memory)} from byte {start} on"
            )
        memory[...] = found

    def size(self, key: str) -> int | None:
        """Ask for an object's size."""
        with explained(self.url, f"{key} cannot be looked at", *self._errors):
            try:
                return int(self._api.head(self._objects, key)["size"])
            except FileNotFoundError:
                return None

    def write(self, key: str, *content: Bytes) -> None:
        """Put an object."""
        several: Any = content
        whole = content[0] if len(content) == 1 else b"".join(several)
        with explained(self.url, f"{key} cannot be written", *self._errors):
            self._api.put(self._objects, key, whole)

    def create(self, key: str, content: bytes, replace: bool = False) -> None:
        """Put an object, if none is there."""
        with explained(self.url, f"{key} cannot be written", *self._errors):
            try:
                mode: Any = "overwrite" if replace else "create"
                self._api.put(self._objects, key, content, mode=mode)
            except self._api.exceptions.AlreadyExistsError:
                raise StoreExistsError(f"store {self.url}: {key} is there already") from None

    def children(self, prefix: str = "") -> list[str]:
        """List what is below a prefix, down to the next slash."""
        with explained(self.url, f"{prefix or 'it'} cannot be listed", *self._errors):
            found = self._api.list_with_delimiter(self._objects, prefix or None)
        below = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in below)

    def delete(self, prefix: str) -> None:
        """Delete all objects below a prefix."""
        with explained(self.url, f"{prefix} cannot be deleted", *self._errors):
            for batch in self._api.list(self._objects, prefix):
                self._api.delete(self._objects, [each["path"] for each in batch])

    def zarr(self) -> Any:
        """The zarr library's."""
        from zarr.storage import ObjectStore as ZarrStore

        return ZarrStore(self._objects)
