from __future__ import annotations

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Block, BlockCyclic, Cyclic, Distribution, Irregular, Replicated
from layouts.foreign.mpi import DFLT, Darray, from_darray, to_darray
from tests.layouts import naive
from tests.layouts.strategies import distributions

# Numbers as they are in two libraries; in Open MPI those of one argument are also another's.
MPICH = SimpleNamespace(
    DISTRIBUTE_BLOCK=121,
    DISTRIBUTE_CYCLIC=122,
    DISTRIBUTE_NONE=123,
    DISTRIBUTE_DFLT_DARG=-49767,
    ORDER_C=56,
    ORDER_F=57,
)
OPEN_MPI = SimpleNamespace(
    DISTRIBUTE_BLOCK=0,
    DISTRIBUTE_CYCLIC=1,
    DISTRIBUTE_NONE=2,
    DISTRIBUTE_DFLT_DARG=-1,
    ORDER_C=0,
    ORDER_F=1,
)

# What follows runs in a process of its own: MPI's start leaves traces in the process (signal
# handlers, environment variables), and an error within MPI ends it.
PACKER = """
import json, math, sys
import numpy as np
from mpi4py import MPI
names = ["BLOCK", "CYCLIC", "NONE", "DFLT_DARG"]
constants = {"DISTRIBUTE_" + n: getattr(MPI, "DISTRIBUTE_" + n) for n in names}
constants |= {"ORDER_C": MPI.ORDER_C, "ORDER_F": MPI.ORDER_F}
print(json.dumps([MPI.Get_library_version().split(",")[0], constants]), flush=True)
for line in sys.stdin:
    gsizes, distribs, dargs, psizes, order = json.loads(line)
    memory, places = np.arange(math.prod(gsizes)), []
    for rank in range(math.prod(psizes)):
        part = MPI.INT64_T.Create_darray(
            math.prod(psizes), rank, gsizes, distribs, dargs, psizes, order
        ).Commit()
        packed = np.empty(part.Get_size() // 8, np.int64)
        if packed.size:
            part.Pack(memory, packed, 0, MPI.COMM_SELF)
        places.append(packed.tolist())
        part.Free()
    print(json.dumps(places), flush=True)
"""


