"""ScaLAPACK: array descriptors, and which BLACS process holds which of our ranks.

A descriptor is nine integers, and speaks of a process grid that its context names::

    DTYPE_  1, a dense matrix              RSRC_  process row of the first block of rows
    CTXT_   the BLACS context              CSRC_  process column of the first block of columns
    M_, N_  rows and columns               LLD_   leading dimension of the local array, in elements;
    MB_, NB_  a block's rows and columns          local: each process row may have its own

A distribution deals its first block to coordinate 0, a descriptor to process row RSRC_ and column
CSRC_; so coordinate ``c`` along axis 0 is process row ``(c + RSRC_) mod nprow``. A distribution
numbers its ranks along the rows of the grid, BLACS its processes along rows (``"R"``, what
``BLACS_GRIDINIT`` does unless told otherwise) or columns (``"C"``). `Descriptor` says which process
holds which rank::

    2 x 3 processes, RSRC_ = 1, CSRC_ = 0      rank  0 1 2 3 4 5
                                            process  (1,0) (1,1) (1,2) (0,0) (0,1) (0,2)
                                     number, by "R"  3 4 5 0 1 2
                                     number, by "C"  1 3 5 0 2 4

Local arrays lie in columns. Where LLD_ is more than the local rows, a part is a strided view of
the local array, and `layouts.plan` takes it as it is:

>>> d = from_descriptor([1, 0, 5, 4, 2, 2, 0, 0, 8], grid=(2, 2))
>>> rows, columns = d.local_shape(0, 0)
>>> local = np.zeros(d.lld[0] * columns)                 # what was handed to ScaLAPACK
>>> part = local.reshape((d.lld[0], columns), order="F")[:rows]
>>> part.shape, part.strides
((3, 2), (8, 64))

The source of formulas is the ScaLAPACK Users' Guide, section 4.3, and its tool ``NUMROC``.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np

from layouts.axes import BlockCyclic
from layouts.cuts import Int64
from layouts.distribution import Distribution
from layouts.foreign.intervals import block_of
from layouts.numbers import as_count, as_index, as_rank

__all__ = ["Descriptor", "from_descriptor", "numroc", "to_descriptor"]


def numroc(n: int, nb: int, iproc: int, isrcproc: int, nprocs: int) -> int:
    """NUMROC: how many of ``n`` rows or columns a process row or column holds.

    Parameters
    ----------
    n : int
        Rows or columns of the matrix.
    nb : int
        Rows or columns of a block, at least 1.
    iproc : int
        The process row or column asked about.
    isrcproc : int
        The process row or column that holds the first block.
    nprocs : int
        Process rows or columns.

    Raises
    ------
    ValueError, IndexError
        If a number is out of its range.

    Examples
    --------
    >>> [numroc(10, 2, iproc, 1, 3) for iproc in range(3)]
    [2, 4, 4]
    """
    n, nb, nprocs = as_index(n, "n"), as_count(nb, "nb"), as_count(nprocs, "nprocs")
    distance = as_rank(iproc, nprocs, "iproc") - as_rank(isrcproc, nprocs, "isrcproc")
    blocks, rest = divmod(n, nb)
    rounds, extra = divmod(blocks, nprocs)
    mine = distance % nprocs
    return rounds * nb + (nb if mine < extra else rest if mine == extra else 0)


@dataclass(frozen=True)
class Descriptor:
    """An array descriptor and its process grid; made by `from_descriptor` and `to_descriptor`.

    Attributes
    ----------
    distribution : Distribution
        Two axes, both ``BlockCyclic``, order ``"F"``: M_, N_, MB_, NB_ and the process grid.
    source : tuple of int
        ``(RSRC_, CSRC_)``, the process that holds the first block.
    lld : tuple of int
        LLD_ in elements, one for each process row.
    context : int
        CTXT_, kept as it is.
    numbering : "R" or "C"
        How BLACS numbers the processes of the grid: along its rows or along its columns.

    Raises
    ------
    ValueError, IndexError
        If something is out of its range, for ``lld`` if it is below a process row's local rows.

    Examples
    --------
    >>> d = from_descriptor([1, 0, 9, 9, 2, 2, 1, 0, 5], grid=(2, 3))
    >>> print(d.distribution)
    (9, 9) over 2x3 ranks: BlockCyclic(2) x BlockCyclic(2), order F
    >>> d.process(0), d.rank(0, 0), d.local_shape(1, 0)
    ((1, 0), 3, (5, 4))
    """

    distribution: Distribution
    source: tuple[int, int]
    lld: tuple[int, ...]
    context: int
    numbering: str

    def __post_init__(self) -> None:
        _check(self.distribution)
        if self.numbering not in ("R", "C"):
            raise ValueError(f'numbering: got {self.numbering!r}, expected "R" or "C"')
        if len(self.source) != 2:
            raise ValueError(f"source: got {self.source}, expected (RSRC_, CSRC_)")
        for name, process, ranks in zip(("RSRC_", "CSRC_"), self.source, self.grid, strict=True):
            as_rank(process, ranks, name)
        if len(self.lld) != self.grid[0]:
            raise ValueError(
                f"lld: got {len(self.lld)} numbers {self.lld}, expected {self.grid[0]}: one for"
                " each process row"
            )
        for prow, (lld, rows) in enumerate(zip(self.lld, self.local_rows, strict=True)):
            if lld < max(1, rows):
                raise ValueError(
                    f"lld[{prow}]: got {lld}, expected at least {max(1, rows)}: process row {prow}"
                    f" holds {rows} rows"
                )

    @property
    def grid(self) -> tuple[int, int]:
        """Process rows and columns."""
        nprow, npcol = self.distribution.grid
        return nprow, npcol

    @property
    def local_rows(self) -> tuple[int, ...]:
        """The rows that each process row holds."""
        return tuple(self._count(0, prow) for prow in range(self.grid[0]))

    def local_shape(self, prow: int, pcol: int) -> tuple[int, int]:
        """Rows and columns that a process holds, LOCr and LOCc, by `numroc`."""
        return self._count(0, prow), self._count(1, pcol)

    def process(self, rank: int) -> tuple[int, int]:
        """The process row and column that hold the part of a rank of the distribution.

        Raises
        ------
        IndexError
            If there is no such rank.
        """
        row, column = self.distribution.coordinates(rank)
        return (row + self.source[0]) % self.grid[0], (column + self.source[1]) % self.grid[1]

    def rank(self, prow: int, pcol: int) -> int:
        """The rank of the distribution whose part a process holds.

        Raises
        ------
        IndexError
            If there is no such process.
        """
        row = (as_rank(prow, self.grid[0], "prow") - self.source[0]) % self.grid[0]
        column = (as_rank(pcol, self.grid[1], "pcol") - self.source[1]) % self.grid[1]
        return row * self.grid[1] + column

    @property
    def ranks(self) -> Int64:
        """The rank of the distribution by BLACS process number, ``BLACS_PNUM``; shape ``(size,)``.

        Where the context was made from a whole communicator, a process number is its MPI rank: so
        with all local parts gathered in MPI's order, ``parts[i]`` is the part of ``ranks[i]``.

        Examples
        --------
        >>> d = from_descriptor([1, 0, 9, 9, 2, 2, 1, 0, 5], grid=(2, 3), numbering="C")
        >>> d.ranks.tolist()
        [3, 0, 4, 1, 5, 2]
        """
        ranks = np.arange(self.distribution.size).reshape(self.grid)
        by_process = np.roll(ranks, self.source, axis=(0, 1))
        return by_process.ravel(order="C" if self.numbering == "R" else "F")

    def astuple(self, prow: int = 0) -> tuple[int, int, int, int, int, int, int, int, int]:
        """The nine integers, LLD_ being that of a process row.

        Raises
        ------
        IndexError
            If there is no such process row.
        """
        lld = self.lld[as_rank(prow, self.grid[0], "prow")]
        (m, n), (mb, nb) = self.distribution.shape, self._blocks
        return 1, self.context, m, n, mb, nb, *self.source, lld

    @property
    def _blocks(self) -> tuple[int, int]:
        return block_of(self.distribution, 0), block_of(self.distribution, 1)

    def _count(self, axis: int, process: int) -> int:
        extent, ranks = self.distribution.shape[axis], self.grid[axis]
        return numroc(extent, self._blocks[axis], process, self.source[axis], ranks)


def from_descriptor(
    desc: Sequence[SupportsIndex],
    grid: Sequence[SupportsIndex],
    numbering: str = "R",
    lld: Sequence[SupportsIndex] | None = None,
) -> Descriptor:
    """Read an array descriptor.

    Parameters
    ----------
    desc : sequence of nine int
        DTYPE_, CTXT_, M_, N_, MB_, NB_, RSRC_, CSRC_, LLD_.
    grid : sequence of two int
        Process rows and columns of the context, as ``BLACS_GRIDINFO`` tells them.
    numbering : "R" or "C"
        How the context numbers its processes, as it was told to ``BLACS_GRIDINIT``.
    lld : sequence of int, optional
        The leading dimension in each process row, where they differ: LLD_ is local. By default that
        of the descriptor counts for all.

    Raises
    ------
    ValueError, TypeError, IndexError
        If it describes no dense matrix on this grid.

    Examples
    --------
    >>> d = from_descriptor([1, 0, 9, 8, 2, 3, 0, 0, 5], grid=(2, 2))
    >>> d.local_shape(0, 0), d.lld
    ((5, 5), (5, 5))
    """
    numbers = tuple(desc)
    if len(numbers) != 9:
        raise ValueError(f"desc: got {len(numbers)} numbers, expected 9")
    dtype = operator.index(numbers[0])
    if dtype != 1:
        raise ValueError(f"DTYPE_: got {dtype}, expected 1: a dense matrix")
    sizes = as_index(numbers[2], "M_"), as_index(numbers[3], "N_")
    blocks = as_count(numbers[4], "MB_"), as_count(numbers[5], "NB_")
    distribution = Distribution(
        sizes, _pair(grid, "grid"), [BlockCyclic(b) for b in blocks], order="F"
    )
    source = as_index(numbers[6], "RSRC_"), as_index(numbers[7], "CSRC_")
    given = [numbers[8]] * distribution.grid[0] if lld is None else lld
    leading = tuple(as_index(each, "LLD_") for each in given)
    return Descriptor(distribution, source, leading, operator.index(numbers[1]), numbering)


def to_descriptor(
    distribution: Distribution,
    context: int = 0,
    source: Sequence[SupportsIndex] = (0, 0),
    lld: SupportsIndex | Sequence[SupportsIndex] | None = None,
    numbering: str = "R",
) -> Descriptor:
    """Describe a distribution to ScaLAPACK.

    Parameters
    ----------
    distribution : Distribution
        Of two axes, each blocks of one size dealt in turn, in order ``"F"``.
    context : int
        CTXT_, the BLACS context of a grid of the distribution's own shape.
    source : sequence of two int
        RSRC_ and CSRC_, the process that is to hold rank 0.
    lld : int or sequence of int, optional
        Leading dimension in elements, for all process rows or for each; the local rows by default.
    numbering : "R" or "C"
        How the context numbers its processes.

    Raises
    ------
    ValueError, TypeError, IndexError
        If ScaLAPACK has no words for it, naming what does not fit.

    Examples
    --------
    >>> d = to_descriptor(Distribution((9, 8), grid=(2, 2), order="F"), context=7)
    >>> d.astuple(prow=0), d.astuple(prow=1)
    ((1, 7, 9, 8, 5, 4, 0, 0, 5), (1, 7, 9, 8, 5, 4, 0, 0, 4))
    """
    _check(distribution)
    kinds = [BlockCyclic(block_of(distribution, axis)) for axis in range(2)]
    dealt = Distribution(distribution.shape, distribution.grid, kinds, order="F")
    first = _pair(source, "source")
    prows = dealt.grid[0]
    if lld is None:
        (m, _), mb = dealt.shape, kinds[0].size
        leading = tuple(max(1, numroc(m, mb, p, first[0], prows)) for p in range(prows))
    elif isinstance(lld, SupportsIndex):
        leading = (as_index(lld, "lld"),) * prows
    else:
        leading = tuple(as_index(each, "lld") for each in lld)
    return Descriptor(dealt, first, leading, operator.index(context), numbering)


def _check(distribution: Distribution) -> None:
    if distribution.ndim != 2:
        raise ValueError(f"distribution: its shape is {distribution.shape}, expected two axes")
    if distribution.order != "F":
        raise ValueError(
            f'distribution: its order is {distribution.order!r}, expected "F", columns in memory'
        )


def _pair(given: Sequence[SupportsIndex], name: str) -> tuple[int, int]:
    if len(given) != 2:
        raise ValueError(f"{name}: got {tuple(given)}, expected two numbers: rows and columns")
    return as_index(given[0], name), as_index(given[1], name)
