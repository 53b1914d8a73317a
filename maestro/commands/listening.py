"""`maestro listen`: what happens in a pool."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from maestro.commands.options import Contact, Seconds, form, in_pool
from maestro.events import KINDS

if TYPE_CHECKING:
    from maestro.programs.listening import Listener
    from maestro.rows import Row

__all__ = ["listen"]


@click.command()
@in_pool("listen")
@click.argument("selector", required=False)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(KINDS, case_sensitive=False),
    metavar="KIND",
    multiple=True,
    help="Some kinds alone, such as offer; to be repeated.",
)
@click.option("--since", type=int, help="Serial of the first event, if it has happened already.")
@click.option("--count", type=click.IntRange(1), help="Events after which to end.")
@click.option("--for", "seconds", type=Seconds(), help="Time after which to end, as 90 s or 2 h.")
@form("table", "csv", "json")
def listen(
    contact: Contact,
    selector: str | None,
    kinds: tuple[str, ...],
    since: int | None,
    count: int | None,
    seconds: float | None,
    form: str,
) -> None:
    """Follow what happens in the pool.

    All of it, or what concerns the CDOs that SELECTOR matches: until ctrl-C or SIGTERM, until
    nobody reads what is printed, or as long as told.
    """
    from maestro.programs.listening import Listener
    from maestro.programs.running import run

    async def main() -> None:
        async with contact.connect(asynchronous=True) as app:
            listener = Listener(app, selector, kinds or None, since)
            live = form == "table" or (form == "auto" and sys.stdout.isatty())
            follow = (
                _show(listener, count, seconds) if live else _write(listener, count, seconds, form)
            )
            await follow

    run(main())


async def _show(listener: Listener, count: int | None, seconds: float | None) -> None:
    from rich.console import Console

    from maestro.programs.listening import LiveTable
    from maestro.programs.running import first_of

    with LiveTable(Console()) as table:
        await first_of(listener.run(table.write, count), seconds=seconds)


async def _write(listener: Listener, count: int | None, seconds: float | None, form: str) -> None:
    from maestro.programs.listening import COLUMNS
    from maestro.programs.outlet import Outlet
    from maestro.programs.running import first_of
    from maestro.rows import as_csv, as_json

    outlet = Outlet(sys.stdout.fileno())

    async def sink(rows: list[Row]) -> None:
        text = as_json(rows, COLUMNS) if form == "json" else as_csv(rows, COLUMNS, heading=False)
        await outlet.write(text)

    if form != "json":
        await outlet.write(as_csv([], COLUMNS))
    await first_of(listener.run(sink, count), outlet.closed(), seconds=seconds)
