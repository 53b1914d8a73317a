"""How an array lies in a Zarr store: its chunks, its shards, and the metadata that say so.

Values only: no byte is read or written. One object of the store, a shard or else a chunk, is one
rank of a distribution, so the way into a store and out of it is a plan like any other. Without
compression a shard's bytes are those of an array in tiles, followed by an index::

    array, cut into shards          a shard's memory: its chunks one after the other, in C order,
    +-------+-------+               each with its elements in the array's order
    | 0   1 |       |
    |---+---|  s 1  |                 chunk 0 | chunk 1 | chunk 2 | chunk 3 | where each is, crc
    | 2   3 |       |
    +-------+-------+               = TiledArray(Tiled(chunks, inner=order)), and the index
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from typing import Any

import google_crc32c
import msgpack
import numpy as np

from layouts import Distribution, Tiled
from layouts.foreign.zarr_grids import from_regular_grid
from layouts.orders import AxisOrder, Order, normalize, slowest_first
from maestro.spelling import REMEMBERED, dtype_from_wire, dtype_to_wire

__all__ = ["Form", "choose"]

#: In a shard's index: this chunk is not there.
ABSENT = (1 << 64) - 1

_INDEX = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


@dataclass(frozen=True)
class Form:
    """A Zarr v3 array with a regular grid, but for its content and its attributes.

    Attributes
    ----------
    shape : tuple of int
        Of the array.
    dtype : numpy.dtype
        Of its elements, with their byte order.
    order : "C", "F" or tuple of int
        How the elements of a chunk lie: other than "C", there is a transpose codec.
    chunks : tuple of int
        Extents of a chunk.
    shards : tuple of int or None
        Extents of a shard, a whole number of chunks along each axis.
    compressors : tuple of dict
        Codecs after the bytes, as metadata name them; none for bytes as they lie in memory.
    separator : str
        Between the numbers of an object's key.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: AxisOrder
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    compressors: tuple[Any, ...] = ()
    separator: str = "/"

    @cached_property
    def layout(self) -> Distribution:
        """One rank for each object, each lying in memory as it does in the store.

        Where there are compressors, as the elements of a chunk do.
        """
        order: Order = self.order
        objects = self.shards or self.chunks
        clipped = any(n % size for n, size in zip(self.shape, objects, strict=True))
        if not self.compressors and (self.shards or clipped):
            order = Tiled(self.chunks, inner=self.order)
        return from_regular_grid(self.shape, self.chunks, self.shards, order)

    def key(self, rank: int) -> str | None:
        """The object of a rank; None where an axis is empty, for then there is none."""
        if not math.prod(self.shape):
            return None
        place = map(str, self.layout.coordinates(rank))
        return self.separator.join(("c", *place))

    def nbytes(self, rank: int) -> int:
        """Bytes of a rank's chunks, without compression and without an index."""
        return self.layout.local_size(rank) * self.dtype.itemsize

    def index(self, rank: int) -> bytes:
        """Where in a shard which chunk is; nothing where there are no shards.

        Chunks beyond the array's end are not there.
        """
        if self.shards is None:
            return b""
        numbers = [s // c for s, c in zip(self.shards, self.chunks, strict=True)]
        there = [
            -(-n // c) for n, c in zip(self.layout.local_shape(rank), self.chunks, strict=True)
        ]
        size = math.prod(self.chunks) * self.dtype.itemsize
        entries: Any = np.full((*numbers, 2), ABSENT, "<u8")
        inside = tuple(slice(0, n) for n in there)
        entries[(*inside, 0)] = np.arange(math.prod(there), dtype="<u8").reshape(there) * size
        entries[(*inside, 1)] = size
        content = entries.tobytes()
        return content + google_crc32c.value(content).to_bytes(4, "little")

    def plain_order(self, rank: int) -> AxisOrder | None:
        """The order of a rank's bytes if they lie as one array does, without tiles or padding."""
        if self.compressors:
            return None
        if not isinstance(self.layout.order, Tiled):
            return self.order
        shape = self.layout.local_shape(rank)
        cut: list[int] = []
        for axis in reversed(slowest_first(self.order, len(shape))):
            chunk, n = self.chunks[axis], shape[axis]
            if chunk != (1 if cut else n) and (cut or n % chunk):
                return None
            if chunk != n:
                cut.append(axis)
        return self.order if cut == sorted(cut, reverse=True) else None  # chunks are in C order

    def metadata(
        self, attributes: Mapping[str, Any], dimensions: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """The array's ``zarr.json``."""
        kind, fill, endian, _ = _data_type(self.dtype)
        axes = slowest_first(self.order, len(self.shape))
        codecs: list[Any] = []
        if self.order != "C":
            codecs.append({"name": "transpose", "configuration": {"order": list(axes)}})
        codecs.append(
            {"name": "bytes", **({"configuration": {"endian": endian}} if endian else {})}
        )
        codecs.extend(self.compressors)
        if self.shards is not None:
            configuration = {
                "chunk_shape": list(self.chunks),
                "codecs": codecs,
                "index_codecs": _INDEX,
                "index_location": "end",
            }
            codecs = [{"name": "sharding_indexed", "configuration": configuration}]
        grid = {"chunk_shape": list(self.shards or self.chunks)}
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": kind,
            "chunk_grid": {"name": "regular", "configuration": grid},
            "chunk_key_encoding": {
                "name": "default",
                "configuration": {"separator": self.separator},
            },
            "fill_value": fill,
            "codecs": codecs,
            "attributes": dict(attributes),
            "dimension_names": None if dimensions is None else list(dimensions),
            "storage_transformers": [],
        }

    def to_words(self) -> dict[str, Any]:
        """As a plain message."""
        return {
            "shape": self.shape,
            "dtype": dtype_to_wire(self.dtype, "a form"),
            "order": self.order,
            "chunks": self.chunks,
            "shards": self.shards,
            "compressors": self.compressors,
            "separator": self.separator,
        }

    @classmethod
    def from_words(cls, words: Mapping[str, Any]) -> Form:
        """The form of a message.

        Raises
        ------
        TypeError, ValueError
            If it is none.
        """
        return _form(msgpack.packb(words, unicode_errors="surrogatepass"))

    @classmethod
    def of(cls, metadata: Mapping[str, Any], dtype: np.dtype[Any]) -> Form | None:
        """The form of an array whose bytes lie in the store as they do in memory; None for others.

        Parameters
        ----------
        metadata : mapping
            A ``zarr.json``.
        dtype : dtype
            What the zarr library reads its data type as; of the same size.
        """
        shape = tuple(metadata["shape"])
        grid, codecs = metadata["chunk_grid"], list(metadata["codecs"])
        keys = metadata["chunk_key_encoding"]
        if grid["name"] != "regular" or keys["name"] != "default":
            return None
        chunks, shards = tuple(grid["configuration"]["chunk_shape"]), None
        if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
            words = codecs[0]["configuration"]
            if words["index_codecs"] != _INDEX or words.get("index_location", "end") != "end":
                return None
            shards, chunks, codecs = chunks, tuple(words["chunk_shape"]), list(words["codecs"])
        order: AxisOrder = "C"
        if codecs and codecs[0]["name"] == "transpose":
            given = normalize(codecs.pop(0)["configuration"]["order"], len(shape))
            order = given if isinstance(given, str | tuple) else order
        if [codec["name"] for codec in codecs] != ["bytes"]:
            return None
        if codecs[0].get("configuration", {}).get("endian") == "big":
            dtype = dtype.newbyteorder(">")
        separator = keys.get("configuration", {}).get("separator", "/")
        return cls(shape, dtype, order, chunks, shards, (), separator)


def choose(
    distribution: Distribution,
    dtype: np.dtype[Any],
    largest: int,
    chunk: int,
    compressors: Sequence[Any] = (),
) -> Form:
    """The form in which an array of this distribution is stored.

    Shards are the parts where those are boxes of one size, or equal shares of them if they are too
    large; so whoever holds a part writes it as it lies. Other arrays are cut along their slowest
    axes. Chunks are shares of a shard along its slowest axes, so that these lie in it one after the
    other as they do in a part.

    Parameters
    ----------
    distribution : Distribution
        How the array is held.
    dtype : dtype
        Of its elements.
    largest : int
        Bytes of a shard at most.
    chunk : int
        Bytes of a chunk at most.
    compressors : sequence of dict
        As metadata name them.

    Examples
    --------
    >>> form = choose(Distribution((4096, 512), (4, 1)), np.dtype("f8"), 1 << 21, 1 << 20)
    >>> form.shards, form.chunks, form.layout.size
    ((512, 512), (256, 512), 8)
    """
    form = _chosen(distribution, dtype, largest, chunk)
    return replace(form, compressors=tuple(compressors)) if compressors else form


@lru_cache(maxsize=REMEMBERED)
def _form(packed: bytes) -> Form:
    words = msgpack.unpackb(packed, unicode_errors="surrogatepass", use_list=False)
    return Form(**{**words, "dtype": dtype_from_wire(words["dtype"])})


@lru_cache(maxsize=REMEMBERED)
def _chosen(distribution: Distribution, dtype: np.dtype[Any], largest: int, chunk: int) -> Form:
    order = distribution.order
    if isinstance(order, Tiled):
        order = order.inner
    axes = slowest_first(order, distribution.ndim)
    part = [_extent(distribution, axis) for axis in range(distribution.ndim)]
    shards = _cut(part, axes, largest // max(1, dtype.itemsize))
    chunks = shards
    if not _data_type(dtype)[-1]:  # the zarr library reads no shards of opaque elements
        chunks = _cut(shards, axes, chunk // max(1, dtype.itemsize), exactly=True)
    return Form(
        distribution.shape,
        dtype,
        order,
        tuple(chunks),
        tuple(shards) if chunks != shards else None,
    )


def _extent(distribution: Distribution, axis: int) -> int:
    """The extent of the parts along an axis, if it is one but for the last; else all of it."""
    cut = distribution.cuts[axis]
    counts = cut.counts
    if cut.ranks > 1 and all(cut.span(c) is not None for c in range(cut.ranks)):
        size, n = int(counts[0]), distribution.shape[axis]
        dealt = np.minimum(size, np.maximum(n - size * np.arange(cut.ranks), 0))
        if size and np.array_equal(counts, dealt):
            return size
    return max(1, distribution.shape[axis])


def _cut(
    extents: Sequence[int], axes: Sequence[int], most: int, exactly: bool = False
) -> list[int]:
    """Cut a box along its slowest axes until it has so few elements, or one.

    In equal shares, unless these are far smaller than they may be; ``exactly``: also then.
    """
    box = list(extents)
    for axis in axes:
        if math.prod(box) <= most:
            break
        n, rest = box[axis], math.prod(box) // box[axis]
        fits = max(1, most // rest)
        even = next(share for share in range(fits, 0, -1) if n % share == 0)
        if exactly or 4 * even >= fits:
            box[axis] = even
        else:
            box[axis] = -(-n // -(-n // fits))
    return box


@cache
def _data_type(dtype: np.dtype[Any]) -> tuple[Any, Any, str | None, bool]:
    """A dtype's name in metadata, its fill value there, its byte order, and whether it is opaque.

    What Zarr has no name for is stored as raw bytes; what it is stands in the attributes.
    """
    from zarr.dtype import parse_dtype

    raw = np.dtype(f"V{dtype.itemsize}")
    # Of the fields of a structure Zarr keeps no byte order.
    known = dtype.fields is None or dtype == dtype.newbyteorder("<")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that other Zarr libraries may not know yet
        for kind in (dtype, raw) if known else (raw,):
            try:
                found = parse_dtype(kind, zarr_format=3)
                name: Any = found.to_json(zarr_format=3)
                fill = found.to_json_scalar(found.default_scalar(), zarr_format=3)
            except (TypeError, ValueError):
                continue
            if kind.kind in "VSb?" or kind.itemsize == 1:
                return name, fill, None, kind.kind == "V"
            big = kind.newbyteorder(">") == kind
            return name, fill, "big" if big else "little", False
    raise TypeError(f"dtype {dtype} has no size in a store")
