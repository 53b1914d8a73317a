"""What subscribers ask."""

from __future__ import annotations

from typing import Any

from maestro import messages as m
from maestro.errors import LifecycleError, MaestroError, ProtocolError
from maestro.events import pack
from maestro.registry.state import State

__all__ = ["ack", "answer_poll", "end_poll", "log", "poll", "subscribe", "tick", "unsubscribe"]


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
    end_poll(state, call.subscription)
    state.bulletin.forget(call.subscription)
    state.bulletin.subscriptions.unsubscribe(state.bulletin.time, call.subscription)
    state.reply(call)


def poll(state: State, call: m.Poll) -> None:
    """Answer with the events that there are, or as soon as there are some."""
    _check_subscriber(state, call)
    end_poll(state, call.subscription)
    state.bulletin.polls[call.subscription] = (call.request, call.most)
    if state.bulletin.subscriptions.has_events(call.subscription):
        answer_poll(state, call.subscription)


def ack(state: State, call: m.Ack) -> None:
    """Acknowledge events."""
    _check_subscriber(state, call)
    state.bulletin.subscriptions.ack(state.bulletin.time, call.subscription, call.serials)
    state.reply(call)


def log(state: State, call: m.Log) -> None:
    """Answer with events of the log."""
    kept = state.bulletin.subscriptions.log
    events = b"".join(map(pack, kept.since(call.since, call.most)))
    state.reply(call, {"first": kept.first, "events": events})


def tick(state: State, event: m.Tick) -> None:
    """Do what time alone brings about."""
    state.bulletin.subscriptions.expire(state.bulletin.time)
    for subscription in state.bulletin.due():
        answer_poll(state, subscription)


def answer_poll(state: State, subscription: str) -> None:
    """Hand out a subscription's events, if it waits for some and they may not wait longer."""
    if subscription in state.bulletin.polls and not state.bulletin.put_off(subscription):
        request, most = state.bulletin.polls.pop(subscription)
        state.out.append(m.Reply(request, state.bulletin.batch(subscription, most)))


def end_poll(state: State, subscription: str) -> None:
    """Answer a poll that nothing more will come of."""
    if subscription in state.bulletin.polls:
        request, _ = state.bulletin.polls.pop(subscription)
        state.out.append(m.Reply(request, b""))


def _check_subscriber(state: State, call: Any) -> None:
    if call.subscription not in state.bulletin.subscriptions.of(call.app):
        raise LifecycleError(f"subscription {call.subscription!r} is unknown, or was ended")
