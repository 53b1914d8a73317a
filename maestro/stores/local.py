"""A store on a file system: a directory, an object to a file."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from maestro.errors import StoreError, StoreExistsError
from maestro.stores.store import Bytes, Dead, Owner, explained

__all__ = ["LocalStore"]


class LocalStore:
    """A directory.

    Files that are being written are gone, or cut short, if the program that writes them dies; what
    `create` makes is there as a whole or not at all.
    """

    at_once = 1

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root.expanduser()))
        self.url = f"file://{self.root}"
        self._locked: int | None = None

    def __repr__(self) -> str:
        return f"<store {self.url}>"

    def make(self) -> None:
        """Make the directory."""
        with explained(self.url, "it cannot be made"):
            self.root.mkdir(parents=True, exist_ok=True)

    def lock(self, owner: Owner, dead: Dead) -> None:
        """Lock the directory; the system lets go of it with the process."""
        with explained(self.url, "it cannot be locked"):
            file = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                raise StoreError(
                    f"store {self.url}: another program writes to it, expected to be the only one"
                ) from None
            except BaseException:
                os.close(file)
                raise
        self._locked = file

    def release(self) -> None:
        """Unlock it."""
        file, self._locked = self._locked, None
        if file is not None:
            os.close(file)

    def read(self, key: str, start: int = 0) -> bytes | None:
        """Read a file."""
        with explained(self.url, f"{key} cannot be read"):
            try:
                with open(self.root / key, "rb") as file:
                    file.seek(start, os.SEEK_END if start < 0 else os.SEEK_SET)
                    return file.read()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def read_into(self, key: str, memory: NDArray[np.uint8], start: int = 0) -> None:
        """Read a file's bytes to where they are wanted."""
        with explained(self.url, f"{key} cannot be read"):
            left = memoryview(cast(Any, memory))
            with open(self.root / key, "rb", buffering=0) as file:
                file.seek(start)
                while left and (done := file.readinto(left)):
                    left = left[done:]
        if left:
            raise StoreError(
                f"store {self.url}: {key} ends {len(left)} bytes early, expected {len(memory)}"
                f" from byte {start} on"
            )

    def size(self, key: str) -> int | None:
        """Size of a file."""
        with explained(self.url, f"{key} cannot be looked at"):
            try:
                return os.stat(self.root / key).st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, key: str, *content: Bytes) -> None:
        """Write a file; what is left of one that does not get whole is removed."""
        path = self.root / key
        with explained(self.url, f"{key} cannot be written"):
            file = self._open(path, os.O_TRUNC)
            try:
                for each in content:
                    _write(file, each)
            except BaseException:
                with suppress(OSError):
                    os.unlink(path)
                raise
            finally:
                os.close(file)

    def create(self, key: str, content: bytes, replace: bool = False) -> None:
        """Write a file under another name, and give it its own."""
        path = self.root / key
        draft = path.with_name(f"{path.name}.{uuid4().hex}.partial")
        with explained(self.url, f"{key} cannot be written"):
            file = self._open(draft, os.O_EXCL)
            try:
                try:
                    _write(file, content)
                finally:
                    os.close(file)
                if replace:
                    os.replace(draft, path)
                else:
                    os.link(draft, path)
            except FileExistsError:
                raise StoreExistsError(f"store {self.url}: {key} is there already") from None
            finally:
                with suppress(OSError):
                    os.unlink(draft)

    def _open(self, path: Path, flags: int) -> int:
        flags |= os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except FileNotFoundError:
            # Never makes the store itself: if that is gone, somebody took it away.
            if not self.root.is_dir():
                raise StoreError(f"store {self.url}: its directory has disappeared") from None
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, flags, 0o666)

    def children(self, prefix: str = "") -> list[str]:
        """List a directory."""
        with explained(self.url, f"{prefix or 'it'} cannot be listed"):
            try:
                return sorted(os.listdir(self.root / prefix))
            except FileNotFoundError:
                return []

    def delete(self, prefix: str) -> None:
        """Remove a directory with all in it."""
        with explained(self.url, f"{prefix} cannot be deleted"), suppress(FileNotFoundError):
            shutil.rmtree(self.root / prefix)
        with suppress(OSError):  # as in an object store, where nothing is below it
            parent = (self.root / prefix).parent
            if parent != self.root:
                parent.rmdir()

    def zarr(self) -> Any:
        """The zarr library's."""
        from zarr.storage import LocalStore as ZarrStore

        return ZarrStore(self.root)


def _write(file: int, content: Bytes) -> None:
    left = memoryview(cast(Any, content))
    while left:
        left = left[os.write(file, left) :]
