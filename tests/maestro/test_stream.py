"""Streams between an app and a node, without a pool around them.

The node stands on a bare Dask server, so that nothing else is said on these connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import pickle
import socket
from contextlib import asynccontextmanager
from types import SimpleNamespace
from unittest.mock import patch

import cloudpickle
import dask
import numpy as np
import pytest
from distributed.comm import connect
from distributed.core import ConnectionPool, Server
from distributed.security import Security
from hypothesis import given, settings
from hypothesis import strategies as st

from layouts import Block, Distribution, TiledArray, plan
from layouts.orders import in_order, slowest_first
from maestro.errors import DataLostError, PoolTimeoutError, ProtocolError
from maestro.nodes.node import Node
from maestro.transport import straight, transfer
from maestro.transport.sockets import Socket
from maestro.transport.ways import Ways
from tests.layouts import naive, strategies
from tests.maestro.relay import Relay

DTYPES = ["u1", ">i2", "f4", "f8", "c16", "S3", [("a", "u1"), ("b", "f8")]]


class Host(Server):
    """What a node needs of its worker."""

    def __init__(self, **kwargs):
        super().__init__(handlers={}, **kwargs)
        self.memory_manager = SimpleNamespace(memory_limit=1 << 30)
        self.node = Node(self)
        self.node.enlist(f"test-{id(self)}")


@asynccontextmanager
async def stage(protocol="tcp://127.0.0.1:0", **options):
    """A node, and an app's connections."""
    security = Security.temporary() if protocol.startswith("tls") else Security()
    defaults = {
        "maestro.transfer.same-host": False,
        "maestro.transfer.silence": "20 s",
        "maestro.transfer.retries": 0,
    }
    with dask.config.set({**defaults, **options}):
        host = Host(connection_args=security.get_connection_args("worker"))
        try:
            await host.listen(protocol, **security.get_listen_args("worker"))
            async with host:
                pool = ConnectionPool(connection_args=security.get_connection_args("client"))
                async with pool:
                    yield SimpleNamespace(
                        host=host, node=host.node, pool=pool, address=host.address
                    )
        finally:
            host.node.close()
        # What the node had under way ends with the connections that are closed now.
        await until(lambda: host.node.buffers.used == 0)
        assert not host.node.holdings.arriving


@pytest.fixture(params=["messages", "socket"])
def by(request, monkeypatch):
    """Whether bytes go in Dask's messages, or over the socket where that can be."""
    if request.param == "socket":
        monkeypatch.setattr(straight, "LEAST", 1)
    return request.param


async def lives(_):
    return True


def source(distribution, dtype="f8", version=1):
    return transfer.Source("x", version, distribution, np.dtype(dtype))


async def offer(on, what, parts, address=None):
    places = dict.fromkeys(range(what.distribution.size), address or on.address)
    await transfer.store(Ways(on.pool, lives), what, places, parts)


async def demand(on, what, target, address=None, arrived=lambda rank: None):
    nodes = [address or on.address] * what.distribution.size
    parts = {rank: target.empty(rank, what.dtype) for rank in range(target.size)}
    for part in parts.values():
        naive.fill(part, np.frombuffer(b"\xa5" * part.itemsize, part.dtype)[0])
    where = transfer.Whereabouts(nodes)
    await transfer.fetch(Ways(on.pool, lives), what, where, target, parts, arrived)
    return parts


def same(parts, target, array):
    for rank, wanted in enumerate(naive.scatter(target, array)):
        part = np.asarray(parts[rank])
        assert part.tobytes() == np.asarray(wanted, part.dtype).tobytes()
        assert in_order(parts[rank], target.order)


def memory_of(part, order):
    if isinstance(part, TiledArray):
        return part.memory.tobytes()
    return part.transpose(slowest_first(order, part.ndim)).tobytes()


def values(shape, dtype):
    size = math.prod(shape)
    raw = np.random.default_rng(0).integers(65, 90, size * np.dtype(dtype).itemsize, np.uint8)
    return raw.view(dtype)[:size].reshape(shape)


# Small, for a message may carry one element, and tiles are padded with many.
SHAPES = st.lists(st.integers(0, 6), max_size=3).map(tuple)


