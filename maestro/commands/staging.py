"""`maestro stage`: what is stored is brought into the pool."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import click

from maestro.commands.options import Contact, Seconds, in_pool

__all__ = ["stage"]


@click.command()
@in_pool("librarian")
@click.argument("store")
@click.argument("names", nargs=-1)
@click.option("--select", "selector", metavar="SELECTOR", help="What of it, by its attributes.")
@click.option("--order", type=click.Choice(["C", "F"]), help="In memory.  [default: as it was]")
@click.option(
    "--in-place", is_flag=True, help="Read nothing: it stays there, for whoever demands it to read."
)
@click.option("--for", "seconds", type=Seconds(), help="Time after which to end, as 90 s or 2 h.")
def stage(
    contact: Contact,
    store: str,
    names: tuple[str, ...],
    selector: str | None,
    order: str | None,
    in_place: bool,
    seconds: float | None,
) -> None:
    """Offer what STORE holds, or those NAMES of it, as it was.

    STORE is a path, or an URL such as s3://bucket/prefix, of a Zarr store; or a file that xarray
    reads, NetCDF or GRIB, where that is installed. Names are printed as they are offered. It stays
    in the pool until ctrl-C or SIGTERM, or as long as told, and until those who require it are
    served.
    """
    from maestro.programs.librarian import Librarian
    from maestro.programs.progress import shown
    from maestro.programs.running import first_of, run

    async def main() -> None:
        async with (
            contact.connect(asynchronous=True) as app,
            Librarian(app, store, tell=click.echo) as librarian,
        ):
            bars = asyncio.create_task(shown("Stage", lambda: (*librarian.progress, "Stage")))
            try:
                await librarian.stage_all(selector, order, not in_place, names or None)
            finally:
                bars.cancel()
                await asyncio.wait({bars})
            click.echo(
                f"{len(librarian.staged)} CDOs stay in the pool until told to end.", err=True
            )
            with suppress(asyncio.CancelledError):  # told to end
                await first_of(asyncio.Event().wait(), seconds=seconds)

    run(main())
