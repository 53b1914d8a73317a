"""Waiting for things without sleeping a fixed time."""

from __future__ import annotations

import threading
import time
from contextlib import suppress


def in_thread(function, *args):
    """Start a call; the returned function waits for its result or raises its error."""
    results = []

    def work():
        try:
            results.append((function(*args), None))
        except BaseException as error:
            results.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()

    def join(timeout=300):
        thread.join(timeout)
        assert not thread.is_alive(), "it hangs"
        value, error = results[0]
        if error is not None:
            raise error
        return value

    return join


def until(condition, timeout=300):
    """Wait until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.005)


def none(wrong, timeout=300):
    """Wait until nothing is wrong any more, and say else what it was last."""
    found = []

    def all_is_well():
        found[:] = wrong()
        return not found

    with suppress(AssertionError):
        until(all_is_well, timeout)
    assert not found


def demanding(dask_scheduler):
    """How many demands wait at the manager, which this runs beside, for a CDO each."""
    cdos = dask_scheduler.extensions["maestro"].registry.cdos.values()
    return sum(len(cdo.waiting) for cdo in cdos)