@settings(max_examples=25)
@given(
    strategies.pairs(SHAPES),
    st.sampled_from(DTYPES),
    st.integers(1, 200),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([None, 1, 30]),
)
def test_any_distribution_order_and_dtype_in_messages_of_any_size(
    pair, dtype, chunk, credit, strided, stage_of
):
    before, after = pair
    least = {"LEAST": 1, "STAGE": stage_of, "APART": stage_of, "RUN": stage_of} if stage_of else {}

    async def main():
        options = {
            "maestro.transfer.chunk": chunk,
            "maestro.transfer.in-flight": max(chunk, np.dtype(dtype).itemsize) * credit,
        }
        over_socket = patch.multiple(straight, **(least or {"LEAST": straight.LEAST}))
        async with stage(**options) as on:
            array, what = values(before.shape, dtype), source(before, dtype)
            parts = dict(enumerate(before.split(array)))
            if strided:  # neither order, and a negative stride
                for rank, part in parts.items():
                    if part.ndim:
                        wide = np.repeat(part, 2, axis=-1)[::-1].copy()
                        parts[rank] = wide[::-1][..., ::2]
            with over_socket:
                await offer(on, what, parts)
            for rank, part in enumerate(before.split(array)):  # what pads tiles is zero
                assert on.node.holdings.parts[1, rank].memory.tobytes() == memory_of(
                    part, before.order
                )
            came = []
            with over_socket:
                same(await demand(on, what, after, arrived=came.append), after, array)
            assert sorted(came) == list(range(after.size))
            assert on.node.buffers.peak <= on.node.buffers.limit

    asyncio.run(main())


ARRAY = np.random.default_rng(1).random((64, 48, 8))
SOURCE = source(Distribution(ARRAY.shape, (4, 1, 1)))
TARGET = Distribution(ARRAY.shape, (1, 3, 1), (Block(),) * 3, (2, 0, 1))
SMALL = {"maestro.transfer.chunk": "4 KiB", "maestro.transfer.in-flight": "32 KiB"}
PARTS = dict(enumerate(SOURCE.distribution.split(ARRAY)))


@pytest.mark.parametrize("protocol", ["tcp://127.0.0.1:0", "inproc://", "tls://127.0.0.1:0"])
def test_every_comm(protocol, by):
    async def main():
        async with stage(protocol, **SMALL) as on:
            await offer(on, SOURCE, PARTS)
            same(await demand(on, SOURCE, TARGET), TARGET, ARRAY)

    asyncio.run(main())


def test_nothing_is_pickled(monkeypatch, by):
    def refuse(*_, **__):
        raise AssertionError("something is pickled")

    async def main():
        async with stage(**SMALL) as on:
            with monkeypatch.context() as patch:
                for module in (pickle, cloudpickle):
                    for name in ("dumps", "loads"):
                        patch.setattr(module, name, refuse)
                for name in ("dumps", "loads"):
                    patch.setattr(f"distributed.protocol.pickle.{name}", refuse)
                await offer(on, SOURCE, PARTS)
                parts = await demand(on, SOURCE, TARGET)
            same(parts, TARGET, ARRAY)

    asyncio.run(main())


def test_no_frame_of_ours_is_compressed(monkeypatch):
    """What compresses well, too: sampling every frame for it would cost more than it brings."""

    async def main():
        options = {"distributed.comm.compression": "zlib"}
        async with stage(**SMALL, **options) as on:
            monkeypatch.setattr("distributed.protocol.core.maybe_compress", None)
            zeros = {rank: np.zeros_like(part) for rank, part in PARTS.items()}
            await offer(on, SOURCE, zeros)
            same(await demand(on, SOURCE, TARGET), TARGET, np.zeros_like(ARRAY))

    asyncio.run(main())


def test_all_readers_of_a_node_share_its_limit(by):
    async def main():
        async with stage(**{**SMALL, "maestro.transfer.in-flight": "10 KiB"}) as on:
            await offer(on, SOURCE, PARTS)
            with dask.config.set(
                {"maestro.transfer.in-flight": "64 KiB"}
            ):  # the apps would take it
                results = await asyncio.gather(*(demand(on, SOURCE, TARGET) for _ in range(6)))
            for parts in results:
                same(parts, TARGET, ARRAY)
            assert 4096 <= on.node.buffers.peak <= 10 << 10

    asyncio.run(main())


