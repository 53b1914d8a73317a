"""Runs of bytes through a socket: all of them, in order, and nothing beside them."""

from __future__ import annotations

import contextlib
import socket

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maestro.transport.vectors import Runs


def through_a_socket(sent, received):
    """As much at a time as its buffers take; both ends begin and end anywhere in a run."""
    near, far = socket.socketpair()
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 13)
        for end in (near, far):
            end.setblocking(False)
        while sent.left or received.left:
            for runs, move, number in (
                (sent, sent.write, near.fileno()),
                (received, received.read, far.fileno()),
            ):
                if runs.left:
                    with contextlib.suppress(BlockingIOError):
                        assert move(number) > 0
        with pytest.raises(BlockingIOError):
            far.recv(1)


@st.composite
def regions(draw, shape):
    """A region of that shape in the middle of a larger array, and that array."""
    order = draw(st.permutations(range(len(shape))))
    margins = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in shape]
    size = [low + n + high for n, (low, high) in zip(shape, margins, strict=True)]
    array = np.full([size[axis] for axis in order], 0xA5A5, "u2").transpose(np.argsort(order))
    inside = tuple(slice(low, low + n) for n, (low, _) in zip(shape, margins, strict=True))
    return array, inside


@settings(max_examples=60)
@given(st.data(), st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple))
def test_any_region_of_an_array_to_any_other_in_any_order(data, shape):
    (before, given_), (after, taken) = data.draw(regions(shape)), data.draw(regions(shape))
    order = data.draw(st.permutations(range(len(shape))))
    before[given_] = np.arange(before[given_].size, dtype="u2").reshape(shape)
    through_a_socket(Runs.of(before[given_], order), Runs.of(after[taken], order))
    assert np.array_equal(after[taken], before[given_])
    after[taken] = 0xA5A5
    assert (after == 0xA5A5).all()


@settings(max_examples=10)
@given(st.integers(1000, 3000), st.integers(1, 40))
@example(1024, 16)
@example(1025, 16)
def test_more_runs_than_the_system_takes_at_once(number, length):
    before = np.random.default_rng(0).integers(0, 255, (number, 2 * length), np.uint8)
    after = np.zeros((number, length), np.uint8)
    through_a_socket(Runs.of(before[:, length:]), Runs.of(after))
    assert np.array_equal(after, before[:, length:])


@pytest.mark.parametrize(
    ("region", "order", "run"),
    [
        (np.zeros((4, 6)), "C", 192),
        (np.zeros((4, 6)), "F", 8),
        (np.zeros((4, 6))[:, 1:], "C", 40),
        (np.zeros((4, 6, 3))[1:, :, :2], "C", 16),
        (np.zeros((4, 6, 3))[1:], "C", 432),
        (np.zeros((4, 6)).T, "F", 192),
        (np.zeros((6, 1, 4))[:, :, :2], "C", 16),
        (np.zeros(())[...], "C", 8),
    ],
)
def test_runs_are_as_long_as_they_can_be(region, order, run):
    assert Runs.of(region, order, run + 1) is None
    assert Runs.of(region, order, run).left == region.nbytes


def test_a_connection_that_is_gone():
    near, far = socket.socketpair()
    far.close()
    with near:
        with pytest.raises(BrokenPipeError):
            Runs.of(np.zeros(5)).write(near.fileno())
        assert Runs.of(np.zeros(5)).read(near.fileno()) == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        Runs.of(np.zeros(5)).read(-1)
