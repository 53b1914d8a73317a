"""What is said for one small CDO: from one app to another, and in a pool of very many.

Manager, node and apps are processes of their own on this machine; the apps are blocking.

offer, demand    One app offers 1 KiB, then another demands it, each call timed where it is made;
                 their sum is what counts. `demand` declares and disposes as well.
  waiting        The other app demands before it is offered: from the call of `offer` to the
                 return of `demand`.
  ahead          The other app has required it eagerly, and it has moved: the demand alone.
full pool        What an offer of 1 KiB costs while --size other CDOs are in the pool, against an
                 empty one, before and after.
block            The longest time that the manager's event loop did nothing else while such calls
                 were made, by the clock, and of a core's time: there are more processes than cores.

Limits           bare words   Dask's RPC to scheduler or node, one round trip
                 planning     `layouts.plan` from a whole array to a whole array, and its pieces
                 thread hop   to the client's event loop and back, doing nothing there
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

import numpy as np
from apps import Pool
from events import limits, timings
from measure import Timing, machine, table

from layouts import Distribution, plan
from maestro.transport.transfer import shares

WARM = 0.1  # of the rounds, those that are not yet


def planning() -> None:
    """What is planned for a whole array that is wanted as it lies."""
    whole = Distribution((128,))
    shares(plan(whole, Distribution((128,))), 8, ["node"], [0])


def offers_and_demands(pool: Pool, repeat: int) -> tuple[list[Timing], Timing, Timing]:
    """Each after the other: offer, demand, both; to a demand that waits; moved ahead of it."""
    producer, consumer = pool.apps(), pool.apps()
    taken, waiting, ahead = [], [], []
    for number in range(50 * repeat):
        (offer,) = producer.each("offer", f"one-{number}")[1]
        ((demand, _),) = consumer.each("demand", f"one-{number}")[1]
        producer.each("take_back")
        taken.append((offer, demand, offer + demand))
    for number in range(50 * repeat):
        consumer.begin("demand", f"two-{number}")
        producer.each("is_awaited", f"two-{number}")
        (begun,) = producer.each("now")[1]
        producer.each("offer", f"two-{number}")
        ((_, ended),) = consumer.answers("demand")
        producer.each("take_back")
        waiting.append(ended - begun)
    for number in range(50 * repeat):
        consumer.each("require_eagerly", f"three-{number}")
        producer.each("offer", f"three-{number}")
        producer.each("take_back")  # by then it has moved
        ahead += consumer.each("demand_required")[1]
    first = int(len(taken) * WARM)
    columns = [Timing(tuple(column)) for column in zip(*taken[first:], strict=True)]
    return columns, Timing(tuple(waiting[first:])), Timing(tuple(ahead[first:]))


def full_pool(pool: Pool, size: int, repeat: int) -> list[Timing]:
    """What an offer costs in an empty pool, in a full one, and in one that is empty again."""
    producer, many = pool.apps(), pool.pipelining()
    count = 50 * repeat

    def offers(prefix: str) -> Timing:
        (seconds,) = producer.each("offer_each", [f"{prefix}{n}" for n in range(count)], True)[1]
        return Timing(tuple(seconds[int(count * WARM) :]))

    before = offers("before")
    many.each("offer_many", "one of very many ", size, 100)
    full = offers("full")
    many.each("take_back", 100)
    return [before, full, offers("after")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=100_000, help="CDOs of the full pool")
    parser.add_argument("--repeat", type=int, default=7, help="times 50 rounds")
    options = parser.parse_args()
    if min(options.size, options.repeat) < 1:
        parser.error("expected --size and --repeat of at least 1")
    print(__doc__)
    print(machine("numpy", "dask", "distributed", "tornado"), end="\n\n")
    with ExitStack() as stack:
        pool = Pool(stack)
        known = limits(pool, stack, options.repeat)
        (offer, demand, both), waiting, ahead = offers_and_demands(pool, options.repeat)
        pool.watch()
        offers_and_demands(pool, 1)
        block = pool.longest_block()
        pool.watch()
        before, full, after = full_pool(pool, options.size, options.repeat)
        full_block = pool.longest_block()
    known["planning"] = timings(50 * options.repeat, planning)
    rows = [[name, f"{t.median * 1e3:.2f} ms", t.spread] for name, t in known.items()]
    print(table(["limits", "median", "min - max"], rows), end="\n\n")
    empty = float(np.mean([before.median, after.median]))
    measured = {
        "offer": (offer, ""),
        "demand": (demand, ""),
        "offer, then demand": (both, "<= 3 ms"),
        "offer to a demand that waits": (waiting, ""),
        "demand of what has moved ahead": (ahead, ""),
        "offer, empty pool": (before, ""),
        f"offer, {options.size:,} CDOs in the pool": (full, ""),
        "offer, empty again": (after, ""),
    }
    rows = [[n, f"{t.median * 1e3:.2f} ms", t.spread, bar] for n, (t, bar) in measured.items()]
    rows += [
        ["full against empty", f"{full.median / empty:.2f} x", "", "<= 1.5 x"],
        ["manager's loop, longest block", *block.cells(), "<= 50 ms"],
        ["  with the pool filled and emptied", *full_block.cells(), ""],
    ]
    print(table(["what", "median", "min - max", "bar"], rows))


if __name__ == "__main__":
    main()
