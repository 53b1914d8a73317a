"""`maestro ls`: what is in a pool."""

from __future__ import annotations

import sys

import click

from maestro.commands.options import Contact, form, in_pool

__all__ = ["ls"]


@click.command()
@in_pool("ls")
@click.argument("selector", required=False)
@form("table", "csv", "json")
def ls(contact: Contact, selector: str | None, form: str) -> None:
    """List what is in the pool, all of it or what SELECTOR matches."""
    from maestro.programs import listing, rows

    with contact.connect() as app:
        found = listing.select(app.pool, selector)
    table = form == "table" or (form == "auto" and sys.stdout.isatty())
    columns = listing.COLUMNS if table else listing.DETAILS
    rows.show(map(listing.row, found), columns, form, sys.stdout)
