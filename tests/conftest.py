"""What all tests share: how hypothesis runs, and what none of them may leave on the machine."""

import pytest
from hypothesis import settings

from maestro.arena import places

# No deadline: the first example may compile a kernel, and a timed test fails on a busy machine.
settings.register_profile("maestro", deadline=None, print_blob=True)
settings.load_profile("maestro")


@pytest.fixture(scope="session", autouse=True)
def nothing_left_in_shared_memory():
    """When all clusters are closed, no arena is left of which no node lives."""
    places.reap(places.default_parent())  # of runs that were killed
    yield
    assert not places.reap(places.default_parent()), "something was left: it is cleared away now"
