"""The archiver and the librarian, against zarr's own writing and Dask's own reading.

What bounds them: every byte goes once from memory into the page cache, by the system's copy, into
pages that it has to find first, which is most of it: `write` takes 0.55 to 0.6 s of CPU for a GiB
on tmpfs, where a copy between pages that are there takes 0.08. (`sendfile` out of the segments
takes 0.65, `write` where room was reserved before 0.63, and a copy into a mapping 1.2.) With two
cores it is bound by both of them. On a disk it is as long as the system takes all bytes before it
makes writers wait for the disk: that is a share of the memory which is free, so each turn has no
more in memory than it needs, and the least that was taken is printed. Reading is one copy out of
the page cache, into memory that was touched before.

bare write         One process writes the bytes to files as large as our objects, and no more.
zarr               `array[...] = ...` of the same array, from one process's memory: in shards as
                   ours, or without, in chunks as large as our shards; the better is compared with.
                   It need not look for empty chunks.
archive            From an archiver's start, with the CDO in the pool, to the commit.
  same blocks      each node writes its parts as they lie
  other blocks     block-cyclic, 100 x 100: what a node writes comes from all of them
from_zarr          `dask.array.from_zarr(...).persist()` of the same store, on the same workers.
stage              The librarian, into the pool.
  as it was        in the distribution of the CDO that was archived
  columns          in another one, column-major

All take turns, in another order in each round; ratios are medians of the rounds' ratios.

fields             A producer in a process of its own offers and withdraws fields; an archiver is
                   told, writes and acknowledges each, and each withdraw waits for it. Then a
                   librarian stages and withdraws them, and a consumer in a process of its own is
                   told, demands, compares and acknowledges each. None may be lost, none twice.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import shutil
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import dask
import dask.array as da
import numpy as np
import psutil
import zarr
from distributed import LocalCluster, wait
from measure import Timing, available_memory, in_units, machine, table

import maestro
from layouts import Block, BlockCyclic, Distribution
from maestro.stores.form import choose

SPAWN = multiprocessing.get_context("spawn")
NODES, AHEAD = 4, 64


def timed(work: Callable[[], Any]) -> float:
    """Seconds for the work."""
    begun = perf_counter()
    work()
    return perf_counter() - begun


def taken_at_once() -> int:
    """Bytes that the system takes for the disk before it makes writers wait, with what is free now.

    The middle of the two limits that Linux computes from the memory which is not in use.
    """
    lines = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    pages = {name: int(count) for name, count in lines}
    limits = pages["nr_dirty_background_threshold"] + pages["nr_dirty_threshold"]
    return limits // 2 * os.sysconf("SC_PAGE_SIZE")


class Whole:
    """One large array, and all that is done with it; each gives its seconds."""

    def __init__(self, app: Any, folder: Path, side: int) -> None:
        self.app, self.folder = app, folder
        shape = side, side
        self.rows = Distribution(shape, (NODES, 1))
        self.blocks = Distribution(shape, (2, 2), (BlockCyclic(100), BlockCyclic(100)))
        self.array = np.arange(side * side, dtype="f8").reshape(shape)
        self.taken = available_memory()  # bytes that the system takes before writers wait
        self.form = choose(
            self.rows,
            self.array.dtype,
            dask.utils.parse_bytes(dask.config.get("maestro.stores.shard")),
            dask.utils.parse_bytes(dask.config.get("maestro.stores.chunk")),
        )
        self.kept = folder / "kept"
        with self.offered("rows", self.rows):
            self.archive_in(self.kept, "rows")

    @contextmanager
    def offered(self, name: str, layout: Distribution) -> Iterator[None]:
        """Have the array in the pool."""
        cdo = self.app.offer(name, layout.split(self.array), layout)
        try:
            yield
        finally:
            cdo.withdraw()
            cdo.dispose()

    def same(self, store: Path, name: str) -> None:
        """Check what is in a store."""
        found = zarr.open_array(store, path=name, mode="r")
        step = max(1, len(self.array) // 7)
        for row in range(0, len(self.array), step):
            if not np.array_equal(found[row], self.array[row]):
                raise SystemExit(f"{store}: {name} is not what was archived")

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A place for a store, with nothing left to be written to the disk."""
        where = self.folder / "store"
        os.sync()
        self.taken = min(self.taken, taken_at_once())
        try:
            yield where
        finally:
            shutil.rmtree(where, ignore_errors=True)

    def bare_write(self) -> float:
        with self.place() as where:
            where.mkdir()
            objects = self.array.reshape(self.form.layout.size, -1)

            def write() -> None:
                for number, content in enumerate(objects):
                    with open(where / str(number), "wb", buffering=0) as file:
                        file.write(memoryview(content).cast("B"))

            return timed(write)

    def zarr(self, sharded: bool) -> float:
        sizes = self.form.shards or self.form.chunks
        how = {"chunks": self.form.chunks, "shards": sizes} if sharded else {"chunks": sizes}
        with self.place() as where:

            def write() -> None:
                array = zarr.create_array(
                    where,
                    name="rows",
                    shape=self.array.shape,
                    dtype=self.array.dtype,
                    compressors=None,
                    config={"write_empty_chunks": True},
                    **how,
                )
                array[...] = self.array

            return timed(write)

    def archive(self, name: str, layout: Distribution) -> float:
        with self.offered(name, layout), self.place() as where:
            return self.archive_in(where, name)

    def archive_in(self, where: Path, name: str) -> float:
        """Archive what is in the pool, and check it."""
        begun = perf_counter()
        selector = f'(.maestro.core.cdo.name = "{name}")'
        with maestro.Archiver(self.app, where, selector) as archiver:
            archiver.wait(1)
            seconds = perf_counter() - begun
        self.same(where, name)
        return seconds

    def from_zarr(self) -> float:
        os.sync()
        begun = perf_counter()
        with self.app.client.as_current():
            array = da.from_zarr(str(self.kept), component="rows").persist()
            wait(array)
        seconds = perf_counter() - begun
        del array
        return seconds

    def stage(self, layout: Distribution | None) -> float:
        os.sync()
        with maestro.Librarian(self.app, self.kept) as librarian:
            seconds = timed(lambda: librarian.stage("rows", layout))
            corner = (slice(0, 3), slice(0, 3))
            if not np.array_equal(self.app.demand("rows", region=corner), self.array[corner]):
                raise SystemExit("rows is not what was archived")
        return seconds

    def writers(self) -> dict[str, Callable[[], float]]:
        return {
            "bare write": self.bare_write,
            "zarr, in shards": lambda: self.zarr(sharded=True),
            "zarr, without": lambda: self.zarr(sharded=False),
            "archive, same blocks": lambda: self.archive("rows", self.rows),
            "archive, other blocks": lambda: self.archive("blocks", self.blocks),
        }

    def readers(self) -> dict[str, Callable[[], float]]:
        columns = Distribution(self.rows.shape, (1, NODES), (Block(), Block()), "F")
        return {
            "from_zarr": self.from_zarr,
            "stage, as it was": lambda: self.stage(None),
            "stage, columns": lambda: self.stage(columns),
        }


