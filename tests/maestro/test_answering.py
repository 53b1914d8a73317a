"""What a node does with the words of one line, without a line."""

import asyncio
import warnings

import pytest

from maestro.errors import MaestroError
from maestro.nodes.answering import Answering


class Said:
    """In place of a wire: what was said over it."""

    def __init__(self):
        self.words = []

    def send(self, *word):
        self.words.append(word)


async def wait(seconds=0, error=None):
    await asyncio.sleep(seconds)
    if error is not None:
        raise error
    return seconds


def test_what_takes_time_is_answered_when_it_is_done():
    async def hear():
        wire = Said()
        answering = Answering({"wait": wait, "double": lambda number: 2 * number})
        answering._hear(wire, (1, "wait", {}))
        answering._hear(wire, (2, "wait", {"error": MaestroError("no")}))
        answering._hear(wire, (None, "wait", {}))
        answering._hear(wire, (3, "double", {"number": 4}))
        assert wire.words == [(3, 8, None)]
        while answering._under_way:
            await asyncio.sleep(0)
        return wire.words

    _, fine, (number, value, error) = asyncio.run(hear())
    assert fine == (1, 0, None)
    assert (number, value, error["text"]) == (2, None, "no")


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_under_way_when_it_is_closed_is_let_go_of(begun):
    async def hear():
        wire = Said()
        answering = Answering({"wait": wait})
        answering._hear(wire, (1, "wait", {"seconds": 60}))
        if begun:
            await asyncio.sleep(0)
        answering.close()
        while answering._under_way:
            await asyncio.sleep(0)
        assert not wire.words

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(hear())
    assert [str(warning.message) for warning in caught] == []
