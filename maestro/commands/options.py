"""What many commands can be told."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from maestro import logs

if TYPE_CHECKING:
    from maestro import App

__all__ = ["Contact", "Seconds", "form", "in_pool", "log_level", "quieten_dask", "set_up_logging"]

C = TypeVar("C", bound=Callable[..., Any])


class Seconds(click.ParamType):
    """A time such as 90 s, 5min or 2h; a plain number is in seconds."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """In seconds."""
        from dask.utils import parse_timedelta

        try:
            seconds = float(parse_timedelta(value))
        except (KeyError, ValueError, TypeError):
            seconds = -1.0
        if not seconds >= 0:
            self.fail(f"got {value!r}, expected a time such as 90s or 2h", param, ctx)
        return seconds


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

        quieten_dask("CRITICAL", "distributed", "distributed.client")  # errors of ours say it
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
        @click.option(
            "--workflow",
            envvar="MSTRO_WORKFLOW_NAME",
            default="default",
            help="What this is part of, as listings of the pool say.",
        )
        @click.option(
            "--component",
            envvar="MSTRO_COMPONENT_NAME",
            default=component,
            show_default=True,
            help="What it is called there.",
        )
        @functools.wraps(command)
        def told(*args: Any, pool: str, workflow: str, component: str, **options: Any) -> Any:
            return command(Contact(pool, workflow, component), *args, **options)

        return told  # type: ignore[return-value]

    return decorate


def form(terminal: str, pipe: str, *others: str) -> Callable[[C], C]:
    """Let a command be told in which form to say things, on a terminal and elsewhere by default."""
    forms = dict.fromkeys(["auto", terminal, pipe, *others])
    elsewhere = "" if terminal == pipe else f" on a terminal, {pipe} elsewhere"
    usual = f"By default {terminal}{elsewhere}."
    return click.option("--format", "form", type=click.Choice([*forms]), default="auto", help=usual)


def log_level() -> str | None:
    """How much is logged: see `maestro.logs`."""
    try:
        return logs.log_level()
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def set_up_logging() -> None:
    """Let maestro say as much as it is asked to, on standard error."""
    log_level()  # what is wrong with it is an error of usage
    logs.follow_environment("WARNING")


def quieten_dask(level: str, *names: str) -> None:
    """Let loggers of Dask, too, log what is asked for, by default what is as grave as this.

    But where Dask's own configuration says it.
    """
    import dask
    import distributed  # noqa: F401  (sets levels when it is imported)

    if not dask.config.get("logging", None):
        for name in names:
            logging.getLogger(name).setLevel(log_level() or level)
