"""Whose turn it is to move ahead, and how much may be ahead."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from maestro.apps.ahead import Ahead


@settings(max_examples=200, deadline=None)
@given(
    limit=st.integers(0, 20),
    asked=st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from([None, "x", "y"])), min_size=1, max_size=12
    ),
    steps=st.lists(st.sampled_from(["end", "free", "cancel"]), max_size=40),
)
def test_turns_are_in_order_and_within_the_limit(limit, asked, steps):
    asked = [(size, same) for size, same in asked if size <= limit]

    async def play():
        ahead = Ahead(limit)
        begun, here, ended, cancelled = [], [], set(), set()

        async def one(ticket, size, same):
            await ahead.turn(ticket, size, same)
            begun.append(ticket)
            here.append(size)

        tasks = [asyncio.create_task(one(k, *each)) for k, each in enumerate(asked)]
        for step in [*steps, *["end", "free"] * 2 * len(asked)]:
            for _ in range(4):  # whoever can go on does
                await asyncio.sleep(0)
            moving = [ticket for ticket in begun if ticket not in ended]
            assert len({asked[ticket][1] or ticket for ticket in moving}) <= 1
            assert ahead.used == sum(here) <= limit
            if step == "end" and moving:
                ended.add(moving[0])
                ahead.end_turn()
            if step == "free" and here:
                ahead.free(here.pop())
            waiting = [k for k in range(len(asked)) if k not in begun and k not in cancelled]
            if step == "cancel" and waiting:
                cancelled.add(waiting[-1])
                tasks[waiting[-1]].cancel()
        await asyncio.wait(tasks) if tasks else None
        assert len(begun) + len(cancelled) == len(asked)
        alone = [ticket for ticket in begun if asked[ticket][1] is None]
        assert alone == sorted(alone), "nobody overtakes but those who are the same"

    asyncio.run(play())
