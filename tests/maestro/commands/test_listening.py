"""What happens in a pool, as people and programs are told of it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal

import pytest
from rich.console import Console

import maestro
from maestro.events import Event
from maestro.programs.listening import COLUMNS, Listener, LiveTable, row
from tests.maestro.commands.programs import Process
from tests.maestro.waiting import in_thread, until


def test_rows(app):
    """By a blocking app, what it does itself left out."""
    heard = []
    with maestro.connect(app.address, component="listener") as own:
        listener = Listener(own, "(step = 6)", ["offer", "withdraw"], since=1)
        listening = in_thread(listener.run, heard.extend, 3)
        own.offer("mine", attributes={"step": 6})
        for name, step in (("t2m", 0), ("u10", 6), ("v10", 6)):
            app.offer(name, attributes={"step": step}).withdraw()
        listening()
    assert [each["kind"] for each in heard] == ["offer", "withdraw", "offer"]
    assert {each["attributes"]["step"] for each in heard} == {6}
    assert tuple(heard[0]) == COLUMNS


def test_wrong_kinds_and_selectors(run):
    status, _, err = run("listen", "--kind", "often")
    assert status == 2
    assert "'often' is not one of 'declare'" in err
    status, _, err = run("listen", "(step")
    assert (status, err.splitlines()[0][:30]) == (1, "Error: selector: column 6: got")


def listening(app, *words, **more):
    """Start a listener, and wait until it listens."""
    last = app.log()[-1].serial
    process = Process("listen", "--pool", app.address, *words, **more)
    until(lambda: any(each.kind == "subscribe" for each in app.log(since=last + 1)))
    return process


def test_into_a_pipe(app):
    with listening(app, "(has step)", "--kind", "offer", "--count", 2) as process:
        app.offer("t2m", attributes={"step": 6, "name": "a, b"})
        app.offer("none of its business")
        app.offer("\N{SNOWMAN}\n\x1b[2J", attributes={"step": 12})
        status, out, err = process.end()
    assert (status, err) == (0, "")
    first, second = csv.DictReader(io.StringIO(out))
    assert tuple(first) == COLUMNS
    assert (first["kind"], first["name"]) == ("offer", "t2m")
    assert json.loads(first["attributes"])["name"] == "a, b"
    assert second["name"] == "\N{SNOWMAN}\n\x1b[2J"
    assert float(first["time"]) > 1e9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_until_it_is_told(app, number):
    """Also where nobody reads what it has to say: its pipe is full."""
    with listening(app, "--format", "json") as process:
        app.offer("t2m", attributes={"step": 6, "large": "x" * (1 << 17)})
        assert json.loads(process.line())["kind"] in ("join", "declare")
        status, _, err = process.end(number)
    assert (status, err) == (0, "")


def test_a_reader_that_goes(app):
    """As `head` does: the listener ends as well, whether it has something to say or not."""
    idle = listening(app, "--kind", "leave")
    idle.line()
    idle.process.stdout.close()
    idle.process.stdout = None
    assert idle.end()[::2] == (0, "")
    busy = listening(app, "--format", "json")
    busy.process.stdout.close()
    busy.process.stdout = None
    app.offer("t2m")
    assert busy.end()[::2] == (0, "")


def test_a_table_shows_the_latest_that_fit():
    console = Console(file=io.StringIO(), width=90, height=12, force_terminal=False)
    table = LiveTable(console)
    events = [
        Event(n, "offer", f"field-{n}", "model", n, {"step": n, ".maestro.core.cdo.name": "x"})
        for n in range(100)
    ]
    table.write(map(row, events))
    table.write([row(Event(100, "missed", None, None, 0.0, payload={"count": 7}))])
    console.print(table.render())
    lines = console.file.getvalue().splitlines()
    assert len(lines) <= 12
    assert "field-99" in lines[-4]
    assert "step=99" in lines[-4]
    assert "missed" in lines[-3]
    assert "count=7" in lines[-3]
    assert lines[-1] == "offer 100  missed 1"
    assert "field-1 " not in console.file.getvalue()


def test_on_a_terminal(app):
    """It draws there, and leaves the last state when it is told to end."""
    ours, theirs = os.openpty()
    process = listening(app, stdout=theirs)
    os.close(theirs)
    app.offer("t2m")
    drawn = b""
    while b"offer 1" not in drawn:
        drawn += os.read(ours, 1 << 16)
    assert process.end(signal.SIGTERM)[::2] == (0, "")
    os.close(ours)
