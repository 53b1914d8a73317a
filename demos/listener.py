"""A statistics job: it hears of every field that is offered, gets it, and says how fast that was.

    python demos/listener.py
    python demos/listener.py --pool ADDRESS --selector '(.maestro.listener.level <= 500)'

It is told of offers that its selector matches, and the pool waits for its acknowledgement, so that
no field is gone before it was here. Without --pool it starts a pool and a model that offers fields,
listens to those of the upper levels, and checks that it had each of them once.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from statistics import mean

import click
import numpy as np
from rich.console import Console

import kernels
import maestro
from maestro import Report

console = Console(highlight=False, soft_wrap=True)

#: Attributes of a field.
LEVEL, STEP = ".maestro.listener.level", ".maestro.listener.step"
UPPER = f"({LEVEL} <= 500)"

#: Seconds without an event after which it ends.
PATIENCE = 60.0


def listen(app: maestro.App, offers: maestro.Subscription, count: int | None) -> list[Report]:
    """Get every field that is offered, so many of them; what each demand cost."""
    reports: list[Report] = []
    while count is None or len(reports) < count:
        events = offers.wait(timeout=PATIENCE)
        if not events:
            break
        for event in events:
            cdo = app.declare(event.name)
            cdo.require()
            cdo.demand(timeout=PATIENCE)
            reports.append(cdo.report)
            cdo.dispose()
        offers.ack(events)  # the whole batch: its producers may go on
        console.print(f"{len(reports)} fields, the last of them {reports[-1]}")
    return reports


def offer_fields(app: maestro.App, steps: int) -> set[str]:
    """A model that offers fields on four levels, step by step; the names of the upper ones."""
    upper = set()
    for step in range(steps):
        cdos = []
        for level in (250, 500, 700, 850):
            values = np.full((180, 360), 1000.0 * step + level)
            name = f"t{level}+{step:03d}"
            cdos.append(app.offer(name, values, attributes={LEVEL: level, STEP: step}))
            upper |= {name} if level <= 500 else set()
        for cdo in cdos:
            cdo.withdraw(timeout=PATIENCE)
    return upper


@click.command()
@click.option("--pool", help="Address of a pool; by default one with a model is started.")
@click.option("--selector", default=UPPER, show_default=True)
@click.option(
    "--steps", type=click.IntRange(1), default=12, show_default=True, help="Of the model."
)
def main(pool: str | None, selector: str, steps: int) -> None:
    """Listen to a pool, and say how fast fields come out of it."""
    kernels.warmup()
    try:
        with maestro.connect(pool, workflow="forecast", component="statistics") as app:
            offers = app.subscribe(selector, kinds="offer", ack=True, own=False)
            if pool is not None:
                tell(listen(app, offers, None))
                return
            with (
                maestro.connect(app.address, workflow="forecast", component="model") as model,
                ThreadPoolExecutor(1) as threads,
            ):
                offering = threads.submit(offer_fields, model, steps)
                reports = listen(app, offers, 2 * steps)
                upper = offering.result()
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
    except maestro.MaestroError as error:
        sys.exit(f"Failed. {error}")
    names = [report.name for report in reports]
    if sorted(names) != sorted(upper):
        sys.exit(f"Failed. It got {names}, expected each of {sorted(upper)} once")
    tell(reports)


def tell(reports: list[Report]) -> None:
    """The means of all demands."""
    if not reports:
        sys.exit("Failed. No field that matches was offered")
    size, seconds = (
        mean(getattr(report, what) for report in reports) for what in ("bytes", "seconds")
    )
    console.print(
        f"{len(reports)} fields, each once: {size / 1e6:.2f} MB in {seconds * 1e3:.2f} ms on the"
        f" mean, {size / seconds / 1e9:.2f} GB/s"
    )


if __name__ == "__main__":
    main()
