"""One pool for the commands of a file, and a way to run them in this process."""

from __future__ import annotations

import signal

import pytest
from click.testing import CliRunner

import maestro
from maestro.commands import maestro as command
from tests.maestro.commands.programs import Process


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """``maestro pool``; gives its contact file."""
    contact = tmp_path_factory.mktemp("pool") / "contact.json"
    with Process("pool", "--nodes", 1, "--contact", contact) as process:
        process.line()
        yield contact
        assert process.end(signal.SIGTERM)[0] == 0


@pytest.fixture
def app(pool):
    """An app in that pool, which it leaves as it was."""
    with maestro.connect(maestro.contact.find(str(pool)), component="test") as app:
        yield app
    with maestro.connect(maestro.contact.find(str(pool))) as after:
        assert not after.pool


@pytest.fixture
def run(pool, monkeypatch):
    """Run a command for the pool: its status, standard output and error."""
    monkeypatch.setenv("MAESTRO_POOL_MANAGER", str(pool))

    def run(*words):
        result = CliRunner().invoke(command, list(map(str, words)))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run
