"""Events and control: how many a second, and how long from one program to another.

Manager, node, producer and subscribers are processes of their own on this machine. What is
published are offers of CDOs without data, with five attributes; every subscriber is an app in its
own process, and each event that it gets was selected by ``(and (.bench.param = 130) (.bench.step >=
0))``.

delivered     One producer, ten subscribers: events delivered in all, per second from the first
              offer to the last event at the last subscriber. The producer is an asynchronous app
              that offers --at-once CDOs at a time with `asyncio.gather`. First the subscribers ask
              for offers only; then for everything, three events for each offer.
latency       From the call of `App.offer` in the one process to the return of
              `Subscription.wait` in the other.
publishing    What an offer costs the producer while one subscription or a thousand are there, of
              different selectors, one of which selects it.
chain         1 KiB is offered; the subscriber gets the event, requires, demands and acknowledges:
              from the call of `offer` to the return of `ack`.
block         The longest time that the manager's event loop did nothing else while all this ran, by
              the clock, and of a core's time: there are more processes than cores.

Limits        Dask's RPC    one round trip to the scheduler over the client's pool of connections
              bare comm     one round trip of 200 bytes over one Dask comm
              thread hop    to the client's event loop and back, doing nothing there
              msgpack       packing and unpacking as many events, each once, on one core
"""

from __future__ import annotations

import argparse
import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from typing import Any

from apps import PARAM, STEP, Pool, quiet_client
from distributed.comm import connect, listen
from measure import Timing, machine, table
from ranks import Processes, serve

from maestro.events import Event, pack, unpack

SUBSCRIPTIONS = 1000
SELECTOR = f"(and ({PARAM} = 130) ({STEP} >= 0))"
EVENT = Event(
    *(123456, "offer", "t2m-123456", "pipelining-01234567", 1.7e9),
    {
        ".maestro.core.cdo.name": "t2m-123456",
        ".maestro.core.cdo.scope.local-size": 0,
        PARAM: 130,
        STEP: 6,
    },
    {"version": 123456},
)


def timings(count: int, work: Callable[[], Any]) -> Timing:
    """How long the work takes, so many times."""
    seconds = []
    for _ in range(count):
        begun = perf_counter()
        work()
        seconds.append(perf_counter() - begun)
    return Timing(tuple(seconds))


def limits(pool: Pool, stack: ExitStack, repeat: int) -> dict[str, Timing]:
    """What no call can be quicker than."""
    count = 100 * repeat
    echo = Processes(1, _echo)
    stack.callback(echo.close)
    ((address),) = echo.each("address")[1]
    with quiet_client(pool.address) as client:
        loop = client.loop.asyncio_loop

        def hop() -> None:
            done = threading.Lock()
            done.acquire()
            loop.call_soon_threadsafe(done.release)
            done.acquire()

        async def rpcs() -> Timing:
            return await _timings(count, client.scheduler.echo, data="x" * 200)

        async def comms() -> Timing:
            comm = await connect(address)
            try:
                return await _timings(count, _round_trip, comm)
            finally:
                comm.abort()

        return {
            "Dask's RPC": client.sync(rpcs),
            "bare comm": client.sync(comms),
            "thread hop": timings(count, hop),
        }


