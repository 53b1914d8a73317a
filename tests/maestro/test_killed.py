"""An app killed between any two of its calls: the others get what was promised, nobody hangs."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import maestro
from layouts import Distribution
from tests.maestro.conftest import check
from tests.maestro.forking import FORKSERVER
from tests.maestro.waiting import in_thread, until

HALVES = Distribution((40_000,), (2,))  # parts that are mapped
FIELD = np.arange(40_000.0)
SMALL = np.arange(4.0)


class Doomed:
    """A program that makes these calls, one after the other, as far as it comes."""

    def connect(self, address):
        self.app = maestro.connect(address, component="doomed")

    def seal(self, _):
        self.field = self.app.declare("field", HALVES, attributes={"units": "K"})
        self.field.seal()

    def offer(self, _):
        self.field.offer(HALVES.split(FIELD))

    def require(self, _):
        self.wish = self.app.declare("wish")
        self.wish.require()

    def require_eagerly(self, _):
        """What is on its way here, or has come, when it dies."""
        self.news = self.app.declare("news", eagerness="eager")
        self.news.require()

    def subscribe(self, _):
        self.events = self.app.subscribe(kinds="withdraw", when="before", ack=True, own=False)

    def offer_needing_it(self, _):
        self.app.declare("field 2", depends=["field"]).offer(SMALL)

    def offer_pushed(self, _):
        self.app.declare("pushed", HALVES, eagerness="push").offer(HALVES.split(FIELD))

    def seal_group(self, _):
        self.group = self.app.group("group", [self.app.declare("t"), self.app.declare("u")])
        self.group.seal()

    def offer_group(self, _):
        self.group.offer({"t": SMALL, "u": SMALL + 1})

    def demand(self, _):
        assert np.array_equal(self.wish.demand(timeout=300), FIELD)

    def withdraw_group(self, _):
        """While somebody wants it."""
        self.app._link.run(self._begin, self.group._withdraw)

    async def _begin(self, work):
        import asyncio

        self.task = asyncio.create_task(work(None))
        await self.app._link.call("list")  # by then the manager has heard of it

    def leave(self, _):
        self.app.leave()


CALLS = [name for name in vars(Doomed) if not name.startswith("_")]


def live_until(count, address):
    """Make so many calls, and die."""
    doomed = Doomed()
    for call in CALLS[:count]:
        getattr(doomed, call)(address)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("count", range(1, len(CALLS)), ids=CALLS[:-1])
def test_killed_after(cluster, count):
    made = set(CALLS[:count])
    with maestro.connect(cluster, component="survivor") as app:
        wish, news = app.offer("wish", FIELD), app.offer("news", FIELD)
        wants = {name: app.declare(name) for name in ("field", "field 2", "pushed")}
        wants["group"] = app.group("group")
        for want in wants.values():
            want.require()
        process = FORKSERVER.Process(target=live_until, args=(count, app.address))
        process.start()
        process.join(300)
        assert process.exitcode == -signal.SIGKILL
        until(lambda: not any(each["component"] == "doomed" for each in app.apps))

        # Whatever it required, and whatever it was to acknowledge, holds nobody up.
        wish.withdraw(timeout=300)
        news.withdraw(timeout=300)
        # What it had offered is served to those who required it; nothing else of it is there.
        assert ("field" in app.pool) == ("offer_needing_it" in made), "one that another needs"
        came = {}
        for name, word in (
            ("group", "offer_group"),
            ("field 2", "offer_needing_it"),
            ("field", "offer"),
            ("pushed", "offer_pushed"),
        ):
            if word in made:
                came[name] = wants[name].demand(timeout=300)
            else:
                with pytest.raises(maestro.PoolTimeoutError, match=f"'{name}': not there after"):
                    wants[name].demand(timeout=0.02)
                wants[name].retract()
        if "group" in came:
            assert {name: list(data) for name, data in came["group"].items()} == {
                "t": list(SMALL),
                "u": list(SMALL + 1),
            }
        if "field 2" in came:
            assert np.array_equal(wants["field 2"].dependencies["field"], FIELD)
        for name in {"field", "pushed"} & came.keys():
            assert np.array_equal(came[name], FIELD)
        until(lambda: not app.pool)
        check(app)

        # And all of its names are free.
        again = in_thread(app.demand, "field")
        app.offer("field", SMALL)
        assert np.array_equal(again(), SMALL)
        app.group("group", [app.declare("t"), app.declare("u")]).offer({"t": 1, "u": 2})
        check(app)