def rounds(work: dict[str, Callable[[], float]], repeat: int) -> dict[str, list[float]]:
    """Seconds of each, all in turn; the first round does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(-1, repeat):
        for name in Random(number).sample(list(work), len(work)):
            took = work[name]()
            if number >= 0:
                seconds[name].append(took)
    return seconds


def report(seconds: dict[str, list[float]], nbytes: int, references: list[str]) -> None:
    """Print a table of them, with times as fast as the best of the references."""
    best = min(references, key=lambda name: statistics.median(seconds[name]))

    def ratio(name: str, reference: str) -> str:
        pairs = zip(seconds[reference], seconds[name], strict=True)
        return f"{statistics.median(theirs / ours for theirs, ours in pairs):.2f}"

    rows = []
    for name, taken in seconds.items():
        timing = Timing(tuple(taken))
        rate = f"{nbytes / timing.median / 1e9:.2f}"
        rows.append([name, f"{timing.median * 1e3:.0f}", timing.spread, rate, ratio(name, best)])
    print(table(["what", "median ms", "min - max", "GB/s", f"x {best}"], rows), end="\n\n")


def produce(address: str, count: int, elements: int) -> None:
    """Offer and withdraw fields, some at a time, each from memory that is used again and again."""

    async def main() -> None:
        free = [np.empty(elements) for _ in range(AHEAD)]
        turn = asyncio.Semaphore(AHEAD)
        async with maestro.connect(address, component="producer", asynchronous=True) as app:

            async def one(number: int) -> None:
                async with turn:
                    field = free.pop()
                    field.fill(number)
                    cdo = app.declare(f"field-{number}", attributes={"number": number})
                    await cdo.offer(field)
                    free.append(field)
                    await cdo.withdraw()
                    await cdo.dispose()

            await asyncio.gather(*map(one, range(count)))

    asyncio.run(main())


def consume(address: str, count: int, told: Any) -> None:
    """Demand and compare each field before it leaves, and say at the end how often which came."""

    async def main() -> Counter[int]:
        found: Counter[int] = Counter()
        how: Any = {"kinds": ["withdraw"], "when": "before", "ack": True}
        async with (
            maestro.connect(address, component="consumer", asynchronous=True) as app,
            await app.subscribe("(has number)", **how) as events,
        ):
            told.put("ready")

            async def one(event: Any) -> None:
                cdo = app.declare(event.name)
                field = await cdo.demand()
                number = cdo.attributes["number"]
                if event.name == f"field-{number}" and np.all(field == number):
                    found[number] += 1
                await cdo.dispose()

            while sum(found.values()) < count:
                batch = await events.wait(timeout=60)
                if not batch:
                    break
                await asyncio.gather(*map(one, batch))
                await events.ack(batch)
        return found

    told.put(asyncio.run(main()))


async def bring_back(address: str, store: Path, count: int) -> None:
    """Stage and withdraw what is in an archive, some at a time."""
    turn = asyncio.Semaphore(AHEAD)
    async with (
        maestro.connect(address, component="librarian", asynchronous=True) as app,
        maestro.Librarian(app, store) as librarian,
    ):
        if len(librarian) != count:
            raise SystemExit(f"{len(librarian)} fields are in the archive, of {count}")

        async def one(name: str) -> None:
            async with turn:
                cdo = await librarian.stage(name)
                await cdo.withdraw()
                await cdo.dispose()

        await asyncio.gather(*map(one, librarian))


class Cost:
    """What a part of the work took: seconds, and processors' seconds of all processes."""

    def __init__(self, cluster: Any) -> None:
        self._workers = [psutil.Process(worker.pid) for worker in cluster.workers.values()]
        self._begun, self._before = perf_counter(), self._spent()

    def _spent(self) -> float:
        ended = sum(os.times()[:4])  # this process', and those of its own that have ended
        return ended + sum(sum(p.cpu_times()[:2]) for p in self._workers)

    def per(self, count: int) -> str:
        """How many of them a second, and what each took."""
        rate = count / (perf_counter() - self._begun)
        spent = (self._spent() - self._before) / count * 1e3
        return f"{rate:.0f} a second, {spent:.1f} ms of CPU each"

    def most(self) -> int:
        """Bytes that a worker had in memory at most, what it shares with others included."""
        files = [Path(f"/proc/{worker.pid}/status").read_text() for worker in self._workers]
        lines = [line for text in files for line in text.splitlines() if "VmHWM" in line]
        return max(int(line.split()[1]) << 10 for line in lines)


