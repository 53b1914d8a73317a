"""What a requirement makes ready."""

from __future__ import annotations

import numpy as np

import maestro
from layouts import Distribution
from tests.maestro.waiting import until

SHAPE = (256, 512)  # 1 MiB


def test_memory_is_ready_when_what_was_required_comes():
    with maestro.connect() as app:
        memory = app._link.ways.memory
        columns = Distribution(SHAPE, (1, 2))
        want = app.declare("later", columns, "f8")
        want.require()
        until(lambda: memory.kept == 1 << 20)
        app.offer("later", np.ones(SHAPE))
        parts = want.demand(timeout=300)
        assert memory.kept == 0
        del parts
        whole = app.declare("later")
        whole.require()  # the size is that of the offer
        until(lambda: memory.kept == 2 << 20)
        whole.demand(timeout=300)
        app.declare("unknown").require()
        rows = Distribution(SHAPE, (2, 1))
        app.declare("half", rows, rank=0).offer(np.ones((128, 512)))
        app.declare("half", rows, rank=1).require()  # whose own rank is still to come
