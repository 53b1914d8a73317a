"""Producers, consumers and archivers in one program, each a thread and an app of its own.

    python demos/mvp.py --producers 3 --consumers 2 --archivers 2

Every producer offers its fields one after the other, and has two in the pool at most. Every
consumer wants all fields of all producers, in another order in memory, and has required them ahead.
The archivers share the work: what is offered stays in the pool until whose turn it is has saved it.
None of them knows how many others there are: the pool holds each field until everyone has it.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

import kernels
import maestro
from layouts import Distribution

console = Console(highlight=False, soft_wrap=True)

#: Attributes of a field.
PRODUCER, STEP = ".maestro.mvp.producer", ".maestro.mvp.step"

#: Fields of one producer that are in the pool at once; seconds that anybody waits for others.
AHEAD, PATIENCE = 2, 60.0


class DemoError(Exception):
    """Something is not as it must be."""


def field(producer: int, step: int, shape: tuple[int, int]) -> NDArray[np.float64]:
    """What a producer works out."""
    return np.random.default_rng([producer, step]).normal(280, 10, shape)


def named(producer: int, step: int) -> str:
    """The name of a field."""
    return f"field {step} of producer {producer}"


def produce(app: maestro.App, number: int, steps: int, shape: tuple[int, int]) -> None:
    """Offer one field after the other, as two ranks have it, and take it back."""
    halves = Distribution(shape, grid=(2, 1))
    offered: list[maestro.Cdo] = []
    for step in range(steps):
        if len(offered) == AHEAD:
            offered.pop(0).withdraw(timeout=PATIENCE)  # once everyone has it
        cdo = app.declare(named(number, step), halves, "f8", {PRODUCER: number, STEP: step})
        cdo.offer(halves.split(field(number, step, shape)))
        offered.append(cdo)
    for cdo in offered:
        cdo.withdraw(timeout=PATIENCE)


def require(
    app: maestro.App, producers: int, steps: int, shape: tuple[int, int]
) -> list[maestro.Cdo]:
    """Ask for all fields ahead: from then on none leaves before this app has it."""
    whole = Distribution(shape, order="F")
    wanted = [
        app.declare(named(number, step), whole, rank=0)
        for step in range(steps)
        for number in range(producers)
    ]
    for cdo in wanted:
        cdo.require()
    return wanted


def consume(wanted: list[maestro.Cdo]) -> dict[str, int]:
    """Get all fields; a checksum of each."""
    sums = {}
    for cdo in wanted:
        part = cdo.demand(timeout=PATIENCE)
        if not part.flags.f_contiguous:
            raise DemoError(f"{cdo.name} is not column-major")
        sums[cdo.name] = zlib.crc32(np.ascontiguousarray(part))
        cdo.dispose()
    return sums


@dataclass
class Turn:
    """Which fields are one archiver's, and where it saves them."""

    number: int
    archivers: int
    folder: Path
    saved: Callable[[], None]


def archive(app: maestro.App, offers: maestro.Subscription, turn: Turn) -> None:
    """Save the fields whose turn is this archiver's, until the subscription is ended."""
    for event in offers:
        if event.attributes[STEP] % turn.archivers == turn.number:
            np.save(turn.folder / f"{event.name}.npy", app.demand(event.name, timeout=PATIENCE))
            turn.saved()
        offers.ack(event)


@click.command()
@click.option("--producers", type=click.IntRange(1, 32), default=3, show_default=True)
@click.option("--consumers", type=click.IntRange(0, 32), default=2, show_default=True)
@click.option("--archivers", type=click.IntRange(0, 32), default=2, show_default=True)
@click.option("--fields", type=click.IntRange(1), default=8, show_default=True, help="Of each.")
@click.option("--size", type=click.IntRange(1), default=256, show_default=True, help="Rows of one.")
def main(producers: int, consumers: int, archivers: int, fields: int, size: int) -> None:
    """Let so many threads offer, demand and save fields."""
    try:
        run(producers, consumers, archivers, fields, (size, 2 * size))
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
    except (DemoError, maestro.MaestroError, OSError) as error:
        sys.exit(f"Failed. {error}")


def run(producers: int, consumers: int, archivers: int, steps: int, shape: tuple[int, int]) -> None:
    """The demo from end to end."""
    kernels.warmup()
    begun = perf_counter()
    with (
        maestro.connect(workflow="mvp", component="conductor") as app,
        TemporaryDirectory(prefix="maestro-mvp-") as folder,
    ):
        sums = play(app, producers, consumers, archivers, steps, shape, Path(folder))
        left, used = app.pool, sum(node["used"] for node in app.pool.nodes.values())
        if left or used:
            raise DemoError(f"left in the pool: {list(left)}, {used} bytes")
        check(producers, steps, shape, sums, Path(folder) if archivers else None)
    console.print(
        f"{producers * steps} fields from {producers} producers: {consumers} consumers have got"
        f" each of them, and {archivers} archivers saved it once; the pool was empty after"
        f" {perf_counter() - begun:.1f} s"
    )


def play(
    app: maestro.App,
    producers: int,
    consumers: int,
    archivers: int,
    steps: int,
    shape: tuple[int, int],
    folder: Path,
) -> list[dict[str, int]]:
    """Let all of them work, each in a thread of its own; the consumers' checksums."""
    with (
        ThreadPoolExecutor(producers + consumers + archivers) as threads,
        Progress(console=console, disable=not console.is_terminal) as progress,
        ExitStack() as apps,
    ):
        bar = progress.add_task("saved", total=producers * steps if archivers else 0)

        def join(kind: str, count: int) -> list[maestro.App]:
            named = (f"{kind}-{number}" for number in range(count))
            join = partial(maestro.connect, app.address, workflow="mvp")
            return [apps.enter_context(join(component=component)) for component in named]

        # Before the first offer: who comes later may find that it has left.
        wanted = [require(one, producers, steps, shape) for one in join("consumer", consumers)]
        saving = []
        for number, one in enumerate(join("archiver", archivers)):
            offers = one.subscribe(f"(has {STEP})", kinds="offer", ack=True)
            apps.callback(offers.end)
            turn = Turn(number, archivers, folder, partial(progress.advance, bar))
            saving.append(threads.submit(archive, one, offers, turn))
        reading = [threads.submit(consume, each) for each in wanted]
        writing = [
            threads.submit(produce, one, number, steps, shape)
            for number, one in enumerate(join("producer", producers))
        ]
        for done in as_completed([*writing, *reading]):
            done.result()
    for each in saving:
        each.result()  # also of those something that went wrong is raised
    return [each.result() for each in reading]


def check(
    producers: int,
    steps: int,
    shape: tuple[int, int],
    sums: list[dict[str, int]],
    folder: Path | None,
) -> None:
    """Every consumer and the archive have every field, byte for byte."""
    expected = {
        named(number, step): field(number, step, shape)
        for number in range(producers)
        for step in range(steps)
    }
    checksums = {name: zlib.crc32(values) for name, values in expected.items()}
    if any(each != checksums for each in sums):
        raise DemoError("a consumer has got other bytes than were offered")
    if folder is not None:
        saved = {path.stem: np.load(path).tobytes() for path in folder.glob("*.npy")}
        if saved != {name: values.tobytes() for name, values in expected.items()}:
            raise DemoError("other fields were saved than were offered")


if __name__ == "__main__":
    main()
