"""One array in a store, object by object: written and read by whoever has the parts.

Where the bytes lie in the store as they do in memory they are ours to move: no codec is asked, and
nothing is copied on the way. All else goes through the zarr library, one object at a time.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layouts import Distribution
from layouts.foreign.zarr_grids import from_regular_grid
from layouts.orders import AxisOrder, Order
from layouts.tiled import AnyArray
from maestro.errors import StoreError
from maestro.spelling import dtype_from_wire
from maestro.stores.form import Form
from maestro.stores.store import Store, explained
from maestro.transport.payload import as_part

__all__ = ["META", "StoredArray", "part_of"]

META = "zarr.json"

#: Memory for so many bytes.
Empty = Callable[[int], NDArray[np.uint8]]


@dataclass
class StoredArray:
    """An array at a path of a store.

    Attributes
    ----------
    store : Store
        Where it is.
    path : str
        The array's place there; "" for the store's root.
    metadata : mapping
        Its ``zarr.json``; for Zarr v2, empty.
    form : Form or None
        How it lies there, if as in memory, or if it is ours to write.
    kept : numpy.dtype or None
        Type of the elements, where the zarr library has another name for it, or none.
    complete : bool
        Whether every object must be there: what maestro writes has no gaps, elsewhere one that is
        missing stands for fill values.
    """

    store: Store
    path: str
    metadata: Mapping[str, Any]
    form: Form | None
    kept: np.dtype[Any] | None = None
    complete: bool = False
    _known: dict[int, bool] = field(default_factory=dict, repr=False)

    @classmethod
    def found(cls, store: Store, path: str) -> StoredArray:
        """The array that is at a path.

        Raises
        ------
        StoreError
            If there is none, or what is there is no array that can be read.
        """
        content = store.read(_join(path, META))
        if content is None:
            if store.read(_join(path, ".zarray")) is None:
                raise StoreError(
                    f"store {store.url}: there is no array {path!r}, expected {META} or .zarray"
                )
            array = cls(store, path, {}, None)
            _ = array.opened
            return array
        try:
            return cls.of(store, path, json.loads(content))
        except (ValueError, KeyError, TypeError, SyntaxError) as error:
            raise StoreError(
                f"store {store.url}: {path!r} is no array that can be read: {error}"
            ) from None

    @classmethod
    def of(cls, store: Store, path: str, metadata: Mapping[str, Any]) -> StoredArray:
        """The array whose metadata are these.

        Raises
        ------
        ValueError, KeyError, TypeError, SyntaxError
            If they are no array's.
        """
        if metadata["node_type"] != "array":
            raise ValueError(f"it is a {metadata['node_type']}")
        array = cls(store, path, metadata, None)
        ours = (metadata.get("attributes") or {}).get("maestro")
        if ours is not None:
            array.complete, array.kept = True, dtype_from_wire(ours["dtype"])
        array.form = Form.of(metadata, array.dtype)
        return array

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"store {self.store.url}: array {self.path!r}"

    @cached_property
    def opened(self) -> Any:
        """The zarr library's array."""
        import zarr

        wrong = ValueError, KeyError, TypeError
        with (
            explained(self.store.url, f"{self.path!r} cannot be opened", *wrong),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of data types that have no specification yet
            if not self.metadata:
                return zarr.open_array(self.store.zarr(), path=self.path, mode="r")
            root = zarr.storage.StorePath(self.store.zarr(), self.path)
            known = zarr.AsyncArray.from_dict(root, json.loads(json.dumps(self.metadata)))
            return zarr.Array(known).with_config({"write_empty_chunks": True})

    @cached_property
    def layout(self) -> Distribution:
        """One rank for each object."""
        if self.form is not None:
            return self.form.layout
        array = self.opened
        try:
            return from_regular_grid(array.shape, array.chunks, array.shards, self._order)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise StoreError(f"{self.name} is cut in a way that is not known: {error}") from None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        if self.form is not None:
            return self.form.dtype
        dtype: np.dtype[Any] = self.opened.dtype if self.kept is None else self.kept
        return dtype

    @property
    def attributes(self) -> dict[str, Any]:
        """What the array says of itself."""
        if self.metadata:
            return dict(self.metadata.get("attributes") or {})
        return dict(self.opened.attrs)

    @cached_property
    def _order(self) -> Order:
        """The order of elements that a coded array is kept in."""
        for codec in self.metadata.get("codecs", ()):
            for inner in (codec, *codec.get("configuration", {}).get("codecs", ())):
                if inner["name"] == "transpose":
                    return tuple(inner["configuration"]["order"])
        return str(getattr(self.opened.metadata, "order", "C"))

    def write(self, rank: int, memory: NDArray[np.uint8]) -> None:
        """Write an object.

        Parameters
        ----------
        rank : int
            Which.
        memory : uint8 array
            The part of this rank of the layout, as `Form.layout` says it lies. What pads it is to
            be zero.
        """
        form = self.form
        if form is None:
            raise StoreError(f"{self.name} is not in a form that can be written")
        key = form.key(rank)
        if key is None:
            return
        if form.compressors:
            with explained(self.store.url, f"{self.path}/{key} cannot be written", ValueError):
                part = np.asarray(part_of(form.layout, rank, form.dtype, memory))
                if form.dtype.itemsize and self.opened.dtype.kind == "V":
                    part = part.view(self.opened.dtype)
                self.opened[self._box(rank)] = part
            return
        index = form.index(rank)
        self.store.write(_join(self.path, key), memory, *([index] if index else []))

    def is_plain(self, rank: int) -> bool:
        """Whether an object's bytes can be read as they lie; they are looked at the first time.

        Raises
        ------
        StoreError
            If it must be there and is not, or is not as long as it must be.
        """
        if rank not in self._known:
            self._known[rank] = self._is_plain(rank)
        return self._known[rank]

    def _is_plain(self, rank: int) -> bool:
        form = self.form
        key = None if form is None else form.key(rank)
        if form is None or key is None or form.compressors:
            return False
        index = form.index(rank)
        expected, size = form.nbytes(rank) + len(index), self.store.size(_join(self.path, key))
        if size == expected:
            if not index or self.store.read(_join(self.path, key), -len(index)) == index:
                return True
            said = "has another index than it must"
        else:
            said = "is missing" if size is None else f"has {size} bytes, expected {expected}"
        if not self.complete and (index or size is None):
            return False  # other programs leave away what is empty, and order shards as they like
        raise StoreError(f"{self.name}: {key} {said}")

    def plain_order(self, rank: int) -> AxisOrder | None:
        """The order of an object's bytes if these can be read as one array's, and are there."""
        if self.form is None or not self.is_plain(rank):
            return None
        return self.form.plain_order(rank)

    def read_into(self, rank: int, memory: NDArray[np.uint8], start: int = 0) -> None:
        """Fill memory with the bytes of an object that is plain, from one of them on."""
        form = self.form
        key = None if form is None else form.key(rank)
        if key is not None:
            self.store.read_into(_join(self.path, key), memory, start)

    def read(self, rank: int, empty: Empty) -> AnyArray:
        """The part of one rank of the layout.

        Raises
        ------
        StoreError
            If it is missing, cut short, or cannot be decoded.
        """
        if self.is_plain(rank):
            assert self.form is not None
            memory = empty(self.form.nbytes(rank))
            self.read_into(rank, memory)
            return part_of(self.layout, rank, self.dtype, memory)
        return self._decoded(rank)

    def _decoded(self, rank: int) -> NDArray[Any]:
        if self.complete and self.form is None and self._is_missing(rank):
            key = self.opened.metadata.encode_chunk_key(self.layout.coordinates(rank))
            raise StoreError(f"{self.name}: {key} is missing")
        try:
            part: NDArray[Any] = np.asarray(self.opened[self._box(rank)])
        except Exception as error:  # whatever a codec says
            raise StoreError(
                f"{self.name}: object {self.layout.coordinates(rank)} cannot be read: {error!r}"
            ) from error
        if part.dtype.kind == "V" and part.dtype != self.dtype:
            return part.view(self.dtype)
        return part.astype(self.dtype, copy=False)

    def _is_missing(self, rank: int) -> bool:
        key = self.opened.metadata.encode_chunk_key(self.layout.coordinates(rank))
        return bool(self.layout.local_size(rank)) and self.store.size(_join(self.path, key)) is None

    def _box(self, rank: int) -> tuple[slice, ...]:
        """What of the array an object holds."""
        layout = self.layout
        spans = [
            cut.span(coordinate)
            for cut, coordinate in zip(layout.cuts, layout.coordinates(rank), strict=True)
        ]
        return tuple(slice(*span) for span in spans if span is not None)


def part_of(
    layout: Distribution, rank: int, dtype: np.dtype[Any], memory: NDArray[np.uint8]
) -> AnyArray:
    """The part that lies at the beginning of memory."""
    size = layout.local_size(rank) * dtype.itemsize
    part: AnyArray = as_part(memory[:size], layout.local_shape(rank), dtype, layout.order)
    return part


def _join(path: str, key: str) -> str:
    return f"{path}/{key}" if path else key
