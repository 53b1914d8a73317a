"""MPI: the arguments of ``MPI_Type_create_darray``.

=================================  =========================================
distribution argument              kind
=================================  =========================================
``"block"``, `DFLT`                ``Block()``
``"block"``, b                     ``BlockCyclic(b)``: b * psize >= gsize, so one round
``"cyclic"``, b (`DFLT`: 1)        ``BlockCyclic(b)``
``"none"``                         ``Block()`` over one rank: the psize is 1
=================================  =========================================

The processes of MPI's grid are numbered in row-major order whatever the order of the array (MPI
4.1, section 5.1.4: "as in the case of virtual Cartesian process topologies"), as our ranks are; so
MPI's rank is ours.

MPI fixes the names of its constants but not their numbers: Open MPI has 0 for the ``BLOCK`` that is
121 in MPICH. Here they are strings, and numbers only together with the module that they are from:

>>> from types import SimpleNamespace
>>> MPI = SimpleNamespace(DISTRIBUTE_BLOCK=121, DISTRIBUTE_CYCLIC=122, DISTRIBUTE_NONE=123,
...                       DISTRIBUTE_DFLT_DARG=-49767, ORDER_C=56, ORDER_F=57)  # mpi4py.MPI
>>> d = from_darray([9, 8], [121, 123], [-49767, -49767], [2, 1], 57, constants=MPI)
>>> print(d)
(9, 8) over 2x1 ranks: Block x Block, order F
>>> to_darray(d, constants=MPI)
Darray(gsizes=(9, 8), distribs=(121, 123), dargs=(-49767, -49767), psizes=(2, 1), order=57)

With that, ``MPI.DOUBLE.Create_darray(d.size, rank, *to_darray(d, constants=MPI))`` is the datatype
of a rank's part within the whole array, for a file view or a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol, SupportsIndex

from layouts.axes import Block, BlockCyclic, Kind
from layouts.distribution import Distribution
from layouts.foreign.intervals import block_of
from layouts.numbers import as_count

__all__ = ["DFLT", "Constants", "Darray", "from_darray", "to_darray"]

#: MPI_DISTRIBUTE_DFLT_DARG.
DFLT: Final = "default"


class Constants(Protocol):
    """Where MPI's numbers come from, such as the module ``mpi4py.MPI``."""

    @property
    def DISTRIBUTE_BLOCK(self) -> int: ...  # noqa: D102
    @property
    def DISTRIBUTE_CYCLIC(self) -> int: ...  # noqa: D102
    @property
    def DISTRIBUTE_NONE(self) -> int: ...  # noqa: D102
    @property
    def DISTRIBUTE_DFLT_DARG(self) -> int: ...  # noqa: D102
    @property
    def ORDER_C(self) -> int: ...  # noqa: D102
    @property
    def ORDER_F(self) -> int: ...  # noqa: D102


class Darray(NamedTuple):
    """Arguments of ``MPI_Type_create_darray`` from ``gsizes`` on, in MPI's order.

    Attributes
    ----------
    gsizes : tuple of int
        Shape of the whole array.
    distribs : tuple
        ``"block"``, ``"cyclic"`` or ``"none"`` for each axis, or MPI's numbers.
    dargs : tuple
        Block size for each axis, or `DFLT`, or MPI's number for it.
    psizes : tuple of int
        Processes along each axis.
    order : str or int
        ``"C"`` or ``"F"``, or MPI's number.
    """

    gsizes: tuple[int, ...]
    distribs: tuple[str | int, ...]
    dargs: tuple[str | int, ...]
    psizes: tuple[int, ...]
    order: str | int


def from_darray(
    gsizes: Sequence[SupportsIndex],
    distribs: Sequence[str | int],
    dargs: Sequence[str | int],
    psizes: Sequence[SupportsIndex],
    order: str | int = "C",
    constants: Constants | None = None,
) -> Distribution:
    """The distribution that ``MPI_Type_create_darray`` describes, rank by rank.

    Parameters
    ----------
    gsizes, distribs, dargs, psizes, order
        As in `Darray`.
    constants : module, optional
        ``mpi4py.MPI``, or whatever else has the constants, to understand MPI's numbers.

    Raises
    ------
    ValueError, TypeError
        If MPI would refuse them, naming the argument.

    Examples
    --------
    >>> print(from_darray([9, 8, 5], ["cyclic", "block", "none"], [2, DFLT, DFLT], [2, 3, 1], "F"))
    (9, 8, 5) over 2x3x1 ranks: BlockCyclic(2) x Block x Block, order F
    """
    kind_of, darg_of, order_of = _words(constants)
    extents = [as_count(n, f"gsizes[{axis}]") for axis, n in enumerate(gsizes)]
    for name, given in (("distribs", distribs), ("dargs", dargs), ("psizes", psizes)):
        if len(given) != len(extents):
            raise ValueError(
                f"{name}: got {len(given)} entries, expected {len(extents)}: one for each of gsizes"
            )
    grid = [as_count(p, f"psizes[{axis}]") for axis, p in enumerate(psizes)]
    kinds = []
    for axis, extent in enumerate(extents):
        distrib, darg = distribs[axis], dargs[axis]
        distrib, darg = kind_of.get(distrib, distrib), darg_of.get(darg, darg)
        kinds.append(_kind(axis, extent, distrib, darg, grid[axis]))
    return Distribution(extents, grid, kinds, _order(order_of.get(order, order)))


