"""The limit on bytes under way holds whatever comes, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import mmap
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maestro.transport.buffers import SMALLEST, Buffers, buffer

LIMIT = 1 << 16


@settings(max_examples=40)
@given(st.lists(st.integers(0, LIMIT), min_size=1, max_size=30), st.integers())
def test_the_limit_holds_and_everyone_is_served(sizes, seed):
    buffers, random = Buffers(LIMIT), Random(seed)
    held = 0

    async def user(size):
        nonlocal held
        way = random.choice(["take", "drop", "reserve"])
        if way == "reserve":
            await buffers.reserve(size)
            got = size
        else:
            buffer = await buffers.take(size)
            got = len(buffer)
            assert size <= got <= LIMIT
        held += got
        assert held <= buffers.used <= buffers.peak <= LIMIT
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        held -= got
        if way == "reserve":
            buffers.release(size)
        else:
            (buffers.give if way == "take" else buffers.drop)(buffer)
        assert held + buffers.kept <= LIMIT  # what is promised is not allocated yet

    async def main():
        users = [asyncio.create_task(user(size)) for size in sizes]
        await asyncio.wait_for(asyncio.gather(*users), 300)

    asyncio.run(main())
    assert buffers.used == 0


@given(st.integers(0, 6))
def test_who_gives_up_waiting_holds_nobody_up(turns):
    async def main():
        buffers = Buffers(LIMIT)
        first = await buffers.take(LIMIT)
        impatient = asyncio.create_task(buffers.take(LIMIT))
        patient = asyncio.create_task(buffers.take(SMALLEST))
        await asyncio.sleep(0)
        if turns == 3:
            buffers.give(first)  # its turn comes in the moment in which it is given up
        for _ in range(turns % 3):
            await asyncio.sleep(0)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        if turns != 3:
            buffers.give(first)
        assert len(await asyncio.wait_for(patient, 300)) == SMALLEST
        assert buffers.used == SMALLEST

    asyncio.run(main())


def test_memory_is_used_again():
    async def main():
        buffers = Buffers(LIMIT)
        buffer = await buffers.take(SMALLEST + 1)
        buffers.give(buffer)
        assert await buffers.take(SMALLEST * 2) is buffer

    asyncio.run(main())


def test_what_is_larger_than_the_limit_goes_alone():
    async def main():
        buffers = Buffers(10)
        await buffers.reserve(1)
        large = asyncio.create_task(buffers.take(100))
        await asyncio.sleep(0)
        assert not large.done()
        buffers.release(1)
        assert len(await asyncio.wait_for(large, 300)) == 100

    asyncio.run(main())


@given(st.integers(1, 1 << 20))
def test_a_buffer_begins_far_from_where_pages_and_arrays_do(nbytes):
    memory = buffer(nbytes)
    assert len(memory) == nbytes
    assert memory.ctypes.data % mmap.PAGESIZE == mmap.PAGESIZE // 2
