"""The interlock: a climate model's output leaves one program and arrives in another, cut anew.

    python demos/interlock.py

Four producers hold a model run as slabs of years; three consumers want blocks of the map, with all
years of every point side by side in memory. Neither side knows the other's cut. Between them is a
pool of Dask workers::

    producer-0  1860-1919 --.                   .--> consumer-0  west
    producer-1  1920-1979 --+--   the pool    --+
    producer-2  1980-2039 --+-- (Dask workers) -+--> consumer-1  middle
    producer-3  2040-2099 --'                   |
                                                '--> consumer-2  east

`producer.py` and `consumer.py` are the two programs, and the place to see how maestro is used;
`pool.py` is what is between them. This one starts them all, watches, gets the trends that the
consumers work out through the pool as well, and checks everything.

By which way the field goes makes no difference to either side, but for where a producer puts it::

    python demos/interlock.py --by tcp      # in messages; else through memory that all map
    python demos/interlock.py --by files    # in a store in a folder, for whoever wants it to read
    python demos/interlock.py --by objects  # the same with an object store: moto, on this machine
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import _field
import click
import numpy as np
from _picture import draw
from _places import WAYS, Place, place
from _programs import PATIENCE, ProgramError, Programs
from _screen import Bars, console, matrix_table, transfer_table
from consumer import OFFERED, TREND, blocks
from numpy.typing import NDArray
from producer import slabs

import kernels
import maestro
from layouts import Distribution, Plan, plan

HERE = Path(__file__).resolve().parent

#: How many things each program tells: the length of its bar.
POOL_STEPS, PRODUCER_STEPS, CONSUMER_STEPS = 3, 6, 7

#: What trends may differ by from NumPy's, which sums in another order, in K per decade.
TOLERANCE = 1e-12


class DemoError(Exception):
    """Something is not as it must be."""


@click.command()
@click.option("--producers", type=click.IntRange(1, 12), default=4, show_default=True)
@click.option("--consumers", type=click.IntRange(1, 8), default=3, show_default=True)
@click.option("--workers", type=click.IntRange(1, 8), default=2, show_default=True)
@click.option(
    "--by", type=click.Choice(list(WAYS)), default="memory", show_default=True, help="Which way."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=HERE / "output" / "trend.png",
    help="Where to draw the map of trends.  [default: demos/output/trend.png]",
)
def main(producers: int, consumers: int, workers: int, by: str, output: Path) -> None:
    """Move a climate model's output between programs that cut it differently."""
    if output.suffix != ".png":
        raise click.BadParameter(f"{output} is no .png file", param_hint="--output")
    folder = output.absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise click.BadParameter(f"{folder} is no folder to write to", param_hint="--output")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Terminated; all programs were stopped."))
    try:
        run(producers, consumers, workers, by, output)
    except KeyboardInterrupt:
        sys.exit("Interrupted; all programs were stopped.")
    except (DemoError, ProgramError, maestro.MaestroError, OSError) as error:
        sys.exit(f"Failed; all programs were stopped. {error}")


def run(producers: int, consumers: int, workers: int, by: str, output: Path) -> None:
    """The demo from end to end."""
    begun = perf_counter()
    way = plan(slabs(producers), blocks(consumers))
    show_plan(way)
    with Programs() as programs:
        with Bars() as bars, place(by, programs, bars) as where:
            address = start_pool(programs, bars, workers)
            with maestro.connect(address, workflow="interlock", component="conductor") as app:
                outcome = couple(app, programs, bars, where, producers, consumers)
                check_moved(outcome, way, by)
                nodes = check_empty(app, where)
            stop_pool(programs, bars)
    console.print(transfer_table(outcome.transfers))
    console.print("Each pair of programs moved the bytes that were planned, no more and no fewer.")
    nothing = "no app" if where.store is None else "no object in the store, no app"
    console.print(
        f"The pool was empty at the end: no CDO, no byte on its {nodes} node(s), {nothing}."
    )

    difference = check_trends(outcome.trends)
    console.print(f"The largest difference from NumPy's trends is {difference:.1e} K per decade.")
    draw(outcome.trends, way, output)
    console.print(f"The map of trends is in {output}. It took {perf_counter() - begun:.1f} s.")
    console.print(
        f"All {consumers} blocks equal the file byte for byte; trends agree with NumPy to"
        f" {TOLERANCE:g} K per decade"
    )


def start_pool(programs: Programs, bars: Bars, workers: int) -> str:
    """Start the pool; its address."""
    bars.add("pool", POOL_STEPS)
    programs.start("pool", HERE / "pool.py", "--workers", workers, lasting=True)
    for name, said in programs.news("pool"):
        bars.step(name, said["state"])
        if "address" in said:
            return said["address"]
    raise DemoError("the pool ended before it told its address")


