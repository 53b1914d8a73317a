"""For deployments by command line: ``dask scheduler --preload maestro.preload`` and workers alike.

Neither is needed where an app connects with the right to install plugins; both may be there too.
"""

from __future__ import annotations

from distributed import Scheduler, Worker

from maestro.manager import ManagerPlugin
from maestro.nodes.node import NodePlugin

__all__ = ["dask_setup"]


async def dask_setup(server: Scheduler | Worker) -> None:
    """Make the scheduler a pool manager, the worker a pool node."""
    if isinstance(server, Scheduler):
        await server.register_scheduler_plugin(
            ManagerPlugin(), name=ManagerPlugin.name, idempotent=True
        )
        server.extensions["maestro"].own_process()
    else:
        await server.plugin_add(plugin=NodePlugin(), name=NodePlugin.name, catch_errors=False)
