"""The pool: a Dask cluster on this machine whose workers hold what is offered.

Any other Dask cluster would do as well: connecting to it makes it a pool. This one lasts until its
input is closed, so that it never outlives the program that started it. By hand, until ctrl-D:

    python demos/pool.py --workers 2
"""

from __future__ import annotations

import logging
import sys

import click
from _programs import tell
from distributed import Client, LocalCluster

import kernels
import maestro


@click.command()
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
def main(workers: int) -> None:
    """Run a pool on this machine, and say at which address."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            protocol="tcp://",
            dashboard_address="127.0.0.1:0",  # None means port 8787, and a warning if it is taken
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        tell("has a scheduler and its workers")
        client.run(kernels.warmup)  # so that what is timed later is the copying alone
        with maestro.connect(client) as app:
            address = app.address
        tell(f"is ready at {address}", address=address)
        sys.stdin.read()
    tell("done")


if __name__ == "__main__":
    main()
