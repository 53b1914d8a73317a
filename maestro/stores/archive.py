"""A store that CDOs are put into one by one, each of them whole or not at all.

A group at the root of the store says that it is an archive, and which one. A CDO is an array below
it: its objects are written first, and its metadata, without which it is no array, last and at once.
So whenever its writers die, what can be opened is complete.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from maestro.errors import StoreError, StoreExistsError
from maestro.stores.naming import FORMAT, OURS, Origin, node_name, to_json
from maestro.stores.store import Dead, Owner, Store, open_store
from maestro.stores.stored import META

__all__ = ["Archive", "commit", "identity"]

logger = logging.getLogger("maestro.archiver")


class Archive:
    """An archive that this program alone writes to; `close` lets others. Its calls block.

    What was in it is known once `look` has been called.

    Parameters
    ----------
    url : str
        Where.
    owner, dead
        Who writes; see `Store.lock`.
    resume : bool
        Whether to go on with an archive that is there.

    Attributes
    ----------
    store : Store
        Where it is.
    identity : str
        Which archive it is; no other has it.
    origins : dict
        Where each CDO came from, by path.
    leftovers : set
        Names of what was not written to its end.
    documents : dict
        The metadata of what is complete, by path.

    Raises
    ------
    StoreExistsError
        If something is there, and is not to be gone on with.
    StoreError
        If it cannot be made, locked, or gone on with.
    """

    def __init__(self, url: str, owner: Owner, dead: Dead, resume: bool = False) -> None:
        self.store: Store = open_store(url)
        self.origins: dict[str, Origin] = {}
        self.leftovers: set[str] = set()
        self.documents: dict[str, Mapping[str, Any]] = {}
        self._taken: set[str] = set()
        self.store.make()
        self.store.lock(owner, dead)
        try:
            names = self.store.children()
            if names and not resume:
                raise StoreExistsError(
                    f"store {self.store.url}: there is something already, expected nothing; an"
                    " archive is gone on with if you ask for it (resume, --resume)"
                )
            if META in names:
                self.identity = identity(self.store)
                self._put_root({})  # what lists its arrays does not list the next ones
            else:
                self.identity = self._made(names)
        except BaseException:
            self.store.release()
            raise

    def _made(self, names: list[str]) -> str:
        if names:
            raise StoreError(
                f"store {self.store.url}: it holds {', '.join(names[:3])} and no {META}, expected"
                " an archive of maestro's"
            )
        self.identity = uuid4().hex
        self._put_root({}, replace=False)
        return self.identity

    def _put_root(self, more: Mapping[str, Any], replace: bool = True) -> None:
        attributes = {OURS: {"format": FORMAT, "archive": self.identity}}
        document = {"zarr_format": 3, "node_type": "group", "attributes": attributes, **more}
        self.store.create(META, to_json(document), replace)

    def look(self) -> None:
        """Find out what is there: once nobody else writes any more."""
        for name in self.store.children():
            if name == META or name.endswith(".partial"):
                continue
            content = self.store.read(f"{name}/{META}")
            self._taken.add(name)
            if content is None:
                self.leftovers.add(name)
                continue
            try:
                self.documents[name] = document = json.loads(content)
                origin = Origin.found(document["attributes"])
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"store {self.store.url}: {name}/{META}: {error}") from None
            if origin is not None:
                self.origins[name] = origin

    def reserve(self, name: str) -> str:
        """The path for a CDO: its name, or if one was saved under it before, that and a number.

        What is left there of one that was not written to its end is deleted.
        """
        base = path = node_name(name)
        number = 1
        while path in self._taken and path not in self.leftovers:
            number += 1
            path = f"{base}@{number}"
        if path in self.leftovers:
            self.store.delete(path)
            self.leftovers.discard(path)
        self._taken.add(path)
        return path

    def close(self) -> None:
        """List what is there at the root, so that it is opened at once, and let others write.

        A store without a list is as complete as one with it.
        """
        listed = {"kind": "inline", "must_understand": False}
        try:
            if identity(self.store) == self.identity:
                metadata = dict(sorted(self.documents.items()))
                self._put_root({"consolidated_metadata": {**listed, "metadata": metadata}})
        except StoreError as error:
            logger.warning("What there is could not be listed: %s", error)
        finally:
            self.store.release()


def identity(store: Store) -> str:
    """Which archive a store is.

    Raises
    ------
    StoreError
        If it is none, or one that this version does not understand.
    """
    content = store.read(META)
    if content is None:
        raise StoreError(f"store {store.url}: its {META} is missing: it has disappeared")
    try:
        words = json.loads(content)["attributes"][OURS]
        if words["format"] != FORMAT:
            raise ValueError(f"format {words['format']}, expected {FORMAT}")
        return str(words["archive"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"store {store.url}: it is no archive that maestro can go on with: {error!r}"
        ) from None


def commit(store: Store, archive: str, path: str, content: bytes) -> None:
    """Make a CDO, all of whose objects are written, part of an archive, by its ``zarr.json``.

    Raises
    ------
    StoreError
        If the store is not that archive any more.
    """
    if identity(store) != archive:
        raise StoreError(f"store {store.url}: another archive is there by now, expected {archive}")
    try:
        store.create(f"{path}/{META}", content)
    except StoreExistsError:  # by whom nobody heard any more that it was done
        if store.read(f"{path}/{META}") != content:
            raise
