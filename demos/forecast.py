"""A weather centre in one program: a forecast's fields leave the model through the pool.

    python demos/forecast.py

An I/O server offers each field of a forecast, by parameter, level and step, as the model comes to
it. An archiver saves all of them. Product generation says which fields of a step it needs; once
they are there the pool has a map worked out where they are, which it offers in its turn::

    I/O server --fields--> the pool --fields--> archiver
                            |    ^
                     fields v    | maps
                      product generation

Nobody waits for anybody by name. The pool holds each field until the archiver has acknowledged its
offer and the map that it is needed for is made; and as the I/O server goes on to the next step
only once the last one has left, the whole is paced by the slowest. At the end everything is checked
and drawn: `docs/forecast.png` is such a picture.
"""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import Any

import click
import numpy as np
from _atmosphere import Atmosphere, Field, weather
from _timeline import Interval, draw
from rich.console import Console

import kernels
import maestro
from layouts import Distribution

HERE = Path(__file__).resolve().parent
console = Console(highlight=False, soft_wrap=True)

#: Attributes of fields and maps.
SPACE = ".maestro.forecast."
PARAM, LEVEL, STEP = (f"{SPACE}{key}" for key in ("param", "level", "step"))

#: Of which fields product generation makes a map: it never sees the others.
NEEDED = {"u250": ("u", 250), "v250": ("v", 250), "t500": ("t", 500)}

#: Ranks of the model, each with a band of latitudes.
RANKS = 4

#: Hours between steps, and seconds that any part waits for others before it gives up.
HOURS, PATIENCE = 6, 60.0


class DemoError(Exception):
    """Something is not as it must be."""


def called(name: str, step: int) -> str:
    """The CDO of a field or a map."""
    return f"{name}+{step:03d}"


@dataclass
class Model:
    """The I/O server: what it has offered, and when it was busy."""

    address: str
    weather: Atmosphere
    steps: list[int]
    offered: dict[str, Field] = field(default_factory=dict)  # to check the others with
    busy: list[Interval] = field(default_factory=list)

    def run(self) -> None:
        """Go from step to step."""
        with maestro.connect(self.address, workflow="forecast", component="io-server") as app:
            before: list[maestro.Cdo] = []
            for step in self.steps:
                begun = time()
                self.weather.advance(HOURS)
                self.busy.append(Interval(begun, time()))
                now = [
                    self.offer(app, parameter, level, step, values)
                    for (parameter, level), values in self.weather.fields().items()
                ]
                for cdo in before:  # so there are never more than two steps in the pool
                    cdo.withdraw(timeout=PATIENCE)
                before = now
            for cdo in before:
                cdo.withdraw(timeout=PATIENCE)

    def offer(
        self, app: maestro.App, parameter: str, level: int, step: int, values: Field
    ) -> maestro.Cdo:
        """One field, as the ranks of the model have it."""
        bands = Distribution(values.shape, grid=(RANKS, 1))
        attributes = {PARAM: parameter, LEVEL: level, STEP: step}
        cdo = app.declare(called(f"{parameter}{level}", step), bands, "f8", attributes)
        self.offered[cdo.name] = values
        cdo.offer(bands.split(values))
        return cdo


def archive(app: maestro.App, offers: maestro.Subscription, folder: Path, count: int) -> int:
    """Save every field that is offered; it stays in the pool until that is acknowledged."""
    saved = 0
    while saved < count:
        events = offers.wait(timeout=PATIENCE)
        if not events:
            raise DemoError(f"no field for {PATIENCE:g} s after {saved} of {count}")
        for event in events:
            np.save(folder / f"{event.name}.npy", app.demand(event.name, timeout=PATIENCE))
        offers.ack(events)
        saved += len(events)
    return saved


def make(u: maestro.Match, v: maestro.Match, t: maestro.Match) -> tuple[Field, Field, float]:
    """A step's map, wind and warmth, and when it was begun: runs where the fields are."""
    begun = time()
    return np.hypot(u, v), t.data - np.mean(t), begun


@dataclass
class Products:
    """Product generation: a map of each step as soon as all that it needs is in the pool."""

    app: maestro.App
    making: list[Interval] = field(default_factory=list)

    def __post_init__(self) -> None:
        needed = (f'(and ({PARAM} = "{name}") ({LEVEL} = {at}))' for name, at in NEEDED.values())
        self.maps = self.app.when(*needed, by=STEP)(make)

    def run(self) -> None:
        """Offer the maps as they are made."""
        for step, future in self.maps:
            *drawn, begun = future.result(timeout=PATIENCE)
            for name, values in zip(("wind", "warmth"), drawn, strict=True):
                self.app.offer(called(name, step), values, attributes={STEP: step})
            self.making.append(Interval(begun, time()))


