"""The demo, run as a user runs it: in a process of its own, to a good end and to bad ones."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

DEMO = Path(__file__).parents[1] / "demos" / "interlock.py"

#: What each process of a run does first: the one that is to hang stops itself.
FIRST = """
import os, signal, sys
if sys.orig_argv[1:2] == [{script!r}] and "--rank {rank} " in " ".join(sys.orig_argv):
    os.kill(os.getpid(), signal.SIGSTOP)
"""


class Run:
    """A run of the demo; whatever it starts, and that starts, carries its mark."""

    def __init__(self, folder, *options, hang=None):
        self.mark, self.scratch = uuid4().hex, folder / "tmp"
        self.scratch.mkdir()
        self.environment = {
            "TMPDIR": str(self.scratch),
            "DASK_MAESTRO__ARENA__DIRECTORY": str(self.scratch),  # not where others' pools are
            "MAESTRO_TEST_MARK": self.mark,
        }
        if hang is not None:
            script, rank = hang
            (modules := folder / "modules").mkdir()
            first = FIRST.format(script=str(DEMO.with_name(script)), rank=rank)
            (modules / "sitecustomize.py").write_text(first)
            path = [str(modules), *filter(None, [os.environ.get("PYTHONPATH")])]
            self.environment["PYTHONPATH"] = os.pathsep.join(path)
        self.process = subprocess.Popen(
            [sys.executable, DEMO, *options],
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a process group, as a terminal would give it
            # ... and with ctrl-C in force, which a job in the background inherits switched off.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def end(self):
        """Its exit status, and the rest of its output."""
        out, err = self.process.communicate(timeout=300)
        return self.process.returncode, out, err

    def read_until(self, words):
        """Read its output up to the line with these words."""
        assert any(words in line for line in self.process.stdout), self.end()

    def find(self, script, rank):
        """The process of one rank, as soon as it is there."""
        while self.process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
            for process in self.processes():
                with suppress(psutil.Error):
                    words = process.cmdline()
                    if words[1:2] == [str(DEMO.with_name(script))] and rank == rank_in(words):
                        return process
        raise AssertionError(f"{script} of rank {rank} did not start: {self.end()}")

    def processes(self):
        """All that carry the mark and run."""
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get("MAESTRO_TEST_MARK") == self.mark
                if marked and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:  # gone, or another user's
                continue
        return found

    def left_behind(self):
        """Processes, files and segments of memory that are still there once it has ended."""
        _, running = psutil.wait_procs(self.processes(), timeout=300)
        return [*running, *self.scratch.iterdir()]

    def kill(self):
        """Make an end of it, whatever became of the test."""
        for process in self.processes():
            process.kill()
        self.process.communicate()


def rank_in(words):
    """What a command line gives as rank."""
    return int(words[words.index("--rank") + 1])


@pytest.fixture
def start(tmp_path):
    """Start the demo with these options; the script of one rank may hang from the first moment."""
    runs = []

    def start(*options, hang=None):
        runs.append(Run(tmp_path, *options, hang=hang))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()


def test_from_end_to_end(start, tmp_path):
    picture = tmp_path / "map.png"
    run = start("--output", picture)
    status, out, err = run.end()
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == (
        "All 3 blocks equal the file byte for byte; trends agree with NumPy to 1e-12 K per decade"
    )
    assert out.count("│ producer-") == 4 + 4 * 3  # the plan's rows, and one for each transfer
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) > 50_000
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    assert width > height > 600
    assert not run.left_behind()


@pytest.mark.parametrize("by", ["tcp", "files", "objects"])
def test_by_other_ways(start, tmp_path, by):
    """It checks itself by which way the bytes went, and that nothing is left in the store."""
    few = ["--producers", "2", "--consumers", "1", "--workers", "1"]
    run = start("--by", by, *few, "--output", tmp_path / "map.png")
    status, out, err = run.end()
    assert (status, err) == (0, "")
    assert out.count("│ network" if by == "tcp" else "│ store ") == 2
    assert ("no object in the store" in out) == (by != "tcp")
    assert out.splitlines()[-1].startswith("All 1 blocks equal the file byte for byte")
    assert not run.left_behind()


@pytest.mark.parametrize("how", ["producer killed", "ctrl-C"])
def test_broken_off(start, tmp_path, how):
    few = ["--producers", "3", "--consumers", "1", "--workers", "1"]
    run = start(*few, "--output", tmp_path / "map.png", hang=("consumer.py", 0))
    run.read_until("producer-2 connected")  # it can't go on: producers wait for all consumers
    if how == "ctrl-C":
        os.killpg(run.process.pid, signal.SIGINT)
        expected = "Interrupted; all programs were stopped.\n"
    else:
        run.find("producer.py", 2).kill()
        expected = "Failed; all programs were stopped. producer-2 was killed by signal 9"
    status, _, err = run.end()
    assert status == 1
    assert err.startswith(expected)
    assert "Traceback" not in err
    assert not (tmp_path / "map.png").exists()
    assert not run.left_behind()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("missing/map.png", "missing is no folder to write to"),
        ("file/map.png", "file is no folder to write to"),
        ("folder.png", "is a directory"),
        ("map.xyz", "map.xyz is no .png file"),
    ],
)
def test_output_that_cannot_be(start, tmp_path, output, expected):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    status, out, err = start("--output", tmp_path / output).end()
    assert (status, out) == (2, "")  # nothing is started
    assert expected in err
    assert "Traceback" not in err


def test_too_many(start):
    status, out, err = start("--consumers", "1000").end()
    assert (status, out) == (2, "")
    assert "--consumers" in err


@pytest.mark.parametrize(
    ("script", "options", "expected"),
    [
        (
            "mvp.py",
            ["--producers", "2", "--consumers", "2", "--archivers", "2", "--fields", "3"],
            "6 fields from 2 producers: 2 consumers have got each of them, and 2 archivers saved",
        ),
        ("listener.py", ["--steps", "3"], "6 fields, each once: 0.52 MB in "),
        ("archiver.py", ["--steps", "3"], "3 fields were saved before they left the pool, open in"),
        (
            "forecast.py",
            ["--steps", "3", "--rows", "48"],
            "All 15 fields of 3 steps were archived byte for byte, each step has its map, and",
        ),
    ],
)
def test_those_of_one_program(tmp_path, script, options, expected):
    """Each checks itself, and its last line says so."""
    if script == "forecast.py":
        options = [*options, "--output", str(tmp_path / "forecast.png")]
    done = subprocess.run(
        [sys.executable, DEMO.with_name(script), *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr  # Dask may leave a word there where a machine is busy
    assert done.stdout.splitlines()[-1].startswith(expected)
    if script == "forecast.py":
        assert (tmp_path / "forecast.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