def test_readers_take_turns(monkeypatch):
    """Where all of them need all that a node may have under way, none waits for another's end."""
    monkeypatch.setattr(straight, "LEAST", 1)
    pack, turns = straight.pack, []

    def packed(slabs, arrays, *args):
        turns.append(id(arrays))
        pack(slabs, arrays, *args)

    async def main():
        async with stage(**{**SMALL, "maestro.transfer.in-flight": "4 KiB"}) as on:
            await offer(on, SOURCE, PARTS)
            monkeypatch.setattr(straight, "pack", packed)
            held = await on.node.buffers.take(4096)
            demands = [asyncio.create_task(demand(on, SOURCE, TARGET)) for _ in range(2)]
            await until(lambda: len(on.node.buffers._waiting) == 2)
            on.node.buffers.give(held)
            for parts in await asyncio.gather(*demands):
                same(parts, TARGET, ARRAY)

    asyncio.run(main())
    changes = sum(before != after for before, after in itertools.pairwise(turns))
    assert changes > len(turns) // 2


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_messages(order, by):
    """Which have more before their bytes, and go straight or through a stage."""

    async def main():
        array = np.random.default_rng(2).random((512, 1024))
        whole, target = Distribution(array.shape), Distribution(array.shape, (2, 1), order=order)
        async with stage(**{"maestro.transfer.chunk": "1280 KiB"}) as on:
            await offer(on, source(whole), {0: array})
            same(await demand(on, source(whole), target), target, array)

    asyncio.run(main())


def test_a_slow_reader_has_no_more_under_way_than_its_credit():
    async def main():
        async with stage(**SMALL) as on:
            await offer(on, SOURCE, PARTS)
            comm = await connect(on.address)
            await comm.write({"op": "maestro_give", "reply": False, "request": words(credit=3)})
            for _ in range(3):
                assert "data" in await comm.read()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await comm.read()
            assert on.node.buffers.used == 3 * 4096
            await until(lambda: on.node.buffers.used == 0)  # it is gone, and what was for it

    asyncio.run(main())


def words(credit=2, **changes):
    """A request for everything, as a message."""
    from maestro.transport.pulling import Request

    way = plan(SOURCE.distribution, TARGET)
    (share,) = transfer.shares(way, 8, ["n"] * 4, range(TARGET.size))
    request = Request(1, TARGET, share.pairs, 8, "C", share.nbytes, 4096, credit, 20.0)
    return {**request.to_words(), **changes}


async def until(condition):
    async with asyncio.timeout(300):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_reader_that_falls_silent_is_given_up():
    async def main():
        async with stage(**SMALL) as on:
            await offer(on, SOURCE, PARTS)
            comm = await connect(on.address)
            request = words(silence=0.2)
            await comm.write({"op": "maestro_give", "reply": False, "request": request})
            await until(lambda: on.node.buffers.peak and not on.node.buffers.used)
            with contextlib.suppress(OSError):
                while await comm.read():
                    pass
            assert comm.closed()

    asyncio.run(main())


def test_nobody_waits_for_memory_whose_app_is_gone(by):
    async def main():
        async with stage(**{**SMALL, "maestro.transfer.silence": "600 s"}) as on:
            await offer(on, SOURCE, PARTS)
            buffers = on.node.buffers
            await buffers.reserve(buffers.limit)
            again = source(SOURCE.distribution, version=2)
            for work in (demand(on, SOURCE, TARGET), offer(on, again, PARTS)):
                going = asyncio.create_task(work)
                await until(lambda: buffers._waiting)
                going.cancel()
                await asyncio.wait({going})
                await until(lambda: not buffers._waiting)
            buffers.release(buffers.limit)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": b"123"}, "request"),
        ({"pairs": b""}, "pairs"),
        ({"pairs": np.array([[99, 0]]).tobytes()}, "pairs"),
        ({"chunk": -1}, "integers of 0 or more"),
        ({"chunk": "large"}, "integers of 0 or more"),
        ({"itemsize": 4}, "got items of 4 bytes, expected 8"),
        ({"silence": 0.0}, "silence"),
        ({"silence": float("nan")}, "silence"),
        ({"target": {}}, "request"),
        ({"order": [0, 1]}, "permutation of the 3 axes"),
        ({"order": {"tiles": [1] * 3, "inner": "C", "outer": "C"}}, "without tiles"),
        ({"skip": 10**6, "pairs": np.array([[0, 0]]).tobytes()}, "nothing is left"),
    ],
)
def test_a_request_that_is_none_is_answered_so(changes, message):
    async def main():
        async with stage(**SMALL) as on:
            await offer(on, SOURCE, PARTS)
            comm = await connect(on.address)
            await comm.write({"op": "maestro_give", "reply": False, "request": words(**changes)})
            answer = await comm.read()
            assert answer["error"]["type"] == "ProtocolError"
            assert message in answer["error"]["text"]
            comm.abort()
            same(await demand(on, SOURCE, TARGET), TARGET, ARRAY)

    asyncio.run(main())


