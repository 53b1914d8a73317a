"""One process of a climate model that has run: it holds some of the years, of the whole map.

It knows nothing of how anyone else will cut the field. `interlock.py` starts four of these; by
hand, next to a Dask scheduler and as many consumers as it is to wait for:

    python demos/producer.py tcp://127.0.0.1:8786 --rank 0 --producers 4 --consumers 3
"""

from __future__ import annotations

import _field
import click
from _programs import PATIENCE, tell

import maestro
from layouts import Distribution


def slabs(producers: int) -> Distribution:
    """Cut along time, one slab of years for each producer; C order, as models write: map by map."""
    return Distribution(_field.shape(), grid=(producers, 1, 1), order="C")


@click.command()
@click.argument("address")
@click.option("--rank", type=int, required=True)
@click.option("--producers", type=int, required=True)
@click.option("--consumers", type=int, required=True)
@click.option("--store", help="Where to put the slab, if not into the nodes' memory.")
def main(address: str, rank: int, producers: int, consumers: int, store: str | None) -> None:
    """Offer the slab of years number RANK to the pool at ADDRESS."""
    layout = slabs(producers)
    slab, about = _field.read(layout, rank), _field.about()
    tell("has read its years")

    with maestro.connect(address, workflow="interlock", component=f"producer-{rank}") as app:
        tell("connected")

        # Barriers: CDOs without data, offered by each consumer once it has required the field.
        for number in range(consumers):
            app.demand(f"consumer-{number} is ready", timeout=PATIENCE)
        tell("knows that all consumers are ready")

        cdo = app.declare(_field.NAME, distribution=layout, rank=rank, attributes=about)
        cdo.offer(slab, store=store)
        tell("has offered its years")

        cdo.withdraw(timeout=PATIENCE)  # returns once everyone who required the field has it
        cdo.dispose()
        tell("has withdrawn them")
    tell("done")


if __name__ == "__main__":
    main()
