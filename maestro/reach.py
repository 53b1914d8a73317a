"""The way to a scheduler: from nothing, an address, a client or a cluster, blocking or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distributed import Client, LocalCluster
from distributed.security import Security

from maestro.config import get_number
from maestro.errors import PoolNotFoundError
from maestro.manager import ManagerPlugin

__all__ = ["Reached", "reach", "reach_async"]


@dataclass
class Reached:
    """A client connected to a scheduler that is a pool manager, and what was started for it."""

    client: Client
    started: list[Any]  # clients and clusters to close with the app, in this order

    def close(self) -> None:
        """Close what was started, blocking."""
        for thing in self.started:
            thing.close()

    async def close_async(self) -> None:
        """Close what was started."""
        for thing in self.started:
            await thing.close()


def reach(pool: Any, security: Security | None, timeout: float) -> Reached:
    """Connect, blocking, and make the scheduler a pool manager if it is none.

    Raises
    ------
    PoolNotFoundError
        If that cannot be.
    TypeError
        If ``pool`` is nothing to connect to.
    """
    reached = Reached(None, [])
    try:
        if isinstance(pool, Client):
            reached.client = pool
        else:
            if _checked(pool) is None:
                pool = LocalCluster(**_embedded(), asynchronous=False)
                reached.started.insert(0, pool)
            reached.client = Client(pool, **_client(security, timeout), asynchronous=False)
            reached.started.insert(0, reached.client)
        reached.client.register_plugin(ManagerPlugin())
    except BaseException as error:
        reached.close()
        _explain(error, pool)
        raise
    return reached


async def reach_async(pool: Any, security: Security | None, timeout: float) -> Reached:
    """As `reach`, on the running event loop."""
    reached = Reached(None, [])
    try:
        if isinstance(pool, Client):
            reached.client = pool
        else:
            if _checked(pool) is None:
                pool = await LocalCluster(**_embedded(), asynchronous=True)
                reached.started.insert(0, pool)
            reached.client = Client(pool, **_client(security, timeout), asynchronous=True)
            reached.started.insert(0, reached.client)
            await reached.client
        await reached.client.register_plugin(ManagerPlugin())
    except BaseException as error:
        await reached.close_async()
        _explain(error, pool)
        raise
    return reached


def _checked(pool: Any) -> Any:
    if pool is None or isinstance(pool, str) or hasattr(pool, "scheduler_address"):
        return pool
    raise TypeError(
        f"pool: got {pool!r}, expected nothing, a scheduler's address, a distributed.Client or a"
        " cluster object"
    )


def _embedded() -> dict[str, Any]:
    """A pool in this process, that other processes of the machine can join."""
    return {
        "n_workers": int(get_number("embedded.nodes")),
        "processes": False,
        "protocol": "tcp://",
        "scheduler_port": 0,
        "dashboard_address": None,
    }


def _client(security: Security | None, timeout: float) -> dict[str, Any]:
    return {"security": security, "timeout": timeout, "set_as_default": False}


def _explain(error: BaseException, pool: Any) -> None:
    """Raise a PoolNotFoundError where that says more than the error does."""
    where = getattr(pool, "scheduler_address", pool)
    match error:
        case ImportError():
            text = f"the scheduler at {where} cannot import maestro ({error}): install maestro-pool"
        case OSError() | ValueError():
            text = f"no Dask scheduler at {where}: {error}"
        case _:
            return
    raise PoolNotFoundError(f"pool: {text}") from error
