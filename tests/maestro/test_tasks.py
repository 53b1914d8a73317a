"""Which worker gets which rank."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Distribution
from maestro.transport.shares import Source
from maestro.transport.tasks import places

SHAPE = (6, 6)
LAYOUTS = [Distribution(SHAPE, grid) for grid in [(3, 1), (1, 3), (2, 1), (1, 2), (1, 1), (2, 2)]]
WORKERS = ["a", "b", "c", "d"]


def held(source, nodes, target):
    """Bytes of each target rank's part that each node holds, element by element."""
    owner, numbers = np.full(SHAPE, " "), np.arange(36).reshape(SHAPE)
    for k, part in enumerate(source.split(numbers)):
        owner.flat[part.ravel()] = nodes[k]
    return [Counter(np.repeat(part, 8).tolist()) for part in target.split(owner)]


@settings(max_examples=40)
@given(
    st.sampled_from(LAYOUTS),
    st.sampled_from(LAYOUTS),
    st.permutations(WORKERS),
    st.integers(1, 4),
)
def test_the_most_bytes_stay_and_what_relabelling_saves_is_said(source, target, nodes, number):
    nodes, workers = nodes[: source.size], WORKERS[:number]
    what = Source("x", 1, source, np.dtype("f8"))
    chosen = places(what, nodes, target, workers)

    bytes_of = held(source, nodes, target)

    def kept(by_rank):
        return sum(bytes_of[rank][w] for rank, w in enumerate(by_rank) if w in workers)

    seats = -(-target.size // number)
    assert chosen.kept == kept(chosen.workers)
    assert max(map(chosen.workers.count, workers)) <= seats
    best = max(kept(order[: target.size]) for order in permutations(workers * seats, target.size))
    assert chosen.kept == best
    natural = [nodes[rank % len(nodes)] for rank in range(target.size)]
    assert chosen.saved == chosen.kept - kept(natural)
