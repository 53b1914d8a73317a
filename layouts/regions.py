"""Boxes of global indices, as users write them: one slice for each axis."""

from __future__ import annotations

from collections.abc import Sequence

from layouts.numbers import as_index

__all__ = ["Region", "normalize"]

#: Low and high end along each axis.
Region = tuple[tuple[int, int], ...]


def normalize(region: Sequence[slice], shape: tuple[int, ...]) -> Region:
    """A region's low and high end along each axis, with ``0 <= low <= high <= extent``.

    Raises
    ------
    TypeError
        If it is no sequence of slices.
    ValueError
        If it has another number of axes, a step, or an end beyond its axis.

    Examples
    --------
    >>> normalize([slice(2, 5), slice(None), slice(-3, None)], (8, 6, 10))
    ((2, 5), (0, 6), (7, 10))
    """
    try:
        slices = tuple(region)
    except TypeError:
        raise TypeError(f"region: got {region!r}, expected a slice for each axis") from None
    if len(slices) != len(shape):
        raise ValueError(f"region: got {len(slices)} slices, expected one for each axis of {shape}")
    return tuple(
        _ends(cut, n, axis) for axis, (cut, n) in enumerate(zip(slices, shape, strict=True))
    )


def _ends(cut: slice, extent: int, axis: int) -> tuple[int, int]:
    name = f"region[{axis}]"
    if not isinstance(cut, slice):
        raise TypeError(f"{name}: got {cut!r}, expected a slice")
    if cut.step not in (None, 1):
        raise ValueError(f"{name}: its step is {cut.step}, expected 1")
    low = 0 if cut.start is None else cut.start
    high = extent if cut.stop is None else cut.stop
    low, high = (as_index(end + extent if end < 0 else end, name) for end in (low, high))
    if not low <= high <= extent:
        raise ValueError(f"{name}: got {low} to {high}, expected rising ends within 0 to {extent}")
    return low, high
