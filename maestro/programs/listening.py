"""A program that follows events, and a table that shows them."""

from __future__ import annotations

import inspect
from collections import Counter, deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from maestro.apps.app import App
from maestro.events import Event, checked_kinds
from maestro.rows import Row, cell, shown_cell, table
from maestro.selectors import Selector

__all__ = ["COLUMNS", "Listener", "LiveTable", "row"]

#: What is told of an event.
COLUMNS = ("serial", "time", "when", "kind", "name", "app", "payload", "attributes")

#: Colours of kinds, in a table.
COLOURS = {
    "offer": "green",
    "demand": "cyan",
    "transport-begin": "cyan",
    "transport-end": "cyan",
    "withdraw": "yellow",
    "dispose": "bright_black",
    "release": "red",
    "missed": "red",
}


class Listener:
    """Follows what happens in a pool.

    Parameters
    ----------
    app : App
        On whose behalf; connected. Its own events are left out.
    selector, kinds, since
        As for `App.subscribe`.
    """

    def __init__(
        self,
        app: App,
        selector: str | None = None,
        kinds: str | Iterable[str] | None = None,
        since: int | None = None,
    ) -> None:
        self._app = app
        Selector(selector)  # what is wrong is said here
        asked = {"selector": selector, "kinds": list(checked_kinds(kinds)), "since": since}
        self._asked = {**asked, "ack": False, "when": "after", "own": False}

    def run(self, sink: Callable[[list[Row]], Any], count: int | None = None) -> Any:
        """Tell the sink, until the pool is gone.

        Parameters
        ----------
        sink : callable
            Called with rows of `COLUMNS`, batch by batch; what it returns is awaited if it can be.
        count : int, optional
            Events after which to end.
        """
        return self._app._link.run(self._run, sink, count)

    async def _run(self, sink: Callable[[list[Row]], Any], count: int | None) -> None:
        subscription = await self._app._subscribe(**self._asked)
        try:
            while count is None or count > 0:
                events = await subscription._wait(None, count)
                told = sink([row(event) for event in events])
                if inspect.isawaitable(told):
                    await told
                count = None if count is None else count - len(events)
        finally:
            await subscription._end()


def row(event: Event) -> Row:
    """An event's values by `COLUMNS`.

    Examples
    --------
    >>> row(Event(7, "offer", "t2m", "model", 0.5))["name"]
    't2m'
    """
    return {column: getattr(event, column) for column in COLUMNS}


class LiveTable:
    """The latest events in a table that fills the terminal, and how many there were of each kind.

    Parameters
    ----------
    console : rich.console.Console
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._latest: deque[Row] = deque(maxlen=200)
        self._counts: Counter[str] = Counter()
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=8)

    def write(self, rows: Iterable[Row]) -> None:
        """Show these too."""
        for each in rows:
            self._latest.append(each)
            self._counts[each["kind"]] += 1

    def render(self) -> Group:
        """What is shown now."""
        shown = table(("time", "kind", "CDO", "app", "more"))
        for column in shown.columns:
            column.no_wrap = True
            column.overflow = "ellipsis"
        room = max(1, self._console.height - 7)
        for each in list(self._latest)[-room:]:
            colour = COLOURS.get(each["kind"], "")
            time = datetime.fromtimestamp(each["time"]).strftime("%H:%M:%S.%f")[:-3]
            words = (time, each["kind"], each["name"], each["app"], _more(each))
            shown.add_row(*map(shown_cell, words), style=colour)
        counts = "  ".join(f"{kind} {count}" for kind, count in self._counts.most_common())
        return Group(shown, Text(counts or "nothing yet", style="bold", overflow="ellipsis"))

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def _more(each: Row) -> str:
    """What else there is to say of an event, in few words."""
    before = ["before"] if each["when"] == "before" else []
    own = {k: v for k, v in each["attributes"].items() if not k.startswith(".maestro.core.")}
    said: dict[str, Any] = {**each["payload"], **own}
    return " ".join([*before, *(f"{key.rpartition('.')[2]}={cell(v)}" for key, v in said.items())])
