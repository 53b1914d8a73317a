"""What subscribers ask."""

from __future__ import annotations

from typing import Any

from maestro import messages as m
from maestro.errors import LifecycleError, MaestroError, ProtocolError
from maestro.events import pack
from maestro.registry.state import State

__all__ = ["ack", "log", "more", "poll", "subscribe", "tick", "unsubscribe"]


def subscribe(state: State, call: m.Subscribe) -> None:
    """Let an app be told of events."""
    try:
        state.bulletin.subscriptions.subscribe(
            state.bulletin.time,
            call.subscription,
            call.app,
            call.selector,
            kinds=call.kinds,
            ack=call.ack,
            when=call.when,
            own=call.own,
            since=call.since,
            durable=call.durable,
            patience=call.patience,
        )
    except (ValueError, TypeError) as error:
        if isinstance(error, MaestroError):
            raise
        raise ProtocolError(str(error)) from None
    state.reply(call)


def unsubscribe(state: State, call: m.Unsubscribe) -> None:
    """Tell a subscriber no more."""
    _check_subscriber(state, call)
    state.bulletin.forget(call.subscription)
    state.bulletin.subscriptions.unsubscribe(state.bulletin.time, call.subscription)
    state.reply(call)


def poll(state: State, call: m.Poll) -> None:
    """Answer with the events that there are."""
    _check_subscriber(state, call)
    state.reply(call, state.bulletin.batch(call.subscription, call.most))


def more(state: State, call: m.More) -> None:
    """Let a subscription be told of so many events more."""
    _check_subscriber(state, call)
    state.bulletin.grant(call.subscription, call.count)
    state.reply(call, call.count)


def ack(state: State, call: m.Ack) -> None:
    """Acknowledge events."""
    _check_subscriber(state, call)
    state.bulletin.subscriptions.ack(state.bulletin.time, call.subscription, call.serials)
    state.reply(call)


def log(state: State, call: m.Log) -> None:
    """Answer with events of the log."""
    kept = state.bulletin.subscriptions.log
    events = b"".join(map(pack, kept.since(call.since, min(call.most, m.BATCH))))
    state.reply(call, {"first": kept.first, "events": events})


def tick(state: State, event: m.Tick) -> None:
    """Do what time alone brings about: tell events, and give up waiting for somebody."""
    state.bulletin.subscriptions.expire(state.bulletin.time)
    for subscription in state.bulletin.due():
        app = state.bulletin.subscriptions.app_of(subscription)
        state.out.append(m.Tell(app, subscription, state.bulletin.told(subscription)))


def _check_subscriber(state: State, call: Any) -> None:
    if call.subscription not in state.bulletin.subscriptions.of(call.app):
        raise LifecycleError(f"subscription {call.subscription!r} is unknown, or was ended")