@pytest.fixture(scope="module")
def mpi():
    """A real MPI: its constants, and for a darray the places that each rank's datatype packs."""
    child = subprocess.Popen(
        [sys.executable, "-c", PACKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        first = child.stdout.readline()
        if not first:
            reason = child.stderr.read().strip().splitlines() or ["it ended without a word"]
            wrong = next((line for line in reversed(reason) if "Error" in line), reason[-1])
            pytest.skip(f"no MPI through mpi4py on this machine ({wrong})")
        version, constants = json.loads(first)

        def pack(arguments):
            child.stdin.write(json.dumps(arguments) + "\n")
            child.stdin.flush()
            return json.loads(child.stdout.readline())

        yield SimpleNamespace(version=version, pack=pack, **constants)
        child.stdin.close()


def standard(gsizes, distribs, dargs, psizes, order):
    """
    For each rank, the places in memory that its datatype has, in order, from the standard's text.

    MPI 4.1, section 5.1.4: the place of a rank in the grid as its C fragment computes it, `block`
    and `none` turned into `cyclic`, then for each axis, fastest first, `cyclic(darg, gsize, r,
    psize, oldtype)` around what there is.
    """
    ndims = len(gsizes)
    for rank in range(math.prod(psizes)):
        t_rank, t_size, place = rank, math.prod(psizes), []
        for psize in psizes:
            t_size //= psize
            place.append(t_rank // t_size)
            t_rank %= t_size
        typemap, extent = [0], 1
        for axis in range(ndims) if order == "F" else reversed(range(ndims)):
            g, p, r = gsizes[axis], psizes[axis], place[axis]
            darg = {
                ("block", DFLT): (g + p - 1) // p,
                ("cyclic", DFLT): 1,
                ("none", dargs[axis]): g,
            }.get((distribs[axis], dargs[axis]), dargs[axis])
            blocks = [range(b * darg, min((b + 1) * darg, g)) for b in range(r, -(-g // darg), p)]
            typemap = [i * extent + old for block in blocks for i in block for old in typemap]
            extent *= g
        yield typemap


def of_distribution(distribution):
    """The same from a distribution: places in memory of the parts' elements, in memory's order."""
    shape, order = distribution.shape, distribution.order
    where = np.arange(math.prod(shape)).reshape(shape, order=order)
    for rank in range(distribution.size):
        yield where[np.ix_(*distribution.indices(rank))].ravel(order=order).tolist()


@st.composite
def darrays(draw):
    """Arguments that MPI takes."""
    ndims = draw(st.integers(1, 4))
    gsizes, distribs, dargs, psizes = [], [], [], []
    for _ in range(ndims):
        g = draw(st.integers(1, 11 if ndims < 4 else 5))
        distrib = draw(st.sampled_from(["block", "cyclic", "none"]))
        p = 1 if distrib == "none" else draw(st.integers(1, 4))
        low = -(-g // p) if distrib == "block" else 1
        distribs.append(distrib)
        dargs.append(draw(st.one_of(st.just(DFLT), st.integers(low, low + 5))))
        gsizes.append(g)
        psizes.append(p)
    return Darray(
        tuple(gsizes), tuple(distribs), tuple(dargs), tuple(psizes), draw(st.sampled_from("CF"))
    )


@settings(max_examples=300)
@given(darrays())
def test_ranks_hold_what_the_standards_formulas_say(darray):
    distribution = from_darray(*darray)
    assert (distribution.shape, distribution.grid) == (darray.gsizes, darray.psizes)
    assert list(of_distribution(distribution)) == list(standard(*darray))


@settings(max_examples=300)
@given(darrays(), st.sampled_from([None, MPICH, OPEN_MPI]))
def test_distributions_come_back(darray, constants):
    distribution = from_darray(*darray)
    again = to_darray(distribution, constants)
    assert from_darray(*again, constants=constants) == distribution
    assert list(standard(*to_darray(distribution))) == list(standard(*darray))


@settings(max_examples=300)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4).flatmap(distributions))
def test_what_mpi_can_say_keeps_its_parts_and_the_rest_is_refused(distribution):
    dims = list(zip(distribution.axes, distribution.shape, distribution.grid, strict=True))
    if distribution.order not in ("C", "F"):
        with pytest.raises(ValueError, match=r'order: got .*expected "C" or "F"'):
            to_darray(distribution)
        return
    sayable = all(
        p == 1
        or any(
            [naive.holds(kind, n, p, c) for c in range(p)]
            == [naive.holds(BlockCyclic(size), n, p, c) for c in range(p)]
            for size in range(1, n + 2)
        )
        for kind, n, p in dims
    )
    if not sayable:
        with pytest.raises(ValueError, match=r"axis \d is .*expected Block or BlockCyclic"):
            to_darray(distribution)
        return
    darray = to_darray(distribution)
    assert list(standard(*darray)) == list(of_distribution(distribution))
    again = from_darray(*darray)
    assert [naive.indices(again, r) for r in range(again.size)] == [
        naive.indices(distribution, r) for r in range(distribution.size)
    ]


@settings(max_examples=300)
@given(darrays())
def test_mpi_itself_packs_the_parts(mpi, darray):
    distribution = from_darray(*darray)
    places = list(of_distribution(distribution))
    assert mpi.pack(to_darray(distribution, constants=mpi)) == places
    # ... and so with the arguments as they were given, in MPI's own numbers
    names = {
        "block": mpi.DISTRIBUTE_BLOCK,
        "cyclic": mpi.DISTRIBUTE_CYCLIC,
        "none": mpi.DISTRIBUTE_NONE,
    }
    numbers = (
        darray.gsizes,
        [names[distrib] for distrib in darray.distribs],
        [mpi.DISTRIBUTE_DFLT_DARG if darg == DFLT else darg for darg in darray.dargs],
        darray.psizes,
        mpi.ORDER_C if darray.order == "C" else mpi.ORDER_F,
    )
    assert from_darray(*numbers, constants=mpi) == distribution
    assert mpi.pack(numbers) == places


def test_mpi_itself_numbers_processes_by_rows_in_both_orders(mpi):
    for order in "CF":
        distribution = Distribution((4, 6, 10), (2, 3, 5), order=order)
        places = mpi.pack(to_darray(distribution, constants=mpi))
        first = [np.unravel_index(p[0], (4, 6, 10), order=order) for p in places]
        ranks = [np.ravel_multi_index((i // 2, j // 2, k // 2), (2, 3, 5)) for i, j, k in first]
        assert ranks == list(range(30))


def test_the_arguments_that_a_distribution_gives():
    axes = (BlockCyclic(3), Cyclic(), Block(), Irregular([0, 2, 4, 5]), Replicated())
    distribution = Distribution((9, 9, 9, 5, 9), (2, 2, 2, 3, 1), axes, "F")
    assert to_darray(distribution) == (
        (9, 9, 9, 5, 9),
        ("cyclic", "cyclic", "block", "cyclic", "none"),
        (3, 1, DFLT, 2, DFLT),
        (2, 2, 2, 3, 1),
        "F",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([9, 0], ["none"] * 2, [DFLT] * 2, [1, 1]), r"gsizes\[1\]: got 0, expected 1 or more"),
        (([9], ["none", "none"], [DFLT], [1]), "distribs: got 2 entries, expected 1"),
        (([9], ["none"], [], [1]), "dargs: got 0 entries, expected 1"),
        (([9], ["none"], [DFLT], [1, 1]), "psizes: got 2 entries, expected 1"),
        (([9], ["none"], [DFLT], [2]), r'psizes\[0\]: got 2, expected 1 for distribs\[0\] "none"'),
        (([9], ["block"], [4], [2]), r"dargs\[0\]: got 4, expected at least 5"),
        (([9], ["cyclic"], [0], [2]), r"dargs\[0\]: got 0, expected 1 or more"),
        (([9], ["cyclic"], [-1], [2]), r"dargs\[0\]: got -1, expected 0 or more"),
        (([9], ["cyclic"], ["four"], [2]), r"dargs\[0\]: got 'four', expected a block size or"),
        (([9], ["blocks"], [DFLT], [2]), r"distribs\[0\]: got 'blocks', expected \"block\""),
        (([9], [121], [DFLT], [2]), r"distribs\[0\]: got 121, expected .*together with constants"),
        (([9], ["block"], [DFLT], [2], 56), "order: got 56, expected .*together with constants"),
        (([9], ["block"], [DFLT], [2], "K"), 'order: got \'K\', expected "C" or "F"'),
    ],
)
def test_what_mpi_would_refuse_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        from_darray(*arguments)


@pytest.mark.parametrize("shape", [(), (0,), (4, 0)])
def test_arrays_that_mpi_does_not_know_are_refused(shape):
    with pytest.raises(ValueError, match="expected at least one axis, and at least one index"):
        to_darray(Distribution(shape))
