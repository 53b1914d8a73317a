"""Starting pools: all of one on this machine, or its manager and its nodes apart."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from distributed import Nanny, Scheduler
from distributed.comm.core import connect
from distributed.deploy.utils import nprocesses_nthreads

from maestro import contact
from maestro.arena import default_parent, reap
from maestro.config import get_path, get_seconds
from maestro.errors import PoolLostError, PoolNotFoundError
from maestro.manager import ManagerPlugin

__all__ = ["manager", "nodes", "pool", "serve_nodes"]


@asynccontextmanager
async def pool(
    contact_file: Path | None = None,
    *,
    n_nodes: int | None = None,
    nthreads: int | None = None,
    memory_limit: str = "auto",
    host: str | None = None,
    interface: str | None = None,
    **listening: Any,
) -> AsyncIterator[Scheduler]:
    """A manager and nodes on this machine, for as long as this lasts.

    Parameters
    ----------
    contact_file : Path, optional
        Where to say where the pool is, once it is there.
    n_nodes, nthreads : int, optional
        Processes, and threads of each for Dask's tasks; by the number of cores by default.
    memory_limit : str
        Memory of each node, as Dask reads it; parts may take ``maestro.node.memory`` of it.
    host, interface : str, optional
        Where all of them listen: at 127.0.0.1 by default.
    **listening
        Of Dask's ``port``, ``protocol`` and ``dashboard_address``, for the manager.

    Yields
    ------
    Scheduler
        Dask's, with its pool manager.

    Raises
    ------
    PoolNotFoundError
        If it can't be started.
    """
    processes, threads = nprocesses_nthreads()
    if n_nodes is not None:
        processes, threads = n_nodes, max(1, processes * threads // n_nodes)
    if host is None and interface is None:
        host = "127.0.0.1"
    where = {"host": host, "interface": interface, "protocol": listening.get("protocol")}
    options = {"memory_limit": memory_limit, **where}
    async with (
        manager(host=host, interface=interface, **listening) as scheduler,
        nodes(scheduler.address, processes, nthreads=nthreads or threads, **options),
    ):
        with _contact(scheduler, contact_file):
            yield scheduler


@asynccontextmanager
async def manager(contact_file: Path | None = None, **listening: Any) -> AsyncIterator[Scheduler]:
    """A manager alone, which `nodes` join.

    Parameters
    ----------
    contact_file : Path, optional
        Where to say where it is.
    **listening
        Of Dask's ``host``, ``port``, ``interface``, ``protocol`` and ``dashboard_address``.

    Raises
    ------
    PoolNotFoundError
        If it can't be started.
    """
    async with AsyncExitStack() as stack:
        with _explained("manager"):
            scheduler = await stack.enter_async_context(Scheduler(**listening))
        await scheduler.register_scheduler_plugin(
            ManagerPlugin(), name=ManagerPlugin.name, idempotent=True
        )
        with _contact(scheduler, contact_file):
            yield scheduler


@asynccontextmanager
async def nodes(address: str, n_nodes: int = 1, **options: Any) -> AsyncIterator[list[Nanny]]:
    """Nodes of this machine for a pool, for as long as this lasts.

    Parameters
    ----------
    address : str
        The manager's.
    n_nodes : int
        Processes.
    **options
        Of Dask's ``nthreads``, ``memory_limit``, ``host``, ``interface`` and ``protocol``.

    Yields
    ------
    list of Nanny
        Dask's, each looking after a process; one that has ended has lost its manager.

    Raises
    ------
    PoolNotFoundError
        If there is no manager, or they can't be started.
    """
    _track_resources()
    async with AsyncExitStack() as stack:
        stack.callback(_reap)
        with _explained("node", f" for the manager at {address}"):
            comm = await connect(address, timeout=get_seconds("timeouts.connect"))
            await comm.close()
            started = [
                Nanny(address, preload=["maestro.preload"], dashboard=False, **options)
                for _ in range(n_nodes)
            ]
            stack.push_async_callback(_close, started)
            await _start(started)
        yield started


async def serve_nodes(address: str, n_nodes: int = 1, **options: Any) -> None:
    """Run nodes until the manager is gone; the parameters are those of `nodes`.

    Raises
    ------
    PoolLostError
        When it is.
    """
    async with nodes(address, n_nodes, **options) as started:
        await asyncio.gather(*(nanny.finished() for nanny in started))
    raise PoolLostError(f"node: the manager at {address} is gone")


async def _start(nannies: Sequence[Awaitable[Any]]) -> None:
    """Have them started; who is told to end meanwhile ends after that.

    A start that is cancelled leaves Dask's nanny with a process that it can't close any more.
    """
    starting = asyncio.gather(*nannies)
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.gather(starting, return_exceptions=True)
        raise


async def _close(started: list[Nanny]) -> None:
    await asyncio.gather(*(nanny.close() for nanny in started))


def _track_resources() -> None:
    """Start what Python starts with the first process: it unblocks ctrl-C, for that one to hear."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap() -> None:
    """Clear away what a node that was killed has left."""
    reap(get_path("arena.directory") or default_parent())


def _contact(scheduler: Scheduler, file: Path | None) -> Any:
    return nullcontext() if file is None else contact.written(scheduler.address, file)


@contextmanager
def _explained(what: str, more: str = "") -> Iterator[None]:
    """Say in one line what Dask can't start."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        raise PoolNotFoundError(f"{what}: can't be started{more}: {reason}") from error
