from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Replicated, plan
from layouts.foreign.scalapack import Descriptor, from_descriptor, numroc, to_descriptor
from tests.layouts import naive
from tests.layouts.strategies import distributions


def indxl2g(local, nb, iproc, isrcproc, nprocs):
    """ScaLAPACK's INDXL2G, from its local and to its global index, but both counted from 0."""
    return nprocs * nb * (local // nb) + local % nb + (nprocs + iproc - isrcproc) % nprocs * nb


def indxg2p(index, nb, isrcproc, nprocs):
    """ScaLAPACK's INDXG2P: the process that holds a global index, counted from 0."""
    return (isrcproc + index // nb) % nprocs


@st.composite
def descriptors(draw):
    """Nine integers that ScaLAPACK would take, and the process grid."""
    nprow, npcol = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    m, n = draw(st.integers(0, 13)), draw(st.integers(0, 13))
    mb, nb = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    rsrc, csrc = draw(st.integers(0, nprow - 1)), draw(st.integers(0, npcol - 1))
    lld = max(1, m) + draw(st.integers(0, 3))
    return (1, draw(st.integers(-1, 9)), m, n, mb, nb, rsrc, csrc, lld), (nprow, npcol)


@settings(max_examples=500)
@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 6), st.data())
def test_numroc_counts_the_indices_that_a_process_owns(n, nb, nprocs, data):
    isrcproc = data.draw(st.integers(0, nprocs - 1))
    owners = [indxg2p(i, nb, isrcproc, nprocs) for i in range(n)]
    for iproc in range(nprocs):
        assert numroc(n, nb, iproc, isrcproc, nprocs) == owners.count(iproc)


@settings(max_examples=300)
@given(descriptors(), st.sampled_from("RC"))
def test_each_process_holds_what_scalapacks_formulas_say(described, numbering):
    desc, (nprow, npcol) = described
    _, _, m, n, mb, nb, rsrc, csrc, _ = desc
    descriptor = from_descriptor(desc, (nprow, npcol), numbering)
    distribution = descriptor.distribution
    assert (distribution.shape, distribution.grid) == ((m, n), (nprow, npcol))
    assert distribution.order == Distribution((m, n), order="F").order
    for prow, pcol in np.ndindex(nprow, npcol):
        rows, columns = numroc(m, mb, prow, rsrc, nprow), numroc(n, nb, pcol, csrc, npcol)
        rank = descriptor.rank(prow, pcol)
        assert descriptor.process(rank) == (prow, pcol)
        assert descriptor.local_shape(prow, pcol) == distribution.local_shape(rank)
        assert distribution.local_shape(rank) == (rows, columns)
        assert [i.tolist() for i in distribution.indices(rank)] == [
            [indxl2g(i, mb, prow, rsrc, nprow) for i in range(rows)],
            [indxl2g(j, nb, pcol, csrc, npcol) for j in range(columns)],
        ]
        number = prow * npcol + pcol if numbering == "R" else pcol * nprow + prow
        assert descriptor.ranks[number] == rank


@settings(max_examples=300)
@given(descriptors(), st.sampled_from("RC"))
def test_descriptors_come_back(described, numbering):
    desc, grid = described
    descriptor = from_descriptor(desc, grid, numbering)
    assert descriptor.astuple() == desc
    again = to_descriptor(descriptor.distribution, desc[1], desc[6:8], desc[8], numbering)
    assert again == descriptor
    assert hash(again) == hash(descriptor)


@settings(max_examples=300)
@given(st.tuples(st.integers(0, 12), st.integers(0, 12)).flatmap(distributions), st.data())
def test_what_scalapack_can_say_keeps_its_parts_and_the_rest_is_refused(distribution, data):
    distribution = Distribution(distribution.shape, distribution.grid, distribution.axes, "F")
    source = [data.draw(st.integers(0, p - 1)) for p in distribution.grid]
    held = [
        [naive.holds(kind, n, p, c) for c in range(p)]
        for kind, n, p in zip(distribution.axes, distribution.shape, distribution.grid, strict=True)
    ]
    sayable = all(
        p == 1
        or any(
            axis == [naive.holds(BlockCyclic(size), n, p, c) for c in range(p)]
            and not isinstance(kind, Replicated)
            for size in range(1, n + 2)
        )
        for kind, axis, n, p in zip(
            distribution.axes, held, distribution.shape, distribution.grid, strict=True
        )
    )
    if not sayable:
        with pytest.raises(ValueError, match=r"axis \d is .*expected Block or BlockCyclic"):
            to_descriptor(distribution, source=source)
        return
    descriptor = to_descriptor(distribution, source=source)
    again = descriptor.distribution
    assert [naive.indices(again, r) for r in range(again.size)] == [
        naive.indices(distribution, r) for r in range(distribution.size)
    ]
    for prow in range(distribution.grid[0]):
        assert descriptor.lld[prow] == max(1, descriptor.local_shape(prow, 0)[0])
        assert descriptor.astuple(prow)[8] == descriptor.lld[prow]


