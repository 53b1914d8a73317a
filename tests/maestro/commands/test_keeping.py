"""What is kept stays in the pool until it is let go."""

from __future__ import annotations

import signal

import numpy as np
import pytest

import maestro
from layouts import Distribution
from maestro.programs.keeping import KeepAlive
from tests.maestro.commands.programs import Process
from tests.maestro.waiting import in_thread, until

ROWS = Distribution((4, 3), grid=(2, 1))


def offer(app, name, step):
    return app.offer(name, [280.0], attributes={"step": step})


def test_what_is_there_and_what_comes(app):
    early = offer(app, "early", 6)
    other = offer(app, "other", 0)
    with maestro.connect(app.address) as own, KeepAlive(own, "(step > 0)") as keeping:
        late = offer(app, "late", 12)
        for kept in (early, late):
            with pytest.raises(maestro.PoolTimeoutError, match="still required by app-"):
                kept.withdraw(timeout=0.05)
        other.withdraw(timeout=30)
        assert {name for name, _ in keeping.kept} == {"early", "late"}
        withdrawn = in_thread(early.withdraw)
    withdrawn()
    late.withdraw(timeout=30)


def test_every_version_once(app):
    """Two ranks that speak for themselves tell of one version; the next offer is another."""
    told = []
    with KeepAlive(app, tell=told.append):
        for _ in range(2):
            ranks = [app.declare("t2m", ROWS, rank=rank) for rank in range(2)]
            for rank, part in zip(ranks, ROWS.split(np.ones((4, 3))), strict=True):
                rank.offer(part)
            waiting = [in_thread(rank.withdraw) for rank in ranks]
            until(lambda: "t2m" not in app.pool)  # it leaves, but for who requires it
        assert told == ["t2m", "t2m"]
        assert sum(node["used"] for node in app.pool.nodes.values()) == 2 * 96
    for join in waiting:
        join()


def test_a_producer_that_never_rests(app):
    """Nothing slips through between its offer and its withdrawal."""
    with KeepAlive(app) as keeping:
        withdrawals = [in_thread(offer(app, f"field-{n}", n).withdraw) for n in range(50)]
        until(lambda: len(keeping.kept) == 50)
        assert all(cdo.state == "required" for cdo in keeping.kept.values())
    for withdrawn in withdrawals:
        withdrawn()


def test_a_wrong_selector(app):
    with pytest.raises(maestro.SelectorError, match="column 2"):
        KeepAlive(app, "((").start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_until_it_is_told(app, pool, number):
    cdo = offer(app, "t2m", 6)
    with Process("keep", "(step = 6)", "--pool", pool) as process:
        assert process.line() == "t2m"
        assert process.said() == "Keeps 1 CDOs, and what is offered from now on."
        withdrawn = in_thread(cdo.withdraw)
        until(lambda: "t2m" not in app.pool)
        assert process.end(number) == (0, "", "")
    withdrawn()


def test_until_a_time_or_a_name(app, run):
    cdo = offer(app, "t2m", 6)
    assert run("keep", "(step = 6)", "--for", "10 ms")[:2] == (0, "t2m\n")
    done = offer(app, 'all "done" \\', 0)
    assert run("keep", "(step = 6)", "--until", done.name)[:2] == (0, "t2m\n")
    cdo.withdraw(timeout=30)
    status, out, err = run("keep", "(step = 6)", "--for", "0")
    assert (status, out) == (1, "")
    assert err.endswith("Error: selector: (step = 6) matched nothing\n")
    assert run("keep", "(step = 6)", "--for", "ever")[0] == 2


def test_a_pool_that_dies(tmp_path):
    contact = tmp_path / "contact.json"
    with Process("manager", "--contact", contact) as manager:
        manager.line()
        with Process("keep", "(has step)", "--pool", contact) as process:
            with maestro.connect(maestro.contact.find(str(contact))) as app:
                app.offer("barrier", attributes={"step": 1})
                assert process.line() == "barrier"
            manager.end(signal.SIGTERM)
            status, out, err = process.end()
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith("Error: the pool manager at tcp://")
    assert err.count("\n") == 2
