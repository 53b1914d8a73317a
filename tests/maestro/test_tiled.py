"""Parts in tiles through the pool, from and to all other orders."""

from __future__ import annotations

import dask
import numpy as np
import pytest

from layouts import Block, BlockCyclic, Cyclic, Distribution, Tiled, TiledArray
from layouts.orders import in_order
from maestro.errors import InconsistentError

ARRAY = np.arange(23 * 17 * 5, dtype=">f8").reshape(23, 17, 5)
SOURCE = Distribution(
    ARRAY.shape, (2, 2, 1), (BlockCyclic(3), Cyclic(), Block()), Tiled((4, 5, 2), "F")
)
TARGET = Distribution(ARRAY.shape, (1, 3, 1), order=Tiled((5, 2, 5), outer=(1, 2, 0)))
PLAIN = Distribution(ARRAY.shape, (3, 1, 1), order=(1, 2, 0))


@pytest.mark.parametrize("chunk", ["64 MiB", "200 B"])
@pytest.mark.parametrize(("source", "target"), [(SOURCE, TARGET), (PLAIN, TARGET), (SOURCE, PLAIN)])
def test_parts_in_tiles_come_through(app, source, target, chunk):
    with dask.config.set({"maestro.transfer.chunk": chunk}):
        app.offer("t2m", source.split(ARRAY), source)
        want = app.declare("t2m", distribution=target)
        parts = want.demand(timeout=300)
    for rank, part in enumerate(parts):
        assert in_order(part, target.order)
        assert part.dtype == ARRAY.dtype
        assert np.array_equal(part, ARRAY[np.ix_(*target.indices(rank))])
    assert want.report.bytes >= ARRAY.nbytes  # elements travel, padding does not
    assert want.report.bytes == sum(part.size for part in parts) * ARRAY.itemsize


def test_a_whole_array_in_tiles_in_one_line_each(app):
    order = Tiled((8, 8, 8))
    app.offer("u10", ARRAY)
    tiled = app.demand("u10", order=order)
    assert isinstance(tiled, TiledArray)
    assert np.array_equal(tiled, ARRAY)
    app.offer("v10", tiled)
    assert app.pool["v10"].distribution.order == order
    assert np.array_equal(app.demand("v10", order="F"), ARRAY)
    assert np.array_equal(app.demand("v10", order=Tiled((3, 5, 7))), ARRAY)


def test_plain_parts_are_put_into_the_tiles_that_were_declared(app):
    cdo = app.declare("t2m", distribution=SOURCE, rank=None)
    cdo.offer([np.asarray(part) for part in SOURCE.split(ARRAY)])
    part = app.declare("t2m", distribution=TARGET, rank=1).demand(timeout=300)
    assert np.array_equal(part, ARRAY[np.ix_(*TARGET.indices(1))])


def test_parts_of_another_shape_are_refused(app):
    cdo = app.declare("t2m", distribution=SOURCE, dtype=ARRAY.dtype, rank=0)
    with pytest.raises(InconsistentError, match=r"'t2m': the part of rank 0 has shape"):
        cdo.offer(TARGET.split(ARRAY)[0])


def test_tiles_of_other_axes_are_refused_and_the_pool_stays_as_it_was(app):
    app.offer("u10", ARRAY)
    with pytest.raises(ValueError, match=r"Tiled\(\(2, 2\)\), expected tiles of 3 axes"):
        app.demand("u10", order=Tiled((2, 2)))
    assert np.array_equal(app.demand("u10"), ARRAY)
