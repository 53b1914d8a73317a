"""One redistribution, side by side: in one process, through the pool, by Dask, by ScaLAPACK.

copyto             `np.copyto` of as many bytes between arrays that have been written before: the
                   limit. With several threads each copies its share.
moves              the plan's moves alone, into parts that have been written before.
plan.execute       the same in new parts: planning, allocation and first touch of memory count.
pool               4 producers and 4 consumers (in 3-D --ranks of each), every rank a process, and 4
                   nodes (Dask workers).
                   offer: from the signal to all producers until the pool has the last part.
                   demand: from the signal to all consumers until the last has its part as an array
                   of its own, in its own process.
rechunk            4 Dask workers of one thread; the input lies in their memory, in the same blocks.
                   From the call, building the graph included, until all new chunks are there.
                   p2p keeps what is under way on disk, which is its default, or in memory.
pdgemr2d           ScaLAPACK's, where it is installed: 4 MPI processes, each with both its parts in
                   memory that has been written before. From the signal until the last has
                   returned. It knows parts by columns only: "+ NumPy" has those by rows turned by
                   NumPy first.

Pool and rechunk have clusters of their own, both with Dask's profiler off and its monitors slowed.
Every contender runs once before anything counts, and what it gives is compared with what it must
be. Then all take turns, in another order in each round, each running twice: the second run counts,
so that what others have left in the caches does not. All of them hold 14 times the array at once;
with --apart copies, moves, pool and peers come one after the other, and 5 times is enough. Shown
are the median and the extremes over the rounds; GB/s counts bytes read plus bytes written; ratios
are medians of the rounds' ratios: "limit" is the share of what copyto reaches with one thread, the
others say how many times as fast as that peer. Below that stand the bars: the share of another's
time that the demand may take, and the memory that a rank may take beside its part: the configured
buffers and a tenth.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from time import perf_counter, sleep
from typing import Any

import dask
import numbering
import numpy as np
from distributed import Client, LocalCluster, wait
from measure import Timing, available_memory, in_units, machine, table, usable_cpus
from ranks import Ranks
from scalapack_ranks import ScalapackRanks, is_there

import kernels
from layouts import BlockCyclic, Distribution, Plan, plan
from maestro import connect
from maestro.config import get_bytes

NODES = 4
#: What all contenders of a case hold at once, or those of one team, in array sizes.
COPIES, COPIES_APART = 14, 5
#: What the processes of a cluster take, and that of one rank, in bytes.
CLUSTER, RANK = 1 << 30, 100 << 20
FAILED = "failed"
DEMAND = "pool, demand"
#: Eight idle workers take a fifth of a core from whoever's turn it is; with this, a twentieth.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}


@dataclass(frozen=True)
class Case:
    """What is moved: by Dask in the same blocks as by the pool's ranks, or else by ScaLAPACK."""

    name: str
    plan: Plan
    share: float  # of a peer's time, which the pool's demand may take
    chunks: tuple[tuple[int, ...], tuple[int, ...]] | None = None  # Dask's, before and after

    @property
    def shape(self) -> tuple[int, ...]:
        return self.plan.source.shape

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * 8