def test_a_part_that_is_not_there(by):
    async def main():
        async with stage(**SMALL) as on:
            await offer(on, SOURCE, PARTS)
            await on.node.free(1, [2], settled=True)
            with pytest.raises(DataLostError, match=r"'x': rank 2 .* does not hold it any more"):
                await demand(on, SOURCE, TARGET)

    asyncio.run(main())


def test_a_part_that_goes_in_the_middle():
    async def main():
        async with stage(**SMALL) as on:
            await offer(on, SOURCE, PARTS)
            comm = await connect(on.address)
            await comm.write({"op": "maestro_give", "reply": False, "request": words(credit=1)})
            await comm.read()
            await on.node.free(1, range(4), settled=True)
            word = {}
            while "missing" not in word:
                await comm.write({"taken": True})
                word = await comm.read()
            comm.abort()

    asyncio.run(main())


def test_only_what_is_lost_is_fetched_again(by):
    async def main():
        async with (
            stage(**{**SMALL, "maestro.transfer.retries": 1}) as on,
            Relay(on.address) as way,
        ):
            await offer(on, SOURCE, PARTS)
            way.cut_after = ARRAY.nbytes // 2
            same(await demand(on, SOURCE, TARGET, way.address), TARGET, ARRAY)
            assert way.cuts == 1
            # What was under way is sent twice, and every message has a header.
            assert way.through < ARRAY.nbytes * 1.2 + (32 << 10)

    asyncio.run(main())


def test_a_connection_that_is_cut_for_good(by):
    async def main():
        async with stage(**SMALL) as on:
            async with Relay(on.address) as way:
                await offer(on, SOURCE, PARTS)
                way.cut_after = ARRAY.nbytes // 2
                with pytest.raises(
                    DataLostError, match=rf"'x': rank \d is not to be had of node {way.address}"
                ):
                    await demand(on, SOURCE, TARGET, way.address)
                await until(lambda: on.node.buffers.used == 0)

    asyncio.run(main())


def test_a_node_that_is_gone_is_not_waited_for(by):
    async def main():
        async def gone(_):
            return False

        async with stage(**{**SMALL, "maestro.transfer.retries": 9}) as on:
            async with Relay(on.address) as way:
                await offer(on, SOURCE, PARTS)
                way.cut_after = ARRAY.nbytes // 2
                parts = {rank: TARGET.empty(rank, "f8") for rank in range(TARGET.size)}
                where = transfer.Whereabouts([way.address] * 4)
                with pytest.raises(DataLostError, match="does not answer"):
                    await transfer.fetch(
                        Ways(on.pool, gone), SOURCE, where, TARGET, parts, lambda rank: None
                    )
                assert way.connections == 1 + (by == "socket")  # one to ask for that

    asyncio.run(main())


def test_a_node_that_is_silent(by):
    async def main():
        async def mute(reader, writer):
            try:
                await reader.read()
            finally:
                writer.close()

        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with stage(**{**SMALL, "maestro.transfer.silence": "0.4 s"}) as on:
            with pytest.raises(PoolTimeoutError, match=rf"'x': rank 0 .*{address} was silent"):
                await demand(on, SOURCE, TARGET, address)
        server.close()

    asyncio.run(main())


def test_an_offer_that_is_cut_leaves_nothing_and_is_made_again(by):
    async def main():
        async with (
            stage(**{**SMALL, "maestro.transfer.retries": 1}) as on,
            Relay(on.address) as way,
        ):
            way.cut_after = ARRAY.nbytes // 2
            await offer(on, SOURCE, PARTS, way.address)
            assert way.cuts == 1
            assert len(on.node.holdings.parts) == 4
            same(await demand(on, SOURCE, TARGET), TARGET, ARRAY)

        async with stage(**SMALL) as on, Relay(on.address) as way:
            way.cut_after = ARRAY.nbytes // 2
            with pytest.raises(DataLostError, match="'x': rank 0 is not to be had of node"):
                await offer(on, SOURCE, PARTS, way.address)
            await until(lambda: not on.node.holdings.arriving)
            assert not on.node.holdings.parts

    asyncio.run(main())


def test_what_is_freed_while_it_comes_is_not_stored(by):
    async def main():
        async with stage(**SMALL) as on:
            buffers = on.node.buffers
            await buffers.reserve(buffers.limit)
            offering = asyncio.create_task(offer(on, SOURCE, PARTS))
            await until(lambda: buffers._waiting)
            assert on.node.holdings.arriving
            await on.node.free(1, range(4), settled=True)
            buffers.release(buffers.limit)
            with pytest.raises(DataLostError, match=r"'x': rank 0 .*: it was told to drop it"):
                await offering
            assert not on.node.holdings.parts

    asyncio.run(main())


