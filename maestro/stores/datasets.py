"""Files that xarray reads, such as NetCDF and GRIB: their variables, as arrays to be read from.

A variable is read box by box, none larger than a chunk of a store would be; so many programs can
read one file at once, each what it wants of it. Numbers come as xarray decodes them, with scale,
offset and fill values; times stay numbers, whose units are among the attributes.

The messages of a GRIB file need not be of one kind. They are put together, by cfgrib, to as many
arrays as they are of; where several of these have one name, it goes with the type of their level::

    t   850, 500 hPa, 6 h    ->  t.isobaricInhPa  (2, y, x)    u  850 hPa, 6 h  ->  u     (y, x)
    t   surface, 0 h         ->  t.surface        (y, x)       t  2 m, 6 h      ->  t2m   (y, x)
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layouts import Distribution
from layouts.foreign.zarr_grids import from_regular_grid
from maestro.config import get_bytes
from maestro.errors import StoreError
from maestro.spelling import dtype_to_wire
from maestro.stores.form import choose
from maestro.stores.local import LocalStore
from maestro.stores.store import Store, explained

__all__ = ["Variable", "is_file", "variables"]

logger = logging.getLogger("maestro.librarian")

#: Names of files that cfgrib is to read, which would else put an index beside them.
GRIB = {".grib", ".grib1", ".grib2", ".grb", ".grb1", ".grb2"}

#: Those of files, where that is all that there is to go by.
FILES = GRIB | {".nc", ".nc3", ".nc4", ".cdf", ".h5", ".hdf5"}

_turn = threading.Lock()


def is_file(store: Store) -> bool:
    """Whether this is one file, rather than a store with objects.

    Raises
    ------
    StoreError
        If its name says so, and it is in an object store: such are read only where they are local.
    """
    if not isinstance(store, LocalStore) and PurePath(store.url).suffix in FILES:
        raise StoreError(
            f"store {store.url}: got a file in an object store, expected a Zarr store; files are"
            " read where every node sees them as such: copy it to a file system"
        )
    return isinstance(store, LocalStore) and store.root.is_file()


@dataclass
class Variable:
    """One variable of a file, to be read as `maestro.stores.stored.StoredArray` is.

    Attributes
    ----------
    store : Store
        The file.
    path : str
        The variable's name.
    layout : Distribution
        One rank for each box that is read at once.
    """

    store: Store
    path: str
    layout: Distribution

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"store {self.store.url}: variable {self.path!r}"

    @cached_property
    def _about(self) -> tuple[tuple[int, ...], np.dtype[Any], dict[str, Any]]:
        with _opened(self.store) as data:
            found = self._in(data)
            said = {key: _plain(value) for key, value in found.attrs.items()}
            said["dims"] = list(map(str, found.dims))
            return tuple(found.shape), found.dtype, said

    def _in(self, data: Any) -> Any:
        try:
            return data[self.path]
        except KeyError:
            raise StoreError(f"{self.name}: there is none") from None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self._about[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._about[1]

    @property
    def attributes(self) -> dict[str, Any]:
        """What the file says of it, and the names of its dimensions, as "dims"."""
        return self._about[2]

    def plain_order(self, rank: int) -> None:
        """None: where its bytes lie in the file only xarray knows."""

    def read_into(self, rank: int, memory: NDArray[np.uint8], start: int = 0) -> None:
        """Nothing, for there is no order to read it in."""
        raise StoreError(f"{self.name}: its bytes cannot be read as they lie")

    def read(self, rank: int, empty: Callable[[int], Any]) -> NDArray[Any]:
        """The part of one rank of the layout.

        Raises
        ------
        StoreError
            If it cannot be read.
        """
        box = tuple(
            slice(*(cut.span(coordinate) or (0, 0)))
            for cut, coordinate in zip(self.layout.cuts, self.layout.coordinates(rank), strict=True)
        )
        with _opened(self.store) as data:
            found = self._in(data)
            try:
                return np.asarray(found[box].values)
            except Exception as error:  # whatever a library says
                raise StoreError(f"{self.name} cannot be read: {error!r}") from error


def variables(store: Store) -> list[Variable]:
    """All variables of a file that CDOs can be.

    Raises
    ------
    StoreError
        If it cannot be opened.
    """
    most, result = get_bytes("stores.chunk"), []
    with _opened(store) as data:
        for name, found in data.items():
            try:
                dtype_to_wire(found.dtype, str(name))
            except TypeError as error:
                logger.warning("store %s: %r is left out: %s", store.url, name, error)
                continue
            form = choose(Distribution(found.shape), found.dtype, most, most)
            layout = from_regular_grid(found.shape, form.shards or form.chunks, None, "C")
            result.append(Variable(store, str(name), layout))
    return result


@contextmanager
def _opened(store: Store) -> Iterator[Mapping[str, Any]]:
    """A file's variables as xarray opens it, no longer open than need be: HDF5 keeps writers out.

    One thread at a time: HDF5 is not made for several, and xarray locks it only to read values.
    """
    assert isinstance(store, LocalStore)
    file = store.root
    with _turn:
        if file.suffix not in GRIB:
            with _open(store.url, file) as data:
                yield {str(name): found for name, found in data.variables.items()}
            return
        with explained(store.url, "it cannot be read"):
            state = file.stat()
        yield _indexed(store.url, file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _indexed(url: str, file: Path, *state: int) -> Mapping[str, Any]:
    """A GRIB file; it is searched once, and again when it has been changed. It is not kept open."""
    how: Any = {"backend_kwargs": {"indexpath": "", "errors": "raise"}}
    with _explained(url):
        import cfgrib  # type: ignore[import-untyped]

        return _named(cfgrib.open_datasets(str(file), **how, **_AS_IT_IS))


def _named(groups: Sequence[Any]) -> dict[str, Any]:
    """The variables of all groups of messages, each by a name of its own.

    What a group is of alone, such as one level, stands among its arrays' attributes.
    """
    found: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
    for group in groups:
        alone = {k: v.item() for k, v in group.coords.items() if not v.ndim}
        kinds = [array.attrs.get("GRIB_typeOfLevel", "unknown") for array in group.values()]
        for name, each in group.variables.items():
            variable = each.copy(deep=False)
            if name in group.data_vars:
                variable.attrs = {**alone, **each.attrs}
            known = found[str(name)]
            if not any(variable.identical(other) for _, other in known):
                known.append((min(kinds, default="unknown"), variable))
    result = {}
    for name, several in found.items():
        if len(several) > 1:  # what has no axes is among the attributes
            several = [each for each in several if each[1].ndim]
        numbers: Counter[str] = Counter()
        for kind, variable in several:
            numbers[kind] += 1
            number = f".{numbers[kind]}" if numbers[kind] > 1 else ""
            result[f"{name}.{kind}{number}" if len(several) > 1 else name] = variable
    return result


#: How xarray is to open a file.
_AS_IT_IS: Any = {"decode_times": False, "cache": False}


def _open(url: str, file: Path) -> Any:
    with _explained(url):
        import xarray

        return xarray.open_dataset(file, **_AS_IT_IS)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise StoreError(
            f"store {url}: it is a file, which xarray may read: install maestro-pool[files]"
        ) from None
    except Exception as error:  # whatever a library says
        raise StoreError(
            f"store {url}: it is no Zarr store, and no file that xarray reads: {error}"
        ) from error


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
