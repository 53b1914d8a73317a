"""Processes that start fast: forked from one that has loaded what they need."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver

__all__ = ["FORKSERVER", "NODES", "load"]

FORKSERVER = multiprocessing.get_context("forkserver")

#: For `dask.config`: Dask's nannies start their workers so, in half a second.
NODES = {"distributed.worker.multiprocessing-method": "forkserver"}


def load():
    """Have it loaded; Dask's own wish comes too late then."""
    FORKSERVER.set_forkserver_preload(
        ["maestro.apps.app", "maestro.nodes.node", "maestro.transport.fetching"]
    )
    forkserver.ensure_running()
