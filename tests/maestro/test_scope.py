"""What is used in a block begins with it and ends with it, and what was first wrong is said."""

import asyncio

import pytest

from maestro.scope import Scope


class Recorded(Scope):
    """Blocking or asynchronous; its end fails if it is told to."""

    _second = (OSError,)

    def __init__(self, asynchronous, error=None):
        self.done, self.asynchronous, self.error = [], asynchronous, error

    def _enter(self):
        return self.do("begin")

    def _exit(self):
        return self.do("end", self.error)

    def do(self, word, error=None):
        async def later():
            self.done.append(word)
            if error is not None:
                raise error

        return later() if self.asynchronous else asyncio.run(later())


def run(scope, error=None):
    """Use it in its kind of block, in which this goes wrong."""

    def block():
        scope.done.append("block")
        if error is not None:
            raise error

    async def use():
        async with scope as entered:
            assert entered is scope
            block()

    if scope.asynchronous:
        asyncio.run(use())
    else:
        with scope as entered:
            assert entered is scope
            block()


@pytest.fixture(params=[False, True], ids=["blocking", "asynchronous"])
def asynchronous(request):
    return request.param


def test_it_begins_and_ends_with_the_block(asynchronous):
    scope = Recorded(asynchronous)
    run(scope)
    assert scope.done == ["begin", "block", "end"]


@pytest.mark.parametrize("error", [OSError("end"), ValueError("end")])
def test_what_goes_wrong_at_its_end_is_raised(asynchronous, error):
    with pytest.raises(type(error), match="end"):
        run(Recorded(asynchronous, error))


def test_what_went_wrong_first_is_raised(asynchronous):
    scope = Recorded(asynchronous, OSError("end"))
    with pytest.raises(KeyError, match="block"):
        run(scope, KeyError("block"))
    assert scope.done == ["begin", "block", "end"]
    with pytest.raises(ValueError, match="end"):  # not one of those that are left out
        run(Recorded(asynchronous, ValueError("end")), KeyError("block"))
