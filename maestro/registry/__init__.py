"""The pool manager's mind: a plain state machine, calls in, instructions out.

No I/O, no clock, no tasks: `Registry.handle` takes one message of `maestro.messages` and returns
what is to be done about it. Every request is answered exactly once, at once or by a later message;
a call that is refused changes nothing. The plugin in `maestro.manager` carries the instructions
out.

What is known lies in `state`; what is done about a message in a function over it, in the file of
its subject::

    members  declarations  producers  consumers  estates  subscribers  listing  expiry    messages
                     endings (versions, requirements, handles)                    shared steps
                     room (for what is offered)
                     telling (events)
                     needs (what goes together)
                     state
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maestro import messages as m
from maestro.errors import MaestroError
from maestro.registry import (
    consumers,
    declarations,
    estates,
    expiry,
    listing,
    members,
    producers,
    subscribers,
    telling,
)
from maestro.registry.endings import take_out
from maestro.registry.state import State
from maestro.registry.subscriptions import Ready
from maestro.registry.versions import Stage, Version

__all__ = ["Registry"]


def _tick(state: State, event: m.Tick) -> None:
    subscribers.tick(state, event)
    members.depart(state)


_HANDLERS: dict[type, Callable[[State, Any], None]] = {
    m.Join: members.join,
    m.Leave: members.leave,
    m.AppLost: members.app_lost,
    m.LineLost: members.line_lost,
    m.NodeJoined: estates.node_joined,
    m.NodeLost: estates.node_lost,
    m.Adopted: estates.adopted,
    m.Lodged: producers.lodged,
    m.Seal: declarations.seal,
    m.Seals: declarations.seal_all,
    m.Dispose: declarations.dispose,
    m.Offer: producers.offer,
    m.OfferGroup: producers.offer_group,
    m.Stored: producers.stored,
    m.Abort: producers.abort,
    m.Withdraw: producers.withdraw,
    m.Require: consumers.require,
    m.Retract: consumers.retract,
    m.Demand: consumers.demand,
    m.Locate: consumers.locate,
    m.Received: consumers.received,
    m.Subscribe: subscribers.subscribe,
    m.Unsubscribe: subscribers.unsubscribe,
    m.Poll: subscribers.poll,
    m.More: subscribers.more,
    m.Ack: subscribers.ack,
    m.Log: subscribers.log,
    m.Tick: _tick,
    m.List: listing.list_pool,
    m.Nodes: listing.list_nodes,
    m.Expired: expiry.expired,
}


class Registry(State):
    """The state of a pool, and what messages do to it.

    Examples
    --------
    >>> registry = Registry()
    >>> registry.handle(m.Join(0, "app-1", client="c", workflow="w", component="model"))
    [Reply(request=0, value=None)]
    """

    def handle(self, message: Any, time: float = 0.0) -> list[m.Instruction]:
        """Take one message in; return what is to be done, in this order.

        Parameters
        ----------
        message : Any
            Of `maestro.messages`.
        time : float
            Now, in seconds since the epoch.
        """
        self.out = []
        self.bulletin.time = time
        self._take_in(message, held=False)
        self._settle()
        if self.estates:
            estates.settle(self)
            self._settle()  # ends of versions have made room
        if self.seeks:
            consumers.settle_seeks(self)
        return self.out

    @property
    def deadline(self) -> float | None:
        """When a `Tick` has something to do next."""
        if self.departures:
            return self.bulletin.time
        told, settled = self.bulletin.deadline, estates.deadline(self)
        return told if settled is None else settled if told is None else min(told, settled)

    def _take_in(self, message: Any, held: bool) -> None:
        """Do what a message asks, unless somebody has to hear of it before."""
        try:
            if isinstance(message, m.Call) and type(message) is not m.Join:
                self.check_caller(message)
                if not held and telling.hold(self, message):
                    return
            _HANDLERS[type(message)](self, message)
        except MaestroError as error:
            self.queue.pop(message.request, None)
            self.refuse(message.request, error)

    def _settle(self) -> None:
        """Go on with what was held, until nothing comes of it any more."""
        self._settle_outcomes()
        while self.queue and self.ledger.freed:
            self.ledger.freed = False
            for waiting in list(self.queue.values()):  # first come, first served, if it fits
                self._take_in(waiting.call, held=True)
            self._settle_outcomes()

    def _settle_outcomes(self) -> None:
        while (outcomes := self.bulletin.outcomes()) or self.freed:
            while self.freed:
                self._take_out(self.freed.pop())
            for outcome in outcomes:
                if isinstance(outcome, Ready):
                    self.bulletin.has_events(outcome.subscription)
                elif (call := self.bulletin.released(outcome.serial)) is not None:
                    self._take_in(call, held=True)
                elif (pinned := self.bulletin.unpinned(outcome.serial)) is not None:
                    self._take_out(pinned)

    def _take_out(self, version: Version) -> None:
        """Nothing may hold a version any more that was to leave."""
        if version.going and version.stage is not Stage.OVER:
            take_out(self, version)
