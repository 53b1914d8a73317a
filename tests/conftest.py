"""What all tests share: how hypothesis runs, and what none of them may leave on the machine."""

import pytest
from hypothesis import settings

from maestro.arena import places

# No deadline: the first example may compile a kernel, and a timed test fails on a busy machine.
settings.register_profile("maestro", deadline=None, print_blob=True)
settings.load_profile("maestro")


def pytest_sessionstart(session):
    """Clear away what runs that were killed have left; only once, where several processes test."""
    if not hasattr(session.config, "workerinput"):
        places.reap(places.default_parent())


def pytest_sessionfinish(session, exitstatus):
    """When all clusters are closed, no arena is left of which no node lives."""
    if hasattr(session.config, "workerinput"):
        return
    if left := places.reap(places.default_parent()):
        print(f"\nLeft in shared memory, and cleared away now: {left}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
