"""`maestro ls`, `maestro show` and `maestro report`: what is in a pool, and who did what there."""

from __future__ import annotations

import json
import sys

import click

from maestro.commands.options import Contact, form, in_pool

__all__ = ["ls", "report", "show"]


@click.command()
@in_pool("ls")
@click.argument("selector", required=False)
@form("table", "csv", "json")
def ls(contact: Contact, selector: str | None, form: str) -> None:
    """List what is in the pool, all of it or what SELECTOR matches."""
    from maestro import rows
    from maestro.programs import listing

    with contact.connect() as app:
        found = listing.select(app.pool, selector)
    table = form == "table" or (form == "auto" and sys.stdout.isatty())
    columns = listing.COLUMNS if table else listing.DETAILS
    rows.show(map(listing.row, found), columns, form, sys.stdout)


@click.command()
@in_pool("show")
@click.argument("name")
@form("text", "text", "json")
def show(contact: Contact, name: str, form: str) -> None:
    """Show all there is to know of the CDO called NAME."""
    from maestro import rows
    from maestro.programs import listing

    with contact.connect() as app:
        entry = listing.find(app.pool, name)
    if form == "json":
        rows.show([listing.row(entry)], listing.DETAILS, form, sys.stdout)
    else:
        click.echo(listing.described(entry))


@click.command()
@in_pool("report")
@form("text", "text", "json")
def report(contact: Contact, form: str) -> None:
    """Tell who did what in the pool, and how fast."""
    from maestro.programs.overview import overview

    with contact.connect() as app:
        known = overview(app)
    if form == "json":
        click.echo(json.dumps(known.to_dict()))
    else:
        known.print(sys.stdout)
