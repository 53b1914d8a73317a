"""`maestro keep`: what is chosen stays in the pool."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import click

from maestro.commands.options import Contact, Seconds, in_pool

__all__ = ["keep"]


@click.command()
@in_pool("keep")
@click.argument("selector")
@click.option("--for", "seconds", type=Seconds(), help="Time after which to end, as 90 s or 2 h.")
@click.option("--until", metavar="NAME", help="End once a CDO of this name is offered.")
def keep(contact: Contact, selector: str, seconds: float | None, until: str | None) -> None:
    """Keep in the pool what SELECTOR matches, now or later.

    Until ctrl-C or SIGTERM, or as long as told. Names are printed as they are kept; it fails if
    there was none.
    """
    from maestro.programs.keeping import KeepAlive, offered
    from maestro.programs.listing import NothingError
    from maestro.programs.running import first_of, run

    async def main() -> None:
        async with (
            contact.connect(asynchronous=True) as app,
            KeepAlive(app, selector, tell=click.echo) as keeping,
        ):
            click.echo(
                f"Keeps {len(keeping.kept)} CDOs, and what is offered from now on.", err=True
            )
            ends = [keeping.wait(), *([] if until is None else [offered(app, until)])]
            with suppress(asyncio.CancelledError):  # told to end
                await first_of(*ends, seconds=seconds)
            if not keeping.kept:
                raise NothingError(f"selector: {selector} matched nothing")

    run(main())