def to_darray(distribution: Distribution, constants: Constants | None = None) -> Darray:
    """The arguments with which MPI describes each rank's part within the whole array.

    Parameters
    ----------
    distribution : Distribution
        In order ``"C"`` or ``"F"``; each axis blocks of one size dealt in turn, or held whole by
        one rank.
    constants : module, optional
        ``mpi4py.MPI``, or whatever else has the constants, to get MPI's numbers, not words.

    Raises
    ------
    ValueError
        If MPI has no words for it, or refuses it: arrays without axes or without elements.

    Examples
    --------
    >>> to_darray(Distribution((9, 8), grid=(2, 1), axes=(BlockCyclic(2), Block())))
    Darray(gsizes=(9, 8), distribs=('cyclic', 'none'), dargs=(2, 'default'),
           psizes=(2, 1), order='C')
    """
    if not distribution.shape or 0 in distribution.shape:
        raise ValueError(
            f"distribution: its shape is {distribution.shape}, expected at least one axis, and at"
            " least one index on each"
        )
    order = _order(distribution.order)
    words = [_argument(distribution, axis) for axis in range(distribution.ndim)]
    numbers: dict[str | int, int | str] = {}  # of the words, which are all different
    for meanings in _words(constants):
        numbers |= {word: number for number, word in meanings.items()}
    return Darray(
        distribution.shape,
        tuple(numbers.get(distrib, distrib) for distrib, _ in words),
        tuple(numbers.get(darg, darg) for _, darg in words),
        distribution.grid,
        numbers.get(order, order),
    )


def _words(constants: Constants | None) -> tuple[dict[str | int, str], ...]:
    """What MPI's numbers mean as ``distribs``, as ``dargs`` and as ``order``; they may overlap."""
    if constants is None:
        return {}, {}, {}
    return (
        {
            constants.DISTRIBUTE_BLOCK: "block",
            constants.DISTRIBUTE_CYCLIC: "cyclic",
            constants.DISTRIBUTE_NONE: "none",
        },
        {constants.DISTRIBUTE_DFLT_DARG: DFLT},
        {constants.ORDER_C: "C", constants.ORDER_F: "F"},
    )


def _kind(axis: int, extent: int, distrib: str | int, darg: str | int, ranks: int) -> Kind:
    if distrib == "none":
        if ranks != 1:
            raise ValueError(f'psizes[{axis}]: got {ranks}, expected 1 for distribs[{axis}] "none"')
        return Block()
    if distrib not in ("block", "cyclic"):
        raise ValueError(
            f'distribs[{axis}]: got {distrib!r}, expected "block", "cyclic" or "none", or'
            " one of MPI's numbers together with constants"
        )
    if darg == DFLT:
        return Block() if distrib == "block" else BlockCyclic(1)
    if isinstance(darg, str):
        raise ValueError(f"dargs[{axis}]: got {darg!r}, expected a block size or {DFLT!r}")
    size = as_count(darg, f"dargs[{axis}]")
    if distrib == "block" and size * ranks < extent:
        raise ValueError(
            f"dargs[{axis}]: got {size}, expected at least {-(-extent // ranks)}: the {ranks}"
            f" blocks of a block distribution hold all {extent} indices"
        )
    return BlockCyclic(size)


def _argument(distribution: Distribution, axis: int) -> tuple[str, str | int]:
    kind, ranks = distribution.axes[axis], distribution.grid[axis]
    if isinstance(kind, BlockCyclic):
        return "cyclic", kind.size
    if ranks == 1:
        return "none", DFLT
    if isinstance(kind, Block):
        return "block", DFLT
    return "cyclic", block_of(distribution, axis)


def _order(order: object) -> str:
    if order not in ("C", "F"):
        raise ValueError(
            f'order: got {order!r}, expected "C" or "F", or one of MPI\'s numbers together with'
            " constants"
        )
    return str(order)
