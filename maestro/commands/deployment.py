"""`maestro pool`, `maestro manager` and `maestro node`: what a pool consists of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from maestro.commands.options import Contact, in_pool, log_level, quieten_dask

__all__ = ["manager", "node", "pool"]

C = TypeVar("C", bound=Callable[..., Any])

_host = click.option("--host", help="Name or address to listen at, such as 0.0.0.0.")
_interface = click.option("--interface", help="Network interface to listen at, such as ib0.")
_protocol = click.option("--protocol", help="tcp, tls or ucx, as far as Dask is set up for it.")
_threads = click.option(
    "--threads", "nthreads", type=click.IntRange(1), help="Threads of each for tasks."
)
_memory = click.option(
    "--memory-limit", default="auto", show_default=True, help="Memory of each node, as 8GiB."
)


def _listening(command: C) -> C:
    """How a manager listens, and where it says so."""
    for option in (
        click.option(
            "--contact",
            type=click.Path(dir_okay=False, path_type=Path),
            help="File to say in where the pool is.  [default: one that other commands look for]",
        ),
        click.option(
            "--dashboard-address",
            default="127.0.0.1:0",
            show_default=True,
            help="Where Dask's status page is; port 0 is a free one.",
        ),
        _protocol,
        _interface,
        click.option("--port", type=int, default=0, help="The manager's.  [default: a free one]"),
        _host,
    ):
        command = option(command)
    return command


@click.command()
@click.option("--nodes", "n_nodes", type=click.IntRange(1), help="Processes.  [default: by cores]")
@_threads
@_memory
@_listening
def pool(**options: Any) -> None:
    """Run a pool on this machine: a manager and its nodes.

    Prints its address, writes its contact file, and runs until ctrl-C or SIGTERM.
    """
    from maestro.programs import deployment

    _serve(deployment.pool, **options)


@click.command()
@_listening
def manager(**options: Any) -> None:
    """Run the manager of a pool of many machines.

    Prints its address, writes its contact file, and runs until ctrl-C or SIGTERM.
    """
    from maestro.programs import deployment

    _serve(deployment.manager, **options)


@click.command()
@in_pool("node")
@click.option(
    "--nodes", "n_nodes", type=click.IntRange(1), default=1, show_default=True, help="Processes."
)
@_threads
@_memory
@_host
@_interface
@_protocol
def node(contact: Contact, **options: Any) -> None:
    """Run nodes of a pool on this machine.

    Until ctrl-C or SIGTERM, or until the manager is gone.
    """
    from maestro.programs.deployment import serve_nodes
    from maestro.programs.running import run

    _quieten_dask()
    run(serve_nodes(contact.address, **options))


def _quieten_dask() -> None:
    """Here and, by the environment, in the nodes."""
    quieten_dask("WARNING", "distributed")
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", log_level() or "WARNING")


def _serve(kind: Any, contact: Path | None, **options: Any) -> None:
    from maestro.contact import default_file
    from maestro.programs.running import run

    _quieten_dask()
    file = contact or default_file()

    async def serve() -> None:
        async with kind(file, **options) as scheduler:
            scheduler.extensions["maestro"].own_process()
            _announce(scheduler.address, file)
            await scheduler.finished()

    run(serve())


def _announce(address: str, file: Path) -> None:
    click.echo(address)
    click.echo(f"Contact file {file}; it ends with ctrl-C or SIGTERM.", err=True)