def cases(size: int, ranks: int) -> Iterator[Case]:
    """Of ``size`` x ``size``, and about as many elements in 3-D, there with so many ranks."""
    shape = size, size
    fine, coarse = (BlockCyclic(64),) * 2, (BlockCyclic(256),) * 2
    yield Case(
        "block-cyclic 64 to 256, grid 2x2, by columns",
        plan(
            Distribution(shape, (2, 2), fine, order="F"),
            Distribution(shape, (2, 2), coarse, order="F"),
        ),
        0.2,
    )
    yield Case(
        "block-cyclic 64 to 256, grid 2x2 to 4x1, rows to columns in memory",
        plan(
            Distribution(shape, (2, 2), fine),
            Distribution(shape, (4, 1), coarse, order="F"),
        ),
        0.3,
    )
    cut = -(-size // NODES)
    yield Case(
        "2-D, rows to columns",
        plan(Distribution(shape, (NODES, 1)), Distribution(shape, (1, NODES))),
        0.15,
        ((cut, size), (size, cut)),
    )
    edge = round(size ** (2 / 3))
    deep = 1 if ranks < 8 else 2
    grid = ranks // (2 * deep), 2, deep
    before = -(-edge // 4)
    after = next(b for b in range(edge * 19 // 100, 0, -1) if math.gcd(b, before) == 1)
    kinds = [(BlockCyclic(block),) * 3 for block in (before, after)]
    yield Case(
        f"3-D, blocks of {before}³ to blocks of {after}³",
        plan(
            Distribution((edge,) * 3, grid, kinds[0]),
            Distribution((edge,) * 3, grid[::-1], kinds[1]),
        ),
        0.15,
        ((before,) * 3, (after,) * 3),
    )


class Venue:
    """Clusters and processes for all cases, each started at first use."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._ranks: dict[tuple[str, int], Ranks] = {}

    def _cluster(self) -> LocalCluster:
        return self._stack.enter_context(
            LocalCluster(
                n_workers=NODES,
                threads_per_worker=1,
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": ":0"},  # or it warns that 8787 is in use
                silence_logs=logging.CRITICAL,  # p2p warns of each of its runs
            )
        )

    @cached_property
    def address(self) -> str:
        """Of the pool."""
        return self._stack.enter_context(connect(self._cluster())).address

    def ranks(self, side: str, size: int) -> Ranks:
        """So many producers or consumers."""
        if (side, size) not in self._ranks:
            ranks = self._ranks[side, size] = Ranks(self.address, size, side)
            self._stack.callback(ranks.close)
        return self._ranks[side, size]

    @cached_property
    def scalapack(self) -> ScalapackRanks:
        """MPI processes."""
        ranks = ScalapackRanks(NODES)
        self._stack.callback(ranks.close)
        return ranks

    @cached_property
    def workers(self) -> Client:
        """A client of Dask workers."""
        return self._stack.enter_context(Client(self._cluster()))

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        return self._stack.enter_context(ThreadPoolExecutor(usable_cpus()))


class Stage:
    """What the contenders of one case share, each made at first use."""

    def __init__(self, case: Case, venue: Venue) -> None:
        self.case = case
        self.results: list[Any] = []  # of the last rechunk, by whichever method
        self.moved: list[tuple[int, int]] = []  # bytes and messages of the last demand, by rank
        self._venue = venue

    @property
    def threads(self) -> ThreadPoolExecutor:
        return self._venue.threads

    @property
    def workers(self) -> Client:
        return self._venue.workers

    @cached_property
    def source(self) -> list[np.ndarray]:
        """The source's parts in this process."""
        layout = self.case.plan.source
        return [numbering.part(layout, rank) for rank in range(layout.size)]

    @cached_property
    def target(self) -> list[np.ndarray]:
        """The target's parts in this process, written once: their memory is there."""
        layout = self.case.plan.target
        return [np.full_like(layout.empty(rank, "f8"), -1) for rank in range(layout.size)]

    @cached_property
    def flat(self) -> tuple[np.ndarray, np.ndarray]:
        """Two flat arrays of as many bytes."""
        return np.zeros(self.case.nbytes // 8) + 1, np.zeros(self.case.nbytes // 8) + 2

    @cached_property
    def ranks(self) -> tuple[Ranks, Ranks]:
        """Producers, who have their parts, and consumers."""
        way = self.case.plan
        producers = self._venue.ranks("producer", way.source.size)
        consumers = self._venue.ranks("consumer", way.target.size)
        consumers.each("take_on", self.case.name, self.case.plan.target)
        producers.each("take_on", self.case.name, self.case.plan.source)
        return producers, consumers

    @cached_property
    def scalapack(self) -> ScalapackRanks:
        """MPI processes that have their parts."""
        self._venue.scalapack.each("take_on", self.case.plan.source, self.case.plan.target)
        return self._venue.scalapack

    @cached_property
    def persisted(self) -> Any:
        """The input, in the workers' memory."""
        array = self.workers.persist(numbering.dask_array(self.case.shape, self.case.chunks[0]))
        wait(array)
        return array


@dataclass
class Contender:
    """One way to do it.

    Attributes
    ----------
    name : str
        As in the table.
    run : callable
        Does it once; returns the seconds that count.
    check : callable
        Compares what the last run gave with what it must be; raises ArithmeticError.
    seconds : list of float
        One for each round that counts.
    failure : str
        Why it could not, or nothing.
    is_peer : bool
        Whether it is another way than ours.
    """

    name: str
    run: Callable[[], float]
    check: Callable[[], object] = lambda: None
    seconds: list[float] = field(default_factory=list)
    failure: str = ""
    is_peer: bool = False

    def retire(self) -> None:
        """Let go of all that it worked on."""
        del self.run, self.check

    def turn(self, counts: bool = True, check: bool = False) -> None:
        """Run once, unless it has failed before."""
        if self.failure:
            return
        try:
            seconds = self.run()
            if counts:
                self.seconds.append(seconds)
            if check:
                self.check()
        except ArithmeticError:
            raise  # a wrong result is no result
        except Exception as error:
            self.failure = f"{FAILED}: {type(error).__name__}: {error}".splitlines()[0][:300]


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes; what it returns is dropped outside of them."""
    begun = perf_counter()
    result = work()
    seconds = perf_counter() - begun
    del result
    return seconds


def copying(stage: Stage, threads: int) -> Contender:
    """The limit."""

    def run() -> float:
        source, target = stage.flat
        if threads == 1:
            return timed(lambda: np.copyto(target, source))
        pairs = zip(np.array_split(target, threads), np.array_split(source, threads), strict=True)
        return timed(lambda: list(stage.threads.map(lambda pair: np.copyto(*pair), pairs)))

    return Contender(f"copyto, {_threads(threads)}", run)


def moving(stage: Stage, threads: int) -> Contender:
    """The plan's moves, into memory that is there."""
    way = stage.case.plan

    def work() -> None:
        moves = [
            (part, stage.source[source], pieces)
            for rank, part in enumerate(stage.target)
            for source, pieces in way.incoming(rank)
        ]
        kernels.move_all(moves, threads)

    def run() -> float:
        _ = stage.source, stage.target
        return timed(work)

    def check() -> None:
        for rank, part in enumerate(stage.target):
            numbering.check(way.target, rank, part)

    return Contender(f"moves, {_threads(threads)}", run, check)


def executing(stage: Stage, threads: int) -> Contender:
    """`Plan.execute`."""
    way = stage.case.plan

    def run() -> float:
        parts = stage.source
        return timed(lambda: way.execute(parts, threads=threads))

    def check() -> None:
        for rank, part in enumerate(way.execute(stage.source, threads=threads)):
            numbering.check(way.target, rank, part)

    return Contender(f"plan.execute, {_threads(threads)}", run, check)


def offering(stage: Stage) -> Contender:
    """The producers' side; what they offered before leaves the pool first."""

    def run() -> float:
        producers, _ = stage.ranks
        producers.each("declare")
        return producers.each("offer")[0]

    return Contender("pool, offer", run)


def demanding(stage: Stage, offer: Contender) -> Contender:
    """The consumers' side."""

    def run() -> float:
        if offer.failure:
            raise RuntimeError("there is nothing to demand")
        _, consumers = stage.ranks
        consumers.each("declare")
        seconds, stage.moved = consumers.each("demand")
        return seconds

    return Contender(DEMAND, run, lambda: stage.ranks[1].each("check"))


def rechunking(stage: Stage, method: str, disk: bool) -> Contender:
    """Dask's own way."""
    results = stage.results

    def rechunk() -> None:
        with dask.config.set({"distributed.p2p.storage.disk": disk}):
            array = stage.persisted.rechunk(stage.case.chunks[1], method=method)
            results.append(stage.workers.persist(array))
        wait(results[0])
        failed = [f for f in stage.workers.futures_of(results[0]) if f.status != "finished"]
        if failed:
            raise RuntimeError(f"{len(failed)} chunks are {failed[0].status}")

    def run() -> float:
        results.clear()
        keep = stage.persisted.npartitions
        # The last result must be gone: one of the same name would leave nothing to do.
        until = perf_counter() + 60
        while stage.workers.run_on_scheduler(_count_tasks) > keep:
            if perf_counter() > until:
                raise TimeoutError("the workers do not drop the last result")
            sleep(0.01)
        return timed(rechunk)

    def check() -> None:
        wanted = numbering.dask_array(stage.case.shape, stage.case.chunks[1])
        same = (results[0] == wanted).all() & (results[0].chunks == wanted.chunks)
        if not stage.workers.compute(same, sync=True):
            raise ArithmeticError(f"rechunk with {method}: the result is wrong")

    where = f", {'disk' if disk else 'memory'}" if method == "p2p" else ""
    return Contender(f"rechunk, {method}{where}", run, check, is_peer=True)


def scalapack(stage: Stage, turned: bool) -> Contender:
    """`pdgemr2d`, or it after a change of order."""

    def run() -> float:
        ranks = stage.scalapack
        before = ranks.each("turn")[0] if turned else 0.0
        return before + ranks.each("redistribute")[0]

    name = "pdgemr2d + NumPy" if turned else "pdgemr2d"
    return Contender(name, run, lambda: stage.scalapack.each("check"), is_peer=True)


def copies(stage: Stage) -> list[Contender]:
    """The limits."""
    return [copying(stage, threads) for threads in sorted({1, usable_cpus()})]


def moves(stage: Stage) -> list[Contender]:
    """The plan in this process."""
    threads = 1, 2
    return [moving(stage, n) for n in threads] + [executing(stage, n) for n in threads]


def pool(stage: Stage) -> list[Contender]:
    """The plan between processes."""
    offer = offering(stage)
    return [offer, demanding(stage, offer)]


def peers(stage: Stage) -> list[Contender]:
    """Who else can do it, and is installed."""
    if stage.case.chunks is not None:
        p2p = [rechunking(stage, "p2p", disk) for disk in (True, False)]
        return [rechunking(stage, "tasks", disk=True), *p2p]
    if not is_there():
        print("pdgemr2d: ScaLAPACK is not installed (Debian's libscalapack-openmpi-dev)\n")
        return []
    by_rows = stage.case.plan.source.order == "C"
    return [scalapack(stage, turned) for turned in ([False, True] if by_rows else [False])]


def _count_tasks(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


def _threads(number: int) -> str:
    return f"{number} thread{'' if number == 1 else 's'}"


#: Who shares what lies in memory: what `--teams` chooses from.
TEAMS = {"moves": moves, "pool": pool, "peers": peers}


def race(case: Case, venue: Venue, options: argparse.Namespace) -> None:
    """Let the contenders of a case take turns, and print what they took."""
    print(f"\n{case.name}, f8, {in_units(case.nbytes)}")
    print(case.plan.explain(), end="\n\n")
    teams = [copies, *(TEAMS[name] for name in options.teams)]
    contenders: list[Contender] = []
    notes: list[str] = []
    for together in [[team] for team in teams] if options.apart else [teams]:
        with contextlib.ExitStack() as own:
            stage = Stage(case, Venue(own) if options.apart else venue)
            running = [contender for team in together for contender in team(stage)]
            take_turns(running, options.repeat)
            notes += [brought(stage), peaks(stage)] if stage.moved else []
            contenders += running
        for contender in running:
            contender.retire()
        del stage
    others = [each for each in contenders if each.is_peer]
    head = ["what", "median ms", "min - max", "GB/s", "limit"]
    head += [f"x {peer.name.removeprefix('rechunk, ')}" for peer in others]
    print(table(head, (cells(each, case, [contenders[0], *others]) for each in contenders)))
    for contender in contenders:
        if contender.failure:
            print(f"{contender.name}: {contender.failure}")
    bars(case, contenders, others)
    print("", *notes, sep="\n")


def take_turns(contenders: list[Contender], repeat: int) -> None:
    """Let each run once, to be checked, then so many times."""
    for contender in contenders:
        contender.turn(counts=False, check=True)
    for number in range(repeat):
        # In another order each time. Who comes next finds memory and caches as the one before has
        # left them, so the first run of each turn does not count.
        for contender in Random(number).sample(contenders, len(contenders)):
            contender.turn(counts=False)
            contender.turn()


def bars(case: Case, contenders: list[Contender], others: list[Contender]) -> None:
    """What the demand is to reach, and whether it does."""
    demand = next((each for each in contenders if each.name == DEMAND and not each.failure), None)
    if demand is None:
        return
    copy = contenders[1 if usable_cpus() > 1 else 0]  # one pass per core
    met = [other for other in others if not other.failure]
    if case.chunks is not None:  # the better of them is what counts
        met = sorted(met, key=lambda other: statistics.median(other.seconds))[:1]
    rows = [_against(demand, copy, 1 / 0.6)]
    rows += [_against(demand, other, case.share) for other in met]
    print()
    print(table(["demand's time against", "share", "bar", ""], rows))


def _against(demand: Contender, other: Contender, bar: float) -> list[str]:
    pairs = zip(demand.seconds, other.seconds, strict=True)
    share = statistics.median(ours / theirs for ours, theirs in pairs)
    return [other.name, f"{share:.2f}", f"<= {bar:.2f}", "" if share <= bar else "not met"]


def brought(stage: Stage) -> str:
    """What the demands moved."""
    total, messages = (sum(column) for column in zip(*stage.moved, strict=True))
    return f"The pool's demands brought {in_units(total)} in {messages} messages."


def peaks(stage: Stage) -> str:
    """What a demand takes of memory beside the part, in one more run that is not timed."""
    _, consumers = stage.ranks
    consumers.each("declare")
    above = max(consumers.each("demand_in_bounds")[1])
    bar = int(1.1 * get_bytes("transfer.in-flight"))
    verdict = "" if above <= bar else ", not met"
    found = f"A rank's memory beside its part, at most: {in_units(max(above, 0))}"
    return f"{found} (bar: {in_units(bar)}{verdict})"


def cells(contender: Contender, case: Case, references: list[Contender]) -> list[str]:
    """One line of the table."""
    if contender.failure:
        return [contender.name, FAILED, *[""] * (2 + len(references))]
    timing = Timing(tuple(contender.seconds))
    rate = 2 * case.nbytes / timing.median / 1e9
    ratios = [_ratio(reference, contender) for reference in references]
    return [contender.name, f"{timing.median * 1e3:,.1f}", timing.spread, f"{rate:.2f}", *ratios]


def _ratio(reference: Contender, contender: Contender) -> str:
    """How many times as fast as the reference, in the median of the rounds."""
    if reference.failure:
        return ""
    rounds = zip(reference.seconds, contender.seconds, strict=True)
    return f"{statistics.median(theirs / ours for theirs, ours in rounds):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--size",
        type=int,
        default=8192,
        help="rows and columns of the 2-D array: 8192 for 0.5 GiB, 23170 for 4 GiB",
    )
    parser.add_argument("--repeat", type=int, default=5, help="rounds that count")
    parser.add_argument("--ranks", type=int, default=NODES, help="in 3-D: 4, or 16, for example")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--teams", nargs="+", choices=list(TEAMS), default=list(TEAMS))
    parser.add_argument(
        "--apart", action="store_true", help="one team after the other: takes less memory"
    )
    options = parser.parse_args()
    if options.size < 16 or options.repeat < 1:
        parser.error("expected a --size of at least 16 and a --repeat of at least 1")
    if options.ranks < 2 or options.ranks % (2 if options.ranks < 8 else 4):
        parser.error("expected --ranks to be 2, 4, 6, or a multiple of 4")
    times, clusters = (COPIES_APART, 1) if options.apart else (COPIES, 2)
    need = times * 8 * options.size**2 + clusters * CLUSTER + 2 * options.ranks * RANK
    have = available_memory()
    if need > have:
        parser.error(
            f"--size {options.size} needs {in_units(need)} of memory, {in_units(have)} are free"
        )
    print(__doc__)
    print(machine("numpy", "numba", "dask", "distributed"))
    with dask.config.set(QUIET), contextlib.ExitStack() as stack:
        venue = Venue(stack)
        for case in cases(options.size, options.ranks):
            if options.only in case.name:
                race(case, venue, options)


if __name__ == "__main__":
    main()