def test_a_delivery_that_is_none_is_answered_so():
    async def main():
        async with stage(**SMALL) as on:
            comm = await connect(on.address)
            await comm.write({"op": "maestro_take", "reply": False, "delivery": {"ranks": [1, 1]}})
            assert (await comm.read())["error"]["type"] == "ProtocolError"
            comm.abort()

    asyncio.run(main())


def test_frames_of_another_size_are_refused():
    from maestro.transport.bringing import Delivery
    from maestro.transport.ends import listen
    from maestro.transport.frames import to_send

    async def main():
        async with stage(**SMALL) as on:
            comm = await connect(on.address)
            delivery = Delivery(1, SOURCE.distribution, 8, (0,), 4096, 1, 20.0)
            words = {"op": "maestro_take", "reply": False, "delivery": delivery.to_words()}
            await comm.write(words)
            assert (await listen(comm, 20))["grant"]
            await comm.write({"data": to_send([np.zeros(5, np.uint8)])})
            with pytest.raises(ProtocolError, match="got 5 bytes in 1 frames, expected"):
                await listen(comm, 20)
            comm.abort()
            await until(lambda: not on.node.holdings.arriving)

    asyncio.run(main())


def test_no_part_waits_for_another(by):
    """Of two nodes one is held up: what the other has is handed over meanwhile."""

    async def main():
        async with stage(**SMALL) as on, stage(**SMALL) as far, Relay(far.address) as way:
            layout = Distribution(ARRAY.shape, (2, 1, 1))
            what = source(layout)
            parts = dict(enumerate(layout.split(ARRAY)))
            places = {0: on.address, 1: way.address}
            await transfer.store(Ways(on.pool, lives), what, places, parts)
            held = await far.node.buffers.take(32 << 10)  # all that it may have under way
            target = Distribution(ARRAY.shape, (4, 1, 1), order="F")
            taken = {rank: target.empty(rank, "f8") for rank in range(4)}
            came = []
            where = transfer.Whereabouts(list(places.values()))
            demand = asyncio.create_task(
                transfer.fetch(Ways(on.pool, lives), what, where, target, taken, came.append)
            )
            await until(lambda: sorted(came) == [0, 1])
            far.node.buffers.give(held)
            await demand
            assert sorted(came) == [0, 1, 2, 3]
            same(taken, target, ARRAY)

    asyncio.run(main())


def test_a_demand_that_is_given_up_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr(straight, "LEAST", 1)

    async def main():
        async with stage(**SMALL) as on, Relay(on.address) as way:
            await offer(on, SOURCE, PARTS)
            on.node.buffers.limit = 4096
            held = await on.node.buffers.take(4096)
            waiting = asyncio.create_task(demand(on, SOURCE, TARGET, way.address))
            await until(lambda: on.node.buffers._waiting)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await until(lambda: not on.node.buffers._waiting)
            on.node.buffers.give(held)
            same(await demand(on, SOURCE, TARGET, way.address), TARGET, ARRAY)

    asyncio.run(main())


def test_bytes_that_come_slowly_are_not_silence(monkeypatch):
    """A thread is woken for many bytes, and takes fewer before it gives up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    real, outcomes = Socket._wait, []

    def wait(line, event):
        outcomes.append(real(line, event))
        if len(outcomes) == 1:
            far.sendall(b"y" * 1000)
        return outcomes[-1]

    with near, far:
        monkeypatch.setattr(Socket, "_wait", wait)
        line = Socket(SimpleNamespace(socket=near, closed=lambda: False), silence=0.05)
        far.sendall(b"x" * 1000)
        memory = bytearray(2000)
        line.receive(memory)
        assert outcomes[0] is False
        assert memory == b"x" * 1000 + b"y" * 1000
        with pytest.raises(TimeoutError, match=r"nothing came for 0\.05 s"):
            line.receive(memory)
        line.close()
        assert near.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


def test_planning_of_thousands_of_ranks_leaves_the_loop_free():
    async def main():
        before = Distribution((4096, 64), (4096, 1))
        way = plan(before, Distribution((4096, 64), (2048, 2)))
        planning = asyncio.get_running_loop().run_in_executor(
            None, transfer.shares, way, 8, ["n"] * 4096, range(4096)
        )
        (share,) = await planning
        assert share.nbytes == 4096 * 64 * 8
        assert len(share.pairs) == 4096 * 2

    asyncio.run(main())
