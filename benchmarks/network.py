"""The way between hosts, against the bare connection: nodes and apps in processes of their own.

Apps and nodes are told that they share no host, so all goes over tcp on this machine's loopback
device: what crosses it crosses a network elsewhere.

bare comm          As many bytes over one Dask comm between two processes, in frames of our size,
                   each byte from a place of its own, as in an array: nothing is packed, unpacked
                   or looked at. The best of several sizes is shown as well.
limit              `np.copyto` of as many bytes, in memory that has been written before.
fetch              One rank of two is fetched from a node into memory that has been written before:
                   planning, packing and unpacking count. This is what compares with the bare comm,
                   which drops what it receives.
  same cut         the parts are sent as they lie
  rows to columns  halves of rows are sent as they lie
  reversed         ... and transposed where they come: column-major from row-major
demand             The same as an app does it: into a new array, whose first touch counts too, with
                   all that is said to the pool manager.
offer              An app offers the array, copied into the node's memory.
small              Four messages of 150 kB from four nodes: from knowing where they are to having
                   them, so what is not bytes.

All take turns, in another order in each round; ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from time import perf_counter
from typing import Any

import dask
import numbering
import numpy as np
from distributed import LocalCluster
from distributed.comm import connect, listen
from distributed.protocol.serialize import to_serialize
from measure import Timing, in_units, machine, table

from layouts import Block, Distribution
from maestro import connect as join
from maestro.config import get_bytes
from maestro.transport.transfer import Source, Whereabouts, fetch

SPAWN = multiprocessing.get_context("spawn")
SIZES = [1 << power for power in range(18, 27, 2)]


def send_frames(addresses: Any) -> None:
    """A process that sends what it is asked for, and does nothing else."""

    async def handle(comm: Any) -> None:
        array = np.ones(max(SIZES), np.uint8)
        while True:
            try:
                size, total = await comm.read()
            except OSError:
                return
            if len(array) < total:
                array = np.ones(total, np.uint8)
            for offset in range(0, total, size):
                frame = array[offset : min(offset + size, total)]
                await comm.write({"data": to_serialize(frame)})

    async def main() -> None:
        async with listen("tcp://127.0.0.1:0", handle) as listener:
            addresses.put(listener.contact_address)
            await asyncio.Event().wait()

    asyncio.run(main())


@contextmanager
def bare_comm() -> Iterator[Callable[[int, int], float]]:
    """A function that receives so many bytes in frames of such a size, and gives the seconds."""
    addresses = SPAWN.Queue()
    sender = SPAWN.Process(target=send_frames, args=(addresses,), daemon=True)
    sender.start()
    with asyncio.Runner() as runner:
        comm = runner.run(connect(addresses.get(timeout=60)))

        async def receive(total: int, size: int) -> float:
            begun = perf_counter()
            await comm.write([size, total])
            got = 0
            while got < total:
                got += (await comm.read())["data"].nbytes
            return perf_counter() - begun

        try:
            yield lambda total, size: runner.run(receive(total, size))
        finally:
            comm.abort()
            sender.kill()
            sender.join()


def timed(work: Callable[[], Any], check: Callable[[Any], None] | None = None) -> float:
    """Seconds for the work; what it gives is checked, or dropped, outside of them."""
    begun = perf_counter()
    result = work()
    seconds = perf_counter() - begun
    if check is not None:
        check(result)
    return seconds


def contenders(
    stack: ExitStack, side: int
) -> tuple[dict[str, Callable[[], float]], dict[str, int]]:
    """What takes turns, by name: each gives its seconds. And the bytes of each."""
    options = {"threads_per_worker": 1, "dashboard_address": None, "processes": True}
    scheduler = {"scheduler_kwargs": {"dashboard_address": ":0"}}
    one = stack.enter_context(LocalCluster(n_workers=1, **options, **scheduler))
    four = stack.enter_context(LocalCluster(n_workers=4, **options, **scheduler))
    app, small = stack.enter_context(join(one)), stack.enter_context(join(four))
    receive = stack.enter_context(bare_comm())

    shape = side, side
    whole, rows = Distribution(shape), Distribution(shape, (2, 1))
    columns = Distribution(shape, (1, 2))
    reverse = Distribution(shape, (1, 2), (Block(), Block()), "F")
    array = numbering.part(whole, 0)
    app.offer("field", array)
    piece = Distribution((4, 137, 137), (4, 1, 1))
    pieces = numbering.part(Distribution(piece.shape), 0)
    small.offer("small", piece.split(pieces), piece)
    named = app.pool["field"]
    what = Source("field", named.version, whole, array.dtype)
    flat = np.zeros(array.nbytes // 8) + 1, np.zeros(array.nbytes // 8) + 2
    few = small.declare("small")
    number_of_runs: dict[Distribution, int] = {}
    handles = [app.declare("field", d, rank=1) for d in (rows, columns, reverse)]

    def demanding(handle: Any) -> Callable[[], float]:
        def check(part: Any) -> None:
            numbering.check(handle.distribution, 1, part)

        return lambda: timed(handle.demand, check if not handle.report else None)

    def offering() -> float:
        handle = app.declare("other", whole)
        seconds = timed(lambda: handle.offer([array]))
        handle.withdraw()
        handle.dispose()
        return seconds

    def fetching(target: Distribution) -> Callable[[], float]:
        part = target.empty(1, array.dtype)
        part[...] = -1

        async def bring() -> None:
            link = app._link
            parts = {1: part}
            where = Whereabouts(named.nodes)
            await fetch(link.ways, what, where, target, parts, lambda rank: None)
            if number_of_runs[target] == 0:
                numbering.check(target, 1, part)
            number_of_runs[target] += 1

        number_of_runs[target] = 0
        return lambda: timed(lambda: app._link.run(bring))

    def demand_small() -> float:
        few.demand()
        return few.report.seconds

    half, chunk = array.nbytes // 2, get_bytes("transfer.chunk")
    work: dict[str, Callable[[], float]] = {
        "limit": lambda: timed(lambda: np.copyto(flat[0][: half // 8], flat[1][: half // 8])),
        "bare comm": lambda: receive(half, chunk),
        **{
            f"bare comm, {in_units(size)}": lambda size=size: receive(half, size)
            for size in SIZES
            if size != chunk
        },
        "fetch, same cut": fetching(rows),
        "fetch, rows to columns": fetching(columns),
        "fetch, reversed": fetching(reverse),
        "demand, same cut": demanding(handles[0]),
        "demand, rows to columns": demanding(handles[1]),
        "demand, reversed": demanding(handles[2]),
        "offer": offering,
        "small": demand_small,
    }
    return work, {**dict.fromkeys(work, half), "offer": array.nbytes, "small": pieces.nbytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of the array")
    parser.add_argument("--repeat", type=int, default=9, help="rounds that count")
    options = parser.parse_args()
    if options.size < 16 or options.repeat < 1:
        parser.error("expected a --size of at least 16 and a --repeat of at least 1")
    print(__doc__)
    print(machine("numpy", "dask", "distributed", "tornado"), end="\n\n")
    quiet = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
    apart = {"maestro.transfer.same-host": False}
    with dask.config.set({**quiet, **apart}), ExitStack() as stack:
        work, sizes = contenders(stack, options.size)
        seconds: dict[str, list[float]] = {name: [] for name in work}
        for number in range(-1, options.repeat):
            for name in Random(number).sample(list(work), len(work)):
                took = work[name]()
                if number >= 0:
                    seconds[name].append(took / sizes[name])
    best = min(
        (name for name in work if name.startswith("bare")),
        key=lambda name: statistics.median(seconds[name]),
    )

    def ratio(name: str, reference: str) -> str:
        pairs = zip(seconds[reference], seconds[name], strict=True)
        return f"{statistics.median(theirs / ours for theirs, ours in pairs):.2f}"

    rows = []
    for name, taken in seconds.items():
        timing = Timing(tuple(per_byte * sizes[name] for per_byte in taken))
        rate = f"{1e-9 / statistics.median(taken):.2f}"
        rows.append(
            [name, in_units(sizes[name]), f"{timing.median * 1e3:.1f}", timing.spread, rate]
            + [ratio(name, reference) for reference in ("bare comm", best, "limit")]
        )
    head = ["what", "bytes", "median ms", "min - max", "GB/s", "x bare comm", "x best", "x limit"]
    print(table(head, rows))
    print(f"\nGB/s counts the bytes of the array once. The best of the bare comms: {best}.")


if __name__ == "__main__":
    main()
