"""One process of an analysis: it wants all years, of its own block of the map.

It knows nothing of how the model was cut. `interlock.py` starts three of these.
"""

from __future__ import annotations

from dataclasses import asdict

import _field
import click
import numpy as np
from _programs import PATIENCE, tell
from numpy.typing import NDArray

import kernels
import maestro
from layouts import Distribution

#: The CDO that the consumers offer in their turn.
TREND = f"trend of {_field.NAME}"

#: What a consumer tells once its part of that is in the pool.
OFFERED = "has offered its trends"


def blocks(consumers: int) -> Distribution:
    """Cut along longitude, with all years of every point.

    In F order the first axis, time, is the fastest: each point's 240 years lie side by side, so a
    fit per point streams through memory. In the file they are a whole map apart.
    """
    return Distribution(_field.shape(), grid=(1, 1, consumers), order="F")


def map_of(layout: Distribution) -> Distribution:
    """The same cut of a map without time."""
    return Distribution(layout.shape[1:], layout.grid[1:], layout.axes[1:], layout.order)


@click.command()
@click.argument("address")
@click.option("--rank", type=int, required=True)
@click.option("--consumers", type=int, required=True)
def main(address: str, rank: int, consumers: int) -> None:
    """Demand block number RANK from the pool at ADDRESS, and offer its trends."""
    layout = blocks(consumers)
    kernels.warmup()  # so that what is timed later is the copying alone
    tell("has loaded its kernels")

    with maestro.connect(address, workflow="interlock", component=f"consumer-{rank}") as app:
        tell("connected")

        field = app.declare(_field.NAME, distribution=layout, rank=rank)
        field.require()  # from here on it is kept for us, whenever it comes
        ready = app.offer(f"consumer-{rank} is ready")
        tell("is ready")

        block = field.demand(timeout=PATIENCE)  # our block, put together from all producers
        tell("has its block", transfers=[asdict(transfer) for transfer in field.report.transfers])
        ready.withdraw(timeout=PATIENCE)  # the producers saw it: they offered only after that
        ready.dispose()

        check(block, layout, rank)
        tell("has compared it with the file", equal=True)

        years = np.arange(field.attributes["first_year"], field.attributes["last_year"] + 1)
        trend = app.declare(TREND, distribution=map_of(layout), rank=rank)
        trend.offer(trend_per_decade(years, block))
        tell(OFFERED)
        trend.withdraw(timeout=PATIENCE)
        trend.dispose()
        field.dispose()
    tell("done")


def trend_per_decade(years: NDArray[np.int64], block: NDArray[np.float32]) -> NDArray[np.float64]:
    """Slopes of least-squares lines through each point's years, in units per ten years.

    Parameters
    ----------
    years : array of shape (time,)
    block : array of shape (time, latitude, longitude), time fastest in memory

    Returns
    -------
    float64 array of shape (latitude, longitude), in F order
    """
    centred = years - years.mean()
    # The transpose of an F-ordered block is a C-ordered view: one row of years for each point.
    return 10 * (block.T @ (centred / (centred @ centred))).T


def check(block: NDArray[np.float32], layout: Distribution, rank: int) -> None:
    """Compare with what the file has there: type, memory order and every byte."""
    expected = _field.read(layout, rank)
    same_kind = (block.dtype, block.shape) == (expected.dtype, expected.shape)
    in_order = block.flags.f_contiguous and expected.flags.f_contiguous
    if not (same_kind and in_order and block.tobytes("A") == expected.tobytes("A")):
        raise SystemExit(f"block {rank} is not what the file has there")


if __name__ == "__main__":
    main()
