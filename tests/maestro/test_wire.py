"""Words over a comm: all of them, whole, in order, whatever comes in between; and what is none."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import msgpack
import pytest
from distributed.comm import connect, listen
from hypothesis import given, settings
from hypothesis import strategies as st

from maestro.errors import ProtocolError
from maestro.transport.wire import is_socket, wire_over
from tests.maestro.test_fuzz import PLAIN


@asynccontextmanager
async def ends(address="tcp://127.0.0.1:0", socket=True):
    """Both ends of a line."""
    there = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def handle(comm):
        there.set_result(comm)
        await over.wait()

    async with listen(address, handle) as listener:
        here = await connect(listener.contact_address)
        one, other = await wire_over(here, socket), await wire_over(await there, socket)
        try:
            yield one, other
        finally:
            one.close()
            other.close()
            over.set()


async def heard(wire, count):
    words = []
    while len(words) < count:
        words += await wire.read()
    return words


def as_read(value):
    """What comes of a value: lists are read as tuples."""
    return msgpack.unpackb(msgpack.packb(value), use_list=False, strict_map_key=False)


@settings(max_examples=25, deadline=None)
@given(
    words=st.lists(st.tuples(PLAIN, st.binary(max_size=300_000)), min_size=1, max_size=20),
    address=st.sampled_from(["tcp://127.0.0.1:0", "inproc://"]),
    socket=st.booleans(),
)
def test_all_words_come_whole_and_in_order(words, address, socket):
    async def main():
        async with ends(address, socket and address.startswith("tcp")) as (one, other):
            for word in words:
                one.send(*word)
                other.send("between")
            found = await heard(other, len(words))
            assert repr(found) == repr([as_read(word) for word in words])  # where there are NaNs
            assert await heard(one, len(words)) == [("between",)] * len(words)

    asyncio.run(main())


def test_what_is_said_at_once_goes_together():
    async def main():
        async with ends(socket=False) as (one, other):
            for number in range(100):
                one.send(number)
            assert [word for (word,) in await other.read()] == [0]  # at once
            assert [word for (word,) in await other.read()] == list(range(1, 100))

    asyncio.run(main())


def test_who_hears_late_hears_all():
    """As much has come by then as is let in."""

    async def main():
        async with ends() as (one, other):
            came = []
            for number in range(40):
                one.send(number, bytes(100_000))
            while other._transport.is_reading():
                await asyncio.sleep(0)
            hearing = asyncio.create_task(other.hear(came.extend))
            async with asyncio.timeout(120):
                while len(came) < 40:
                    await asyncio.sleep(0.001)
            assert [number for number, _ in came] == list(range(40))
            hearing.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("socket", [True, False])
def test_who_can_always_take_more_hears_all(socket):
    async def main():
        async with ends(socket=socket) as (one, other):
            came = []

            def take(words):
                for (word,) in words:
                    if word == "wrong":
                        raise ValueError(word)
                    came.append(word)

            one.send(0)
            await asyncio.sleep(0)
            hearing = asyncio.create_task(other.hear(take))
            for number in range(1, 100):
                one.send(bytes(100_000) if number % 10 == 0 else number)
            await one.drain()
            one.send("wrong")
            with pytest.raises(ValueError, match="wrong"):
                await hearing
            assert came[:10] == list(range(10))
            assert len(came) == 100
            hearing = asyncio.create_task(other.hear(take))
            one.close()
            with pytest.raises(OSError, match=r"[Cc]losed"):
                await hearing

    asyncio.run(main())


def test_which_comms_have_a_socket():
    async def main():
        for address, expected in (("tcp://127.0.0.1:0", True), ("inproc://", False)):
            async with ends(address, socket=False) as (one, _):
                assert is_socket(one.comm) is expected

    asyncio.run(main())


@pytest.mark.parametrize("socket", [True, False])
def test_a_line_that_is_closed_ends_who_reads(socket):
    async def main():
        async with ends(socket=socket) as (one, other):
            one.close()
            with pytest.raises(OSError, match="closed"):
                await other.read()
            other.send("nobody")  # is no harm
            await other.drain()

    asyncio.run(main())


@pytest.mark.parametrize("socket", [True, False])
@pytest.mark.parametrize("junk", [b"\xc1", b"\x91" * 5000, b"\x81\x80\x01"])
def test_what_is_no_word(socket, junk):
    async def main():
        async with ends(socket=socket) as (one, other):
            if socket:
                one._transport.write(junk)
            else:
                await one.comm.write(junk)
            with pytest.raises(ProtocolError, match="no packed word"):
                await heard(other, 99)

    asyncio.run(main())


def test_messages_of_another_kind():
    async def main():
        async with ends(socket=False) as (one, other):
            await one.comm.write({"op": "list"})
            with pytest.raises(ProtocolError, match="got dict, expected packed words"):
                await other.read()

    asyncio.run(main())


def test_what_cannot_be_packed_is_refused_where_it_is_said():
    async def main():
        async with ends() as (one, other):
            for wrong in (object(), 1 << 70):
                with pytest.raises((TypeError, OverflowError)):
                    one.send(wrong)
            one.send("right")
            assert await heard(other, 1) == [("right",)]

    asyncio.run(main())


def test_what_is_not_read_is_counted():
    async def main():
        async with ends() as (one, other):
            for _ in range(64):
                one.send(bytes(1 << 20))
                await asyncio.sleep(0)
            assert one.unsent > 1 << 20
            draining = asyncio.create_task(one.drain())
            assert len(await heard(other, 64)) == 64
            await draining
            assert one.unsent == 0

    asyncio.run(main())