async def _timings(count: int, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Timing:
    seconds = []
    for _ in range(count):
        begun = perf_counter()
        await work(*args, **kwargs)
        seconds.append(perf_counter() - begun)
    return Timing(tuple(seconds))


async def _round_trip(comm: Any) -> None:
    await comm.write(bytes(200))
    await comm.read()


def _echo(line: Any, number: int) -> None:
    """A process that sends back what it gets."""

    class Address:
        def address(self) -> str:
            return str(where.contact_address)

    async def handle(comm: Any) -> None:
        while True:
            try:
                await comm.write(await comm.read())
            except OSError:
                return

    async def main() -> None:
        nonlocal where
        async with listen("tcp://127.0.0.1:0", handle) as where:
            await asyncio.to_thread(serve, line, Address())

    where: Any = None
    asyncio.run(main())


def packing(count: int) -> Callable[[], None]:
    """Pack and unpack so many events, each once."""

    def work() -> None:
        batch = b"".join(pack(EVENT) for _ in range(count))
        for _ in unpack(batch):
            pass

    return work


class Bench:
    """One pool and the programs that talk there."""

    def __init__(self, stack: ExitStack, options: argparse.Namespace) -> None:
        self.pool = Pool(stack)
        self.repeat, self.events = options.repeat, options.size
        self.at_once, self.listeners = options.at_once, options.subscribers
        self.producer, self.consumer = self.pool.apps(), self.pool.apps()
        self.bystander = self.pool.apps()
        self.many = self.pool.pipelining()
        self.subscribers = self.pool.apps(self.listeners)
        self._names = 0

    def names(self, count: int) -> list[str]:
        self._names += count
        return [f"cdo-{self._names - n}" for n in range(count)]

    def delivered(self, kinds: Any, per_offer: int) -> Timing:
        """Seconds for each event that was delivered, for each round."""
        self.subscribers.each("subscribe", [SELECTOR], kinds)
        rates = []
        for number in range(-1, self.repeat):
            self.subscribers.begin("count_events", self.events * per_offer)
            arguments = f"many-{kinds}-{number}-", self.events, self.at_once
            ((begun, _),) = self.many.each("offer_many", *arguments)[1]
            ended = max(self.subscribers.answers("count_events"))
            if number >= 0:
                rates.append((ended - begun) / (self.events * per_offer * self.listeners))
            self.subscribers.each("subscribe", [], kinds)
            self.many.each("take_back", self.at_once)
            self.subscribers.each("subscribe", [SELECTOR], kinds)
        self.subscribers.each("subscribe", [], kinds)
        return Timing(tuple(rates))

    def latency(self) -> Timing:
        self.consumer.each("subscribe", [SELECTOR], "offer")
        return self._through("latencies", data=False)

    def chain(self) -> Timing:
        self.consumer.each("subscribe", [SELECTOR], "offer", True)
        return self._through("work_on_events", data=True)

    def _through(self, call: str, data: bool) -> Timing:
        count = 50 * self.repeat
        names = self.names(count)
        self.consumer.begin(call, count)
        self.producer.each("offer_each", names, data)
        (seconds,) = self.consumer.answers(call)
        self.consumer.each("subscribe", [], None)
        return Timing(tuple(seconds[count // 10 :]))  # the first ones are not warm

    def publishing(self, subscriptions: int) -> Timing:
        """What an offer costs, of which one of so many selectors selects it."""
        selectors = [f"(and ({PARAM} = 130) ({STEP} = {n}))" for n in range(subscriptions)]
        self.bystander.each("subscribe", selectors, "offer")
        count = 50 * self.repeat
        ((seconds),) = self.producer.each("offer_each", self.names(count), False, 0)[1]
        self.bystander.each("subscribe", [], None)
        return Timing(tuple(seconds[count // 10 :]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=5000, help="offers of a round of `delivered`")
    parser.add_argument("--subscribers", type=int, default=10, help="subscribers of `delivered`")
    parser.add_argument("--at-once", type=int, default=100, help="offers that are made at a time")
    parser.add_argument("--repeat", type=int, default=7, help="rounds that count")
    options = parser.parse_args()
    if min(vars(options).values()) < 1:
        parser.error("expected options of at least 1")
    print(__doc__)
    print(machine("dask", "distributed", "tornado", "msgpack"), end="\n\n")
    with ExitStack() as stack:
        bench = Bench(stack, options)
        known = limits(bench.pool, stack, options.repeat)
        bench.pool.watch()
        offers, everything = bench.delivered("offer", 1), bench.delivered(None, 3)
        latency, chain = bench.latency(), bench.chain()
        one, thousand = bench.publishing(1), bench.publishing(SUBSCRIPTIONS)
        block = bench.pool.longest_block()
    per_event = timings(options.repeat, packing(options.size))
    print(table(["limits", "median", "min - max"], _lines(known, per_event, options.size)))
    print()
    ratio = thousand.median / one.median
    rows = [
        ["events delivered, offers", _rate(offers), _rates(offers), ">= 50,000 /s"],
        ["events delivered, all kinds", _rate(everything), _rates(everything), ">= 50,000 /s"],
        ["latency", *_ms(latency), "<= 1.5 ms"],
        ["publishing, 1 subscription", *_ms(one), ""],
        [f"publishing, {SUBSCRIPTIONS} subscriptions", *_ms(thousand), ""],
        ["  of the cost with one", f"{ratio:.2f} x", "", "<= 3 x"],
        ["chain of 1 KiB", *_ms(chain), "<= 6 ms"],
        ["manager's loop, longest block", *block.cells(), "<= 50 ms"],
    ]
    print(table(["what", "median", "min - max", "bar"], rows))


def _lines(known: dict[str, Timing], per_event: Timing, count: int) -> list[list[str]]:
    rows = [[name, *_ms(timing)] for name, timing in known.items()]
    rate = f"{count / per_event.median:,.0f} /s"
    return [*rows, ["msgpack", rate, ""]]


def _ms(timing: Timing) -> list[str]:
    return [f"{timing.median * 1e3:.2f} ms", timing.spread]


def _rate(timing: Timing) -> str:
    return f"{1 / timing.median:,.0f} /s"


def _rates(timing: Timing) -> str:
    return f"{1 / max(timing.seconds):,.0f} - {1 / min(timing.seconds):,.0f}"


if __name__ == "__main__":
    main()
