"""What a pool manager knows of all who are, or were, connected: who did what, and how fast."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any

from maestro.apps.app import App
from maestro.events import Event
from maestro.pool import Pool
from maestro.report import MOVED
from maestro.rows import console, show

__all__ = ["COLUMNS", "TRAFFIC", "Account", "Overview", "overview", "summed"]

#: What is told of each app.
COLUMNS = (
    *("workflow", "component", "app", "connected", "offers", "demands", "bytes demanded"),
    *("mean time", "bytes per second"),
)

#: What is told of each component's demands, by apps that are there or gone.
TRAFFIC = ("workflow", "component", *MOVED)

_SIZE = ".maestro.core.cdo.scope.local-size"


@dataclass
class Account:
    """What one app did, as far as events tell.

    Attributes
    ----------
    workflow, component : str
        What it is part of, and what it is; empty if its joining has been forgotten.
    connected : bool
        Whether it still is.
    counts : Counter
        Its events, by kind.
    demanded : int
        Bytes of what it demanded.
    seconds : float
        Time that this was under way, one demand after the other.
    transports : int
        Number of those demands.
    """

    workflow: str = ""
    component: str = ""
    connected: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    demanded: int = 0
    seconds: float = 0.0
    transports: int = 0
    _under_way: dict[tuple[Any, ...], deque[float]] = field(
        default_factory=lambda: defaultdict(deque), repr=False
    )

    def take(self, event: Event) -> None:
        """Take an event of this app into account."""
        self.counts[event.kind] += 1
        key = event.name, event.payload.get("version"), event.payload.get("rank")
        if event.kind == "join":
            self.workflow, self.component = event.payload["workflow"], event.payload["component"]
        elif event.kind == "leave":
            self.connected = False
        elif event.kind == "transport-begin":
            self._under_way[key].append(event.time)
        elif event.kind == "transport-end" and self._under_way[key]:
            begun = self._under_way[key].popleft()
            if event.payload["served"]:
                self.demanded += event.attributes.get(_SIZE, 0)
                self.seconds += event.time - begun
                self.transports += 1

    def row(self, app: str) -> dict[str, Any]:
        """The account by `COLUMNS`."""
        timed = self.transports and self.seconds > 0
        return {
            "workflow": self.workflow,
            "component": self.component,
            "app": app,
            "connected": self.connected,
            "offers": self.counts["offer"],
            "demands": self.counts["demand"],
            "bytes demanded": self.demanded,
            "mean time": self.seconds / self.transports if timed else None,
            "bytes per second": int(self.demanded / self.seconds) if timed else None,
        }


@dataclass
class Overview:
    """All of it.

    Attributes
    ----------
    pool : Pool
        What is there now.
    accounts : dict of Account
        By app, in the order in which they did something first.
    counts : Counter
        Events by kind.
    first, last : float
        When the first and the last of them happened.
    forgotten : int
        Events that are not kept any more, and so in none of these numbers.
    """

    pool: Pool
    accounts: dict[str, Account]
    counts: Counter[str]
    first: float
    last: float
    forgotten: int

    def print(self, file: IO[str]) -> None:
        """Print it as tables."""
        words = self.to_dict()
        say = console(file).print
        if not words["apps"]:
            say("Nobody has been here.")
        else:
            since, until = (datetime.fromtimestamp(t) for t in (self.first, self.last))
            lost = f"; {self.forgotten} earlier ones are forgotten" if self.forgotten else ""
            say(f"Events from {since:%Y-%m-%d %H:%M:%S} to {until:%H:%M:%S}{lost}:")
            say("  ".join(f"{kind} {n}" for kind, n in self.counts.most_common()))
            show(words["apps"], COLUMNS, "table", file)
        if words["traffic"]:
            say("What demands moved, in seconds and bytes:")
            show(words["traffic"], TRAFFIC, "table", file)
        nodes = [{"node": node, **room} for node, room in words["nodes"].items()]
        say(f"In the pool: {words['cdos']} CDOs of {words['bytes']:,} bytes.")
        show(nodes, ("node", "used", "limit"), "table", file)

    def to_dict(self) -> dict[str, Any]:
        """In words that JSON knows."""
        nodes: Mapping[str, Mapping[str, int]] = self.pool.nodes
        return {
            "first": self.first,
            "last": self.last,
            "forgotten": self.forgotten,
            "events": dict(self.counts),
            "apps": [account.row(app) for app, account in self.accounts.items()],
            "traffic": [dict(row) for row in self.pool.traffic],
            "nodes": {node: dict(room) for node, room in nodes.items()},
            "cdos": len(self.pool),
            "bytes": sum(entry.nbytes for entry in self.pool.values()),
        }


def overview(app: App) -> Overview:
    """What the manager knows, but for the app that asks.

    Parameters
    ----------
    app : App
        Blocking.
    """
    return summed(app.pool, [event for event in app.log() if event.app != app.name])


def summed(pool: Pool, events: Iterable[Event]) -> Overview:
    """An overview of these events."""
    events = list(events)
    accounts: defaultdict[str, Account] = defaultdict(Account)
    for event in events:
        if event.app is not None and event.when == "after":
            accounts[event.app].take(event)
    times = [event.time for event in events] or [0.0]
    return Overview(
        pool,
        dict(accounts),
        Counter(event.kind for event in events if event.when == "after"),
        times[0],
        times[-1],
        events[0].serial - 1 if events else 0,
    )
