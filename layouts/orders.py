"""Memory order of one array or part: which axis is slowest, which is fastest, and in which tiles.

An order is ``"C"`` (row-major: the last axis fastest), ``"F"`` (column-major: the first axis
fastest), a permutation of the axes, slowest first, or `Tiled`. Logical index order never changes:
an order only says where an element lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from layouts.numbers import as_count, as_index

if TYPE_CHECKING:
    from layouts.tiled import TiledArray

__all__ = [
    "AxisOrder",
    "Order",
    "Tiled",
    "empty",
    "from_plain",
    "in_order",
    "normalize",
    "padded",
    "slowest_first",
    "to_plain",
]

#: ``"C"``, ``"F"`` or the axes from slowest to fastest.
AxisOrder: TypeAlias = str | tuple[int, ...]


@dataclass(frozen=True, init=False, repr=False)
class Tiled:
    """The order of an array that is cut into tiles, each contiguous in memory.

    The tiles at the ends of the axes are padded to full size, so every tile takes as many bytes::

        shape (3, 5), Tiled((2, 2))       0  1 |  4  5 |  8 ..      where each element lies, in
                                          2  3 |  6  7 | 10 ..      elements from the start;
                                         ------+-------+-------     the dots are padding
                                         12 13 | 16 17 | 20 ..
                                         .. .. | .. .. | .. ..

    Parameters
    ----------
    tiles : sequence of int
        Extent of a tile along each axis, at least 1.
    inner : "C", "F" or tuple of int
        Order of the elements in a tile.
    outer : "C", "F" or tuple of int
        Order of the tiles.

    Raises
    ------
    ValueError, TypeError
        If an extent is below 1, or an order is none of these axes.

    Examples
    --------
    >>> Tiled((64, 64))
    Tiled((64, 64))
    >>> Tiled([2, 3], inner=(1, 0), outer=(0, 1))
    Tiled((2, 3), inner='F')
    >>> Tiled((2, 2)).grid((3, 5)), Tiled((2, 2)).padded((3, 5))
    ((2, 3), (4, 6))
    """

    tiles: tuple[int, ...]
    inner: AxisOrder
    outer: AxisOrder

    def __init__(
        self,
        tiles: Sequence[int],
        inner: str | Sequence[int] = "C",
        outer: str | Sequence[int] = "C",
    ) -> None:
        try:
            extents = tuple(as_count(extent, "tiles") for extent in tiles)
        except TypeError as error:
            raise TypeError(f"tiles: got {tiles!r}, expected one integer for each axis") from error
        object.__setattr__(self, "tiles", extents)
        for name, order in (("inner", inner), ("outer", outer)):
            object.__setattr__(self, name, _permutation(order, len(extents), name))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.tiles)

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """How many tiles an array of this shape has along each axis."""
        return tuple(-(-n // tile) for n, tile in zip(shape, self.tiles, strict=True))

    def padded(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape with every axis made a whole number of tiles long."""
        return tuple(g * t for g, t in zip(self.grid(shape), self.tiles, strict=True))

    def __repr__(self) -> str:
        others = (("inner", self.inner), ("outer", self.outer))
        given = "".join(f", {name}={order!r}" for name, order in others if order != "C")
        return f"Tiled({self.tiles}{given})"


#: Of the axes, or tiles.
Order: TypeAlias = AxisOrder | Tiled


def slowest_first(order: Order | Sequence[int], ndim: int, name: str = "order") -> tuple[int, ...]:
    """The axes from slowest to fastest.

    Raises
    ------
    ValueError, TypeError
        If ``order`` is neither ``"C"`` nor ``"F"`` nor a permutation of ``ndim`` axes; the text
        begins with ``name``.

    Examples
    --------
    >>> slowest_first("F", 3)
    (2, 1, 0)
    """
    if isinstance(order, str):
        if order not in ("C", "F"):
            raise ValueError(f'{name}: got {order!r}, expected "C", "F" or a permutation of axes')
        return tuple(range(ndim)) if order == "C" else tuple(reversed(range(ndim)))
    try:
        axes = tuple(as_index(axis, name) for axis in order)  # type: ignore[union-attr]
    except TypeError:
        raise TypeError(
            f'{name}: got {order!r}, expected "C", "F" or a permutation of axes'
        ) from None
    if sorted(axes) != list(range(ndim)):
        raise ValueError(
            f"{name}: got {axes}, expected a permutation of the {ndim} axes, each once"
        )
    return axes


