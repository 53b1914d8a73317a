"""`maestro archive`: what leaves the pool is saved before."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import click

from maestro.commands.options import Contact, Seconds, in_pool

__all__ = ["archive"]


@click.command()
@in_pool("archiver")
@click.argument("selector")
@click.argument("store")
@click.option("--resume", is_flag=True, help="Go on with an archive that is there.")
@click.option(
    "--zstd", "level", type=click.IntRange(-7, 22), help="Compress, at this level of zstd's."
)
@click.option("--count", type=click.IntRange(1), help="End once so many CDOs are saved.")
@click.option("--for", "seconds", type=Seconds(), help="Time after which to end, as 90 s or 2 h.")
def archive(
    contact: Contact,
    selector: str,
    store: str,
    resume: bool,
    level: int | None,
    count: int | None,
    seconds: float | None,
) -> None:
    """Save to STORE what SELECTOR matches, before it leaves the pool.

    What is there, and what is still to come. STORE is a Zarr store: a path, or an URL such as
    s3://bucket/prefix. An empty SELECTOR matches all. Until ctrl-C or SIGTERM, or as long as told:
    then what is held is saved to its end. Names in the store are printed as they are saved; it
    fails if some could not be, or if there was none.
    """
    from maestro.programs.archiver import Archiver
    from maestro.programs.listing import NothingError
    from maestro.programs.progress import shown
    from maestro.programs.running import first_of, run

    compressors = []
    if level is not None:
        configuration = {"level": level, "checksum": True}
        compressors.append({"name": "zstd", "configuration": configuration})

    async def main() -> None:
        async with (
            contact.connect(asynchronous=True) as app,
            Archiver(
                app,
                store,
                selector or None,
                resume=resume,
                compressors=compressors,
                tell=click.echo,
            ) as archiver,
        ):
            click.echo(f"Saves to {store} until told to end.", err=True)

            def look() -> tuple[int, int, str]:
                said = f"{len(archiver.saved)} saved, {archiver.held} held"
                return archiver.bytes_saved, archiver.bytes_held, said

            bars = asyncio.create_task(shown("Archive", look))
            try:
                with suppress(asyncio.CancelledError):  # told to end
                    await first_of(archiver.run(count), seconds=seconds)
                await archiver.close()
                if not (archiver.saved or resume):
                    raise NothingError(f"selector: {selector or 'all'} matched nothing")
            finally:
                bars.cancel()
                await asyncio.wait({bars})

    run(main())