@settings(max_examples=50)
@given(descriptors(), st.sampled_from("RC"))
def test_local_arrays_with_gaps_are_moved_as_they_are(described, numbering):
    desc, grid = described
    descriptor = from_descriptor(desc, grid, numbering)
    matrix = naive.labels(desc[2:4])
    parts = [None] * descriptor.distribution.size
    for process, rank in enumerate(descriptor.ranks):  # local arrays come in MPI's order
        prow, pcol = descriptor.process(int(rank))
        rows, columns = descriptor.local_shape(prow, pcol)
        local = np.full(descriptor.lld[prow] * columns, -1)
        part = local.reshape((descriptor.lld[prow], columns), order="F")[:rows]
        assert process == (prow * grid[1] + pcol if numbering == "R" else pcol * grid[0] + prow)
        for i, j in np.ndindex(rows, columns):
            part[i, j] = matrix[
                indxl2g(i, desc[4], prow, desc[6], grid[0]),
                indxl2g(j, desc[5], pcol, desc[7], grid[1]),
            ]
        parts[rank] = part
    whole = plan(descriptor.distribution, Distribution(matrix.shape)).execute(parts)[0]
    assert np.array_equal(whole, matrix)


def test_the_example_of_the_users_guide():
    # 9 x 9 in blocks of 2 x 2 over 2 x 3 processes, figure 4.6: local arrays by global indices.
    descriptor = from_descriptor([1, 0, 9, 9, 2, 2, 0, 0, 5], grid=(2, 3))
    assert descriptor.local_shape(0, 0) == (5, 4)
    assert descriptor.local_shape(0, 1) == (5, 3)
    assert descriptor.local_shape(1, 2) == (4, 2)
    rows, columns = descriptor.distribution.indices(descriptor.rank(1, 0))
    assert (rows + 1).tolist() == [3, 4, 7, 8]
    assert (columns + 1).tolist() == [1, 2, 7, 8]


def test_the_picture_of_the_module():
    by_rows = from_descriptor([1, 0, 9, 9, 2, 2, 1, 0, 9], (2, 3), "R")
    by_columns = from_descriptor([1, 0, 9, 9, 2, 2, 1, 0, 9], (2, 3), "C")
    processes = [by_rows.process(rank) for rank in range(6)]
    assert processes == [(1, 0), (1, 1), (1, 2), (0, 0), (0, 1), (0, 2)]
    assert np.argsort(by_rows.ranks).tolist() == [3, 4, 5, 0, 1, 2]
    assert np.argsort(by_columns.ranks).tolist() == [1, 3, 5, 0, 2, 4]


def test_lld_is_local_to_a_process_row():
    desc = [1, 0, 5, 4, 2, 2, 1, 0, 2]  # process row 0 has 2 of the rows, row 1 has 3
    with pytest.raises(ValueError, match=r"lld\[1\]: got 2, expected at least 3: process row 1"):
        from_descriptor(desc, (2, 2))
    assert from_descriptor(desc, (2, 2), lld=[2, 3]).astuple(prow=0) == tuple(desc)
    with pytest.raises(ValueError, match=r"lld: got 1 numbers \(3,\), expected 2"):
        from_descriptor(desc, (2, 2), lld=[3])
    with pytest.raises(ValueError, match=r"lld\[0\]: got 0, expected at least 1"):
        from_descriptor([1, 0, 0, 4, 2, 2, 0, 0, 0], (2, 2))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({0: 501}, ValueError, "DTYPE_: got 501, expected 1"),
        ({2: -1}, ValueError, "M_: got -1, expected 0 or more"),
        ({5: 0}, ValueError, "NB_: got 0, expected 1 or more"),
        ({4: 2.0}, TypeError, "MB_: got 2.0, expected an integer"),
        ({6: 2}, IndexError, "RSRC_: got 2, expected 0 to 1"),
        ({7: 3}, IndexError, "CSRC_: got 3, expected 0 to 2"),
    ],
)
def test_wrong_descriptors_are_refused(changed, error, message):
    desc = [1, 0, 9, 9, 2, 2, 0, 0, 5]
    for place, value in changed.items():
        desc[place] = value
    with pytest.raises(error, match=message):
        from_descriptor(desc, (2, 3))


def test_other_wrong_arguments_are_refused():
    desc = [1, 0, 9, 9, 2, 2, 0, 0, 5]
    with pytest.raises(ValueError, match="desc: got 8 numbers, expected 9"):
        from_descriptor(desc[:8], (2, 3))
    with pytest.raises(ValueError, match=r"grid: got \(2, 3, 1\), expected two numbers"):
        from_descriptor(desc, (2, 3, 1))
    with pytest.raises(ValueError, match='numbering: got \'r\', expected "R" or "C"'):
        from_descriptor(desc, (2, 3), "r")
    descriptor = from_descriptor(desc, (2, 3))
    with pytest.raises(IndexError, match="prow: got 2, expected 0 to 1"):
        descriptor.rank(2, 0)
    with pytest.raises(IndexError, match="rank: got 6, expected 0 to 5"):
        descriptor.process(6)
    with pytest.raises(IndexError, match="iproc: got 3, expected 0 to 2"):
        numroc(9, 2, 3, 0, 3)


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (Distribution((8,), order="F"), r"its shape is \(8,\), expected two axes"),
        (Distribution((8, 8), (2, 2)), 'its order is .C., expected "F"'),
        (
            Distribution((8, 8), (2, 2), (Cyclic(), Replicated()), "F"),
            r"axis 1 is Replicated\(\) over 2 coordinates, expected Block or BlockCyclic",
        ),
        (Distribution((8, 8), (2, 1), (Irregular([0, 3, 8]), Block()), "F"), "axis 0 is Irregular"),
    ],
)
def test_what_scalapack_has_no_words_for_is_refused(distribution, message):
    with pytest.raises(ValueError, match=message):
        to_descriptor(distribution)
    if distribution.ndim != 2 or distribution.order != "F":
        with pytest.raises(ValueError, match=message):
            Descriptor(distribution, (0, 0), (8, 8), 0, "R")
