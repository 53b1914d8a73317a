"""The way to a scheduler: from nothing, an address, a client or a cluster, blocking or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import Any

from distributed import Client, LocalCluster
from distributed.comm.addressing import get_address_host_port, parse_address
from distributed.comm.registry import get_backend
from distributed.security import Security

from maestro.config import get_number
from maestro.errors import PoolNotFoundError
from maestro.manager import ManagerPlugin

__all__ = ["reach", "reach_async"]


def reach(pool: Any, security: Security | None, timeout: float) -> tuple[Client, ExitStack]:
    """Connect, blocking, and make the scheduler a pool manager if it is none.

    Returns
    -------
    Client
        Connected.
    ExitStack
        Closes what was started for it.

    Raises
    ------
    PoolNotFoundError
        If that cannot be.
    TypeError
        If ``pool`` is nothing to connect to.
    """
    with _explained(pool), ExitStack() as stack:
        if not isinstance(pool, Client):
            if pool is None:
                cluster = LocalCluster(**_embedded(security), asynchronous=False)
                pool = stack.enter_context(cluster)
            client = Client(pool, **_client(security, timeout), asynchronous=False)
            pool = stack.enter_context(client)
        pool.register_plugin(ManagerPlugin())
        return pool, stack.pop_all()


async def reach_async(
    pool: Any, security: Security | None, timeout: float
) -> tuple[Client, AsyncExitStack]:
    """As `reach`, on the running event loop."""
    with _explained(pool):
        async with AsyncExitStack() as stack:
            if not isinstance(pool, Client):
                if pool is None:
                    cluster = LocalCluster(**_embedded(security), asynchronous=True)
                    pool = await stack.enter_async_context(cluster)
                client = Client(pool, **_client(security, timeout), asynchronous=True)
                pool = await stack.enter_async_context(client)
            installed = pool.register_plugin(ManagerPlugin())
            if pool.asynchronous:
                await installed
            return pool, stack.pop_all()


def _embedded(security: Security | None) -> dict[str, Any]:
    """A pool in this process, that other processes of the machine can join."""
    return {
        "n_workers": int(get_number("embedded.nodes")),
        "processes": False,
        "protocol": "tcp://" if security is None else "tls://",
        "security": security,
        "scheduler_port": 0,
        # A free port: without an address the status page would take Dask's usual one, and warn
        # where a cluster of the user's has it.
        "dashboard_address": "127.0.0.1:0",
    }


def _client(security: Security | None, timeout: float) -> dict[str, Any]:
    return {"security": security, "timeout": timeout, "set_as_default": False}


def _check_address(address: str) -> None:
    scheme, _ = parse_address(address)
    get_backend(scheme)
    if scheme in ("tcp", "tls", "ucx"):
        get_address_host_port(address)


@contextmanager
def _explained(pool: Any) -> Iterator[None]:
    """Check what was given, and let errors say what it means for the pool."""
    if not (pool is None or isinstance(pool, str | Client) or hasattr(pool, "scheduler_address")):
        raise TypeError(
            f"pool: got {pool!r}, expected nothing, a scheduler's address, a distributed.Client or"
            " a cluster object"
        )
    where = getattr(pool, "scheduler_address", pool)
    try:
        if isinstance(pool, str):
            _check_address(pool)  # before a client is made, which would take 20 s to go away
        yield
    except ImportError as error:
        raise PoolNotFoundError(
            f"pool: the scheduler at {where} cannot import maestro ({error}): install maestro-pool"
            " there"
        ) from error
    except (OSError, ValueError, TypeError) as error:  # TypeError: TLS without its certificates
        raise PoolNotFoundError(f"pool: no Dask scheduler at {where}: {error}") from error