@click.command()
@click.option("--steps", type=click.IntRange(1, 40), default=8, show_default=True)
@click.option("--rows", type=click.IntRange(32, 512), default=96, show_default=True)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=HERE / "output" / "forecast.png",
    help="Where to draw it.  [default: demos/output/forecast.png]",
)
def main(steps: int, rows: int, output: Path) -> None:
    """Run a forecast, archive it, and make a map of each step."""
    if not output.absolute().parent.is_dir():
        raise click.BadParameter(f"{output.parent} is no folder", param_hint="--output")
    try:
        run([HOURS * (n + 1) for n in range(steps)], 2 * (rows // 2), output)
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
    except (DemoError, maestro.MaestroError, OSError) as error:
        sys.exit(f"Failed. {error}")


def run(steps: list[int], rows: int, output: Path) -> None:
    """The demo from end to end."""
    console.print("The highs and lows of a small model of weather are growing ...")
    atmosphere = weather(rows)
    with (
        maestro.connect(workflow="forecast", component="conductor") as app,
        maestro.connect(app.address, workflow="forecast", component="archiver") as archiver,
        maestro.connect(app.address, workflow="forecast", component="products") as producer,
        TemporaryDirectory(prefix="maestro-forecast-") as folder,
        ThreadPoolExecutor() as threads,
    ):
        kernels.warmup()
        model = Model(app.address, atmosphere, steps)
        fields = atmosphere.fields()
        products = Products(producer)
        offers = archiver.subscribe(f"(has {PARAM})", kinds="offer", ack=True)
        work = [
            threads.submit(archive, archiver, offers, Path(folder), len(fields) * len(steps)),
            threads.submit(products.run),
            threads.submit(model.run),
        ]
        maps = collect(app, steps, work)
        products.maps.end()
        for each in work:
            each.result()
        offers.end()
        check_archive(model, Path(folder))
        check_maps(model, maps)
        events = app.log()
    most = check_pace(events, len(fields))
    draw(events, model.busy, products.making, maps, output)
    console.print(f"The picture is in {output}.")
    console.print(
        f"All {len(model.offered)} fields of {len(steps)} steps were archived byte for byte, each"
        f" step has its map, and never were there more than {most} fields in the pool"
    )


def collect(
    app: maestro.App, steps: list[int], work: list[Future[Any]]
) -> dict[int, tuple[Field, Field]]:
    """The maps of all steps, as they come."""
    maps = {}
    for step in steps:
        maps[step] = tuple(demand(app, called(name, step), work) for name in ("wind", "warmth"))
        console.print(f"step {step:3d} h: strongest wind {maps[step][0].max():.0f} m/s")
    return maps


def demand(app: maestro.App, name: str, work: list[Future[Any]]) -> Field:
    """A CDO that others work on: for as long as none of them has failed."""
    for _ in range(int(PATIENCE)):
        try:
            return app.demand(name, timeout=1.0)
        except maestro.PoolTimeoutError:
            for each in work:
                if each.done():
                    each.result()
    raise DemoError(f"{name} did not come in {PATIENCE:g} s")


def check_archive(model: Model, folder: Path) -> None:
    """Everything that was offered was saved, and nothing else."""
    saved = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    if saved.keys() != model.offered.keys():
        raise DemoError(
            f"archived but not offered, or not archived: {saved ^ model.offered.keys()}"
        )
    for name, values in model.offered.items():
        if saved[name].tobytes() != values.tobytes():
            raise DemoError(f"{name} was archived with other values")


def check_maps(model: Model, maps: dict[int, tuple[Field, Field]]) -> None:
    """The maps are what NumPy makes of the fields."""
    for step, (wind, warmth) in maps.items():
        u, v, t = (model.offered[called(name, step)] for name in NEEDED)
        if not (np.array_equal(wind, np.hypot(u, v)) and np.allclose(warmth, t - t.mean())):
            raise DemoError(f"the map of step {step} is another than NumPy's")


def check_pace(events: list[maestro.Event], per_step: int) -> int:
    """The most fields that were in the pool at once: those of two steps at most."""
    there = most = 0
    for event in events:
        if PARAM in event.attributes:
            there += (event.kind == "offer") - (event.kind == "withdraw")
            most = max(most, there)
    if there or most > 2 * per_step:
        raise DemoError(f"{most} fields were in the pool at once, {there} at the end")
    return most


if __name__ == "__main__":
    main()