def start_programs(
    address: str, programs: Programs, bars: Bars, where: Place, producers: int, consumers: int
) -> list[str]:
    """Start both sides, all at once; their names."""
    ours, theirs = ("--producers", producers), ("--consumers", consumers)
    started = []
    for side, size, steps, options in (
        ("producer", producers, PRODUCER_STEPS, (*ours, *theirs, *where.arguments)),
        ("consumer", consumers, CONSUMER_STEPS, theirs),
    ):
        for rank in range(size):
            name = f"{side}-{rank}"
            bars.add(name, steps)
            programs.start(name, HERE / f"{side}.py", address, "--rank", rank, *options)
            started.append(name)
    return started


def stop_pool(programs: Programs, bars: Bars) -> None:
    """Stop the pool, and wait until it has ended well."""
    programs.dismiss("pool")
    for name, said in programs.news("pool"):
        bars.step(name, said["state"])


@dataclass
class Outcome:
    """What came of the programs."""

    transfers: list[dict[str, Any]] = field(default_factory=list)  # from the consumers' reports
    equal: int = 0  # consumers whose block is what the file has there
    offered: int = 0  # consumers that have offered their trends
    trends: NDArray[np.float64] | None = None


def couple(
    app: maestro.App,
    programs: Programs,
    bars: Bars,
    where: Place,
    producers: int,
    consumers: int,
) -> Outcome:
    """Run the programs, and take the trends out of the pool as soon as they are there."""
    trend = app.declare(TREND)  # no distribution: the whole map, however the consumers cut it
    trend.require()  # before any of them starts, so that none can withdraw it before it is here

    started = start_programs(app.address, programs, bars, where, producers, consumers)
    kernels.warmup()  # for the trends, while the programs are starting
    outcome = Outcome()
    for name, said in programs.news(*started):
        bars.step(name, said["state"])
        outcome.transfers += said.get("transfers", [])
        outcome.equal += said.get("equal", False)
        outcome.offered += said["state"] == OFFERED
        if outcome.offered == consumers and outcome.trends is None:
            outcome.trends = trend.demand(timeout=PATIENCE)
            trend.dispose()
    return outcome


def show_plan(way: Plan) -> None:
    """Say beforehand what is to move."""
    console.print(f"{_field.NAME}, from {_field.FILE.name}, is to go")
    console.print(way.explain(_field.itemsize()))
    console.print(
        "where 'kept' is what rank r has in both cuts; between programs, as here, it moves too.\n"
    )
    console.print(matrix_table(way.matrix(_field.itemsize())))


def check_moved(outcome: Outcome, way: Plan, by: str) -> None:
    """Every consumer found its block to be right; exactly what was planned went, and that way."""
    if outcome.equal != way.target.size:
        raise DemoError(f"{outcome.equal} blocks were compared, expected {way.target.size}")
    moved = np.zeros((way.source.size, way.target.size), np.int64)
    for transfer in outcome.transfers:
        moved[transfer["source"], transfer["target"]] += transfer["bytes"]
    if not np.array_equal(moved, way.matrix(_field.itemsize())):
        raise DemoError(f"bytes moved, by source and target: {moved.tolist()}, not as planned")
    ways = {transfer["transport"] for transfer in outcome.transfers}
    if not ways <= WAYS[by]:
        raise DemoError(f"bytes went by way of {ways}, expected {WAYS[by]}")


def check_empty(app: maestro.App, where: Place) -> int:
    """All is withdrawn, all memory given back, only we are connected; the number of nodes."""
    pool, others = app.pool, len(app.apps) - 1
    used = sum(node["used"] for node in pool.nodes.values())
    if pool or used or others:
        raise DemoError(f"left in the pool: {list(pool)}, {used} bytes, {others} apps")
    if left := where.left():
        raise DemoError(f"left in {where.store}: {left}")
    return len(pool.nodes)


def check_trends(trends: NDArray[np.float64]) -> float:
    """The largest difference from NumPy's own fit of what is in the file."""
    about = _field.about()
    years = np.arange(about["first_year"], about["last_year"] + 1)
    whole = _field.read(Distribution(_field.shape()), 0).astype(np.float64)
    slopes, _ = np.polyfit(years - years.mean(), whole.reshape(len(years), -1), 1)
    difference = np.abs(trends - 10 * slopes.reshape(trends.shape)).max()
    if not difference <= TOLERANCE:  # a NaN is no agreement either
        raise DemoError(f"trends differ from NumPy's by up to {difference:g} K per decade")
    return float(difference)


if __name__ == "__main__":
    main()
