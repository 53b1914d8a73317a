"""For deployments by command line: ``dask scheduler --preload maestro.preload`` and workers alike.

Neither is needed where an app connects with the right to install plugins; both may be there too.
"""

from __future__ import annotations

import gc

from distributed import Scheduler, Worker

from maestro.manager import ManagerPlugin
from maestro.nodes.node import NodePlugin

__all__ = ["dask_setup", "keep_modules_from_collection"]


def keep_modules_from_collection() -> None:
    """Let the garbage collector leave alone what is there now; for processes that are a manager.

    Python looks through all objects from time to time, and nobody is answered meanwhile: those of
    Dask's and our modules alone take 60 ms.
    """
    gc.collect()
    gc.freeze()


async def dask_setup(server: Scheduler | Worker) -> None:
    """Make the scheduler a pool manager, the worker a pool node."""
    if isinstance(server, Scheduler):
        await server.register_scheduler_plugin(
            ManagerPlugin(), name=ManagerPlugin.name, idempotent=True
        )
        keep_modules_from_collection()
    else:
        await server.plugin_add(plugin=NodePlugin(), name=NodePlugin.name, catch_errors=False)