def fields(app: Any, cluster: Any, folder: Path, count: int, elements: int) -> None:
    """Bring many fields through an archive, and print how many a second."""
    store = folder / "fields"
    with maestro.Archiver(app, store, "(has number)") as archiver:
        cost = Cost(cluster)
        producer = SPAWN.Process(target=produce, args=(app.address, count, elements))
        producer.start()
        archiver.wait(count)
        producer.join()
        missed, archived = archiver.missed, cost.per(count)
    told = SPAWN.Queue()
    consumer = SPAWN.Process(target=consume, args=(app.address, count, told))
    consumer.start()
    told.get()
    cost = Cost(cluster)
    asyncio.run(bring_back(app.address, store, count))
    found = told.get()
    consumer.join()
    staged, most = cost.per(count), cost.most()
    lost = [number for number in range(count) if not found[number]]
    twice = [number for number, times in found.items() if times > 1]
    if lost or twice or missed or producer.exitcode:
        raise SystemExit(f"fields failed: lost {lost[:9]}, twice {twice[:9]}, missed {missed[:9]}")
    print(
        f"{count} fields of {in_units(elements * 8)}, none lost, none twice, {AHEAD} at a time"
        f" (a worker had at most {in_units(most)} in memory)\n"
        f"  into the archive (offered, told, saved, acknowledged, withdrawn): {archived}\n"
        f"  and back (staged, told, demanded, compared, acknowledged, withdrawn): {staged}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=16384, help="rows and columns of the array")
    parser.add_argument("--repeat", type=int, default=5, help="rounds that count; 0 for none")
    parser.add_argument("--fields", type=int, default=10_000, help="number of fields; 0 for none")
    parser.add_argument("--field-size", type=int, default=1 << 20, help="bytes of each of them")
    parser.add_argument("--directory", help="where the stores are; the temporary one by default")
    options = parser.parse_args()
    if options.size < 16 or options.size % NODES or options.repeat < 0 or options.fields < 0:
        parser.error(f"expected a --size of at least 16, a multiple of {NODES}")
    needed = 6 * options.size**2 * 8
    if options.repeat and needed > available_memory():
        parser.error(f"--size {options.size} needs {in_units(needed)} of memory")
    print(__doc__)
    print(machine("numpy", "dask", "distributed", "zarr"), end="\n\n")
    quiet = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
    workers = {"n_workers": NODES, "threads_per_worker": 1, "processes": True}
    with (
        dask.config.set(quiet),
        TemporaryDirectory(prefix="maestro-bench-", dir=options.directory) as folder,
        LocalCluster(**workers, dashboard_address="127.0.0.1:0") as cluster,
        maestro.connect(cluster, component="bench") as app,
    ):
        if options.repeat:
            whole = Whole(app, Path(folder), options.size)
            nbytes = whole.array.nbytes
            print(f"{in_units(nbytes)} in {NODES} nodes; {whole.form.layout.size} objects\n")
            written = rounds(whole.writers(), options.repeat)
            report(written, nbytes, ["zarr, in shards", "zarr, without"])
            print(f"Taken before writers wait for a disk: {in_units(whole.taken)} at least\n")
            report(rounds(whole.readers(), options.repeat), nbytes, ["from_zarr"])
        if options.fields:
            fields(app, cluster, Path(folder), options.fields, max(1, options.field_size // 8))


if __name__ == "__main__":
    main()
