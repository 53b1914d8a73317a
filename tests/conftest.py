"""What all tests share: how hypothesis runs, and what none of them may leave on the machine."""

import pytest
from hypothesis import settings

from maestro.arena import places

# No deadline: the first example may compile a kernel, and a timed test fails on a busy machine.
settings.register_profile("maestro", deadline=None, print_blob=True)
settings.load_profile("maestro")


@pytest.fixture(scope="session", autouse=True)
def shared_memory():
    """Where arenas are by default, without those of runs that were killed."""
    parent = places.default_parent()
    places.reap(parent)
    return parent


@pytest.fixture(autouse=True)
def nothing_left_in_shared_memory(shared_memory):
    """After any test no arena is left of which no node lives."""
    yield
    left = places.reap(shared_memory)
    assert not left, "something was left: it is cleared away now"