def _permutation(order: str | Sequence[int], ndim: int, name: str = "order") -> AxisOrder:
    axes = slowest_first(order, ndim, name)
    if axes == tuple(range(ndim)):
        return "C"
    if axes == tuple(reversed(range(ndim))):
        return "F"
    return axes


def normalize(order: Order | Sequence[int], ndim: int) -> Order:
    """The one spelling of an order: ``"C"`` or ``"F"`` where it is one of them.

    Raises
    ------
    ValueError, TypeError
        If it is no order of ``ndim`` axes.

    Examples
    --------
    >>> normalize((0, 1, 2), 3), normalize([2, 1, 0], 3), normalize((1, 2, 0), 3)
    ('C', 'F', (1, 2, 0))
    """
    if not isinstance(order, Tiled):
        return _permutation(order, ndim)
    if order.ndim != ndim:
        raise ValueError(f"order: got {order}, expected tiles of {ndim} axes")
    return order


def to_plain(order: Order) -> Any:
    """The order in lists, numbers and strings, for messages and files.

    Examples
    --------
    >>> to_plain((1, 2, 0)), to_plain(Tiled((4, 4), outer="F"))
    ([1, 2, 0], {'tiles': [4, 4], 'inner': 'C', 'outer': 'F'})
    """
    if isinstance(order, str):
        return order
    if isinstance(order, Tiled):
        within, between = to_plain(order.inner), to_plain(order.outer)
        return {"tiles": list(order.tiles), "inner": within, "outer": between}
    return list(order)


def from_plain(words: Any) -> Order | Sequence[int]:
    """The order of `to_plain`'s words; what is no order is found where it is used.

    Raises
    ------
    KeyError, TypeError, ValueError
        If tiles are not such words.
    """
    if not isinstance(words, Mapping):
        return words  # type: ignore[no-any-return]
    return Tiled(words["tiles"], words["inner"], words["outer"])


def padded(shape: Sequence[int], order: Order) -> tuple[int, ...]:
    """The shape of the memory that an array takes in ``order``: with tiles, whole tiles.

    Examples
    --------
    >>> padded((3, 5), "F"), padded((3, 5), Tiled((4, 4)))
    ((3, 5), (4, 8))
    """
    return order.padded(shape) if isinstance(order, Tiled) else tuple(shape)


@overload
def empty(shape: Sequence[int], dtype: DTypeLike, order: AxisOrder = "C") -> NDArray[Any]: ...
@overload
def empty(shape: Sequence[int], dtype: DTypeLike, order: Tiled) -> TiledArray: ...
@overload
def empty(shape: Sequence[int], dtype: DTypeLike, order: Order) -> NDArray[Any] | TiledArray: ...
def empty(shape: Sequence[int], dtype: DTypeLike, order: Order = "C") -> NDArray[Any] | TiledArray:
    """An uninitialised array of ``shape`` whose memory lies in ``order``.

    With tiles, a `TiledArray`; what pads its tiles is zero.

    Examples
    --------
    >>> empty((2, 3, 4), "f8", order=(1, 2, 0)).strides
    (8, 64, 16)
    """
    if isinstance(order, Tiled):
        from layouts.tiled import TiledArray

        return TiledArray.empty(shape, dtype, order)
    if order == "C" or order == "F":
        memory: NDArray[Any] = np.empty(shape, dtype, order)  # type: ignore[call-overload]
        return memory
    axes = slowest_first(order, len(shape))
    memory = np.empty([shape[axis] for axis in axes], dtype)
    return memory.transpose(np.argsort(axes)) if axes else memory


def in_order(array: NDArray[Any] | TiledArray, order: Order) -> bool:
    """Whether the array lies in memory in ``order``, without gaps."""
    if not isinstance(array, np.ndarray):
        return array.order == order
    if isinstance(order, Tiled):
        return False
    if order == "C" or order == "F":
        return array.flags[order]  # type: ignore[index]
    return array.transpose(slowest_first(order, array.ndim)).flags.c_contiguous
