"""An archiver and a librarian: what a model offers is saved before it leaves, and comes back.

    python demos/archiver.py
    python demos/archiver.py --store run.zarr    # keeps the store, to be opened in zarr or xarray

A model offers fields as four ranks hold them, column-major, and takes them back at once: that
returns when each is saved, for the archiver acknowledges nothing sooner. Half-way the archiver is
ended; the next one goes on with the store. Then the pool is gone. A librarian brings the fields
into another one, from where a consumer gets them cut in another way.

`maestro archive` and `maestro stage` do the same from the command line.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from rich.console import Console

import kernels
import maestro
from layouts import BlockCyclic, Distribution

console = Console(highlight=False, soft_wrap=True)

#: Which of the model's CDOs are saved.
SELECTOR = '(units = "K")'

#: How the model holds a field, and how the consumer does.
SHAPE = (180, 360)
MODEL = Distribution(SHAPE, (2, 2), order="F")
CONSUMER = Distribution(SHAPE, (3, 1), (BlockCyclic(32), BlockCyclic(32)), order="C")

PATIENCE = 120.0


class DemoError(Exception):
    """Something is not as it must be."""


def field(step: int) -> NDArray[np.float32]:
    """What the model works out."""
    return np.random.default_rng(step).normal(280, 10, SHAPE).astype("f4")


def named(step: int) -> str:
    """The name of a field."""
    return f"t2m-{step:03d}"


def play(app: maestro.App, steps: range) -> None:
    """The model: offer a field, and something that nobody saves, and take them back."""
    for step in steps:
        about = {"units": "K", "step": step, "dims": ["latitude", "longitude"]}
        cdo = app.declare(named(step), MODEL, attributes=about)
        cdo.offer(MODEL.split(field(step)))
        scratch = app.offer(f"scratch-{step:03d}", np.zeros(10), attributes={"units": "1"})
        cdo.withdraw(timeout=PATIENCE)  # once it is saved
        scratch.withdraw(timeout=PATIENCE)


def save(store: Path, steps: int) -> None:
    """Run a pool with a model and an archiver, and after half of the steps with another one."""
    with maestro.connect(workflow="archive", component="model") as model:
        for resume, half in enumerate((range(steps // 2), range(steps // 2, steps))):
            with (
                maestro.connect(model.address, component="archiver") as app,
                maestro.Archiver(app, store, SELECTOR, resume=bool(resume)) as archiver,
            ):
                play(model, half)
                if len(archiver.saved) != len(half):
                    raise DemoError(f"{archiver} did not save {len(half)}")
                console.print(f"{archiver.bytes_saved / 1e6:.2f} MB: {', '.join(archiver.saved)}")
        if model.pool:
            raise DemoError(f"left in the pool: {list(model.pool)}")


def check_store(store: Path, steps: int) -> None:
    """What zarr and xarray find there is what was offered: bytes, types, order, attributes."""
    with xr.open_zarr(store, chunks=None) as data:
        if set(data) != {named(step) for step in range(steps)}:
            raise DemoError(f"the store has {sorted(map(str, data))}")
        for step in range(steps):
            array, found = zarr.open_array(store, path=named(step), mode="r"), data[named(step)]
            same = [each.tobytes() == field(step).tobytes() for each in (array[...], found.values)]
            kinds = {array.dtype, found.dtype} == {np.dtype("f4")}
            order = "transpose" in str(array.metadata.to_dict()["codecs"])
            about = (found.attrs["units"], found.attrs["step"], found.dims)
            if not (all(same) and kinds and order):
                raise DemoError(f"{named(step)} is not in {store} as it was offered")
            if about != ("K", step, ("latitude", "longitude")):
                raise DemoError(f"{named(step)} is said to be {about}")


def check_staged(store: Path, steps: int) -> None:
    """Staged in another pool, each comes back as it was, and cut as the consumer wants it."""
    with maestro.connect() as app, maestro.Librarian(app, store) as librarian:
        librarian.stage_all()
        for step in range(steps):
            entry, cdo = app.pool[named(step)], app.declare(named(step), CONSUMER)
            parts = cdo.demand(timeout=PATIENCE)
            if entry.distribution != MODEL or entry.attributes["step"] != step:
                raise DemoError(f"{entry.name} came back as {entry.distribution}")
            if CONSUMER.join(parts).tobytes() != field(step).tobytes():
                raise DemoError(f"{entry.name} came back with other bytes")
        console.print(f"The last demand: {cdo.report}")


@click.command()
@click.option("--steps", type=click.IntRange(2), default=6, show_default=True, help="Of the model.")
@click.option(
    "--store", type=click.Path(path_type=Path), help="Where, to be kept.  [default: a temporary]"
)
def main(steps: int, store: Path | None) -> None:
    """Save what a model offers, and bring it back."""
    kernels.warmup()
    scratch = TemporaryDirectory(prefix="maestro-archiver-") if store is None else nullcontext()
    try:
        with scratch as folder:
            store = store or Path(folder or "") / "run.zarr"
            save(store, steps)
            check_store(store, steps)
            check_staged(store, steps)
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
    except (DemoError, maestro.MaestroError, OSError) as error:
        sys.exit(f"Failed. {error}")
    console.print(
        f"{steps} fields were saved before they left the pool, open in zarr and in xarray as they"
        " were, and came back byte for byte"
    )


if __name__ == "__main__":
    main()
