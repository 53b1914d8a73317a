"""What many commands can be told."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from maestro import App

__all__ = ["Contact", "form", "in_pool", "log_level", "set_up_logging"]

C = TypeVar("C", bound=Callable[..., Any])

#: The original's names of how much is logged, where they are not Python's.
LEVELS = {"ERR": "ERROR", "WARN": "WARNING", "NOISE": "DEBUG"}


@dataclass(frozen=True)
class Contact:
    """The pool that a command is for, and who it is there."""

    pool: str | None
    workflow: str
    component: str

    @property
    def address(self) -> str:
        """Where its manager is."""
        from maestro.contact import find

        return find(self.pool)

    def connect(self, **how: Any) -> App:
        """Connect to the pool; see `maestro.connect`."""
        import maestro

        return maestro.connect(
            self.address, workflow=self.workflow, component=self.component, **how
        )


def in_pool(component: str) -> Callable[[C], C]:
    """Let a command be told which pool it is for: it gets a `Contact` as its first argument.

    Parameters
    ----------
    component : str
        What it is there, if not told otherwise.
    """

    def decorate(command: C) -> C:
        @click.option(
            "--pool",
            metavar="ADDRESS|FILE",
            help="The pool's address, or its contact file; see `maestro --help`.",
        )
        @click.option("--workflow", envvar="MSTRO_WORKFLOW_NAME", default="default")
        @click.option("--component", envvar="MSTRO_COMPONENT_NAME", default=component)
        @functools.wraps(command)
        def told(*args: Any, pool: str, workflow: str, component: str, **options: Any) -> Any:
            return command(Contact(pool, workflow, component), *args, **options)

        return told  # type: ignore[return-value]

    return decorate


def form(*forms: str) -> Callable[[C], C]:
    """Let a command be told in which form to say things."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["auto", *forms]),
        default="auto",
        help=f"By default {forms[0]} on a terminal, {forms[1]} into a file or pipe.",
    )


def log_level() -> int:
    """How much is logged: as MSTRO_LOG_LEVEL says, ERR, WARN, INFO, DEBUG or NOISE."""
    told = os.environ.get("MSTRO_LOG_LEVEL", "WARN").upper()
    level = logging.getLevelNamesMapping().get(LEVELS.get(told, told))
    if level is None:
        raise click.UsageError(
            f"MSTRO_LOG_LEVEL: got {told!r}, expected ERR, WARN, INFO, DEBUG or NOISE"
        )
    return level


def set_up_logging() -> None:
    """Let maestro say as much as it is asked to, on standard error."""
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("maestro").setLevel(log_level())
