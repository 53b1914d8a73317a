"""Pools that are started by command: how they are found, and how they end."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import maestro
from maestro.commands import maestro as command
from tests.maestro.commands.programs import Process
from tests.maestro.waiting import until


def exchange(address):
    """Bytes through a pool; the nodes that it has."""
    array = np.arange(1 << 16, dtype="f8").reshape(256, 256)
    with maestro.connect(address) as app:
        until(lambda: app.pool.nodes)
        app.offer("x", array)
        assert np.array_equal(app.demand("x"), array)
        return set(app.pool.nodes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_pool_ends_when_it_is_told_and_leaves_nothing(tmp_path, number):
    contact, arena = tmp_path / "new" / "contact.json", tmp_path / "arena"
    arena.mkdir()
    words = "pool", "--nodes", 2, "--contact", contact
    with Process(*words, DASK_MAESTRO__ARENA__DIRECTORY=str(arena)) as process:
        address = process.line()
        assert json.loads(contact.read_text())["address"] == address
        assert contact.stat().st_mode & 0o777 == 0o600
        assert len(exchange(maestro.contact.find(str(contact)))) == 2
        assert list(arena.iterdir())
        status, out, err = process.end(number)
    assert (status, out) == (0, "")
    assert err == f"Contact file {contact}; it ends with ctrl-C or SIGTERM.\n"
    assert set(tmp_path.rglob("*")) == {contact.parent, arena}


def test_a_manager_and_nodes_apart(tmp_path):
    contact = tmp_path / "contact.json"
    with Process("manager", "--contact", contact) as manager:
        address = manager.line()
        with (
            Process("node", "--pool", contact) as one,
            Process("node", MAESTRO_POOL_MANAGER=str(contact)) as other,
            maestro.connect(address) as app,
        ):
            until(lambda: len(app.pool.nodes) == 2)
            exchange(address)
            assert one.end(signal.SIGTERM) == (0, "", "")
            until(lambda: len(app.pool.nodes) == 1)
            manager.end(signal.SIGINT)
            status, out, err = other.end()
    assert (status, out) == (1, "")
    assert err.splitlines()[-1] == f"Error: node: the manager at {address} is gone"


def test_the_contact_file_of_a_pool_that_was_killed(tmp_path):
    contact = tmp_path / "contact.json"
    with Process("manager", "--contact", contact) as killed:
        address = killed.line()
        status, _, err = Process("manager", "--contact", contact).end()
        assert (status, err) == (
            1,
            f"Error: contact: {contact} is that of another pool, which lives: name another file\n",
        )
    status, out, err = Process("ls", "--pool", contact).end()
    gone = f"Error: pool: the one that wrote {contact}, at {address}, is gone\n"
    assert (status, out, err) == (1, "", gone)
    with Process("manager", "--contact", contact) as next_one:  # which the file is free for
        address = next_one.line()
        assert maestro.contact.find(str(contact)) == address


def test_the_usual_contact_file(tmp_path, monkeypatch):
    for variable in maestro.contact.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(maestro.PoolNotFoundError, match=r"no contact file.*`maestro pool`"):
        maestro.contact.find()
    with maestro.contact.written("tcp://here:1", maestro.contact.default_file()):
        assert maestro.contact.find() == "tcp://here:1"
    monkeypatch.setenv("MSTRO_POOL_MANAGER_INFO", "tcp://there:1")
    assert maestro.contact.find() == "tcp://there:1"
    monkeypatch.setenv("MAESTRO_POOL_MANAGER", "tcp://elsewhere:1")
    assert maestro.contact.find() == "tcp://elsewhere:1"
    assert maestro.contact.find("tcp://nowhere:1") == "tcp://nowhere:1"


@pytest.mark.parametrize("words", ["", "[]", "{}", "address: here"])
def test_what_is_no_contact_file(tmp_path, words):
    path = tmp_path / "contact.json"
    path.write_text(words)
    with pytest.raises(maestro.PoolNotFoundError, match=f"{path} is no contact file"):
        maestro.contact.find(str(path))


def test_contact_files_of_other_origin(tmp_path):
    """Dask's own, and ours from another host: nobody can tell whether their pools live."""
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"type": "Scheduler", "address": "tcp://10.0.0.1:8786"}))
    assert maestro.contact.find(str(path)) == "tcp://10.0.0.1:8786"
    words = {"address": "tcp://10.0.0.1:8786", "maestro": True}
    host = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path.write_text(json.dumps({**words, "host": "another"}))
    assert maestro.contact.find(str(path)) == "tcp://10.0.0.1:8786"
    path.write_text(json.dumps({**words, "host": host}))
    with pytest.raises(maestro.PoolNotFoundError, match="is gone"):
        maestro.contact.find(str(path))


@pytest.mark.parametrize("pool", ["carrier-pigeon://here:1", "nowhere", "tcp://"])
def test_what_is_no_pool(pool):
    done = CliRunner().invoke(command, ["ls", "--pool", pool])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: pool: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["pool"], ["manager"]])
def test_a_port_that_is_taken(words, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ["--host", "127.0.0.1", "--port", port, "--contact", tmp_path / "contact.json"]
        status, out, err = Process(*words, *options).end()
    assert (status, out) == (1, "")
    assert err.startswith("Error: manager: can't be started: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_does_not_wait_for_dask():
    """Nor does a wrong option, of any command."""
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from maestro.commands import maestro\n"
        "for words in ['--help'], *([name, '--no-such'] for name in maestro.commands):\n"
        "    try: maestro(words)\n"
        "    except SystemExit: pass\n"
        "print(*{'dask', 'distributed', 'numpy', 'rich', 'zarr'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""
    assert done.stderr.count("No such option '--no-such'") == len(command.commands)


def test_dask_has_it_too():
    from importlib.metadata import entry_points

    (found,) = entry_points(group="dask_cli", name="maestro")
    assert found.load() is command
