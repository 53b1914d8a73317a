"""The command `maestro`, also `dask maestro`: what is run around a pool.

A command is thin: it says what can be asked, and leaves the work to `maestro.programs`. It imports
that only once it runs, so that `maestro --help`, a wrong option or a shell's completion need not
wait for Dask: a second and more.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from maestro.commands.archiving import archive
from maestro.commands.deployment import manager, node, pool
from maestro.commands.inspection import ls, report, show
from maestro.commands.keeping import keep
from maestro.commands.listening import listen
from maestro.commands.options import set_up_logging
from maestro.commands.planning import plan
from maestro.commands.staging import stage
from maestro.errors import MaestroError

__all__ = ["maestro"]


class _Group(click.Group):
    """Says what maestro refuses in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MaestroError as error:
            raise click.ClickException(str(error)) from None
        except BrokenPipeError:  # who reads has enough
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, sys.stdout.fileno())  # for what Python flushes at its end
            ctx.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="maestro-pool")
def maestro() -> None:
    """Start pools, see what is in them, and run what serves them.

    Commands find their pool by --pool, MAESTRO_POOL_MANAGER or MSTRO_POOL_MANAGER_INFO, an address
    or a contact file; without any of these, it is the one that `maestro pool` runs on this machine.
    MSTRO_LOG_LEVEL says how much is logged.
    """
    set_up_logging()


for _command in (archive, stage, pool, manager, node, ls, show, report, listen, keep, plan):
    maestro.add_command(_command)
