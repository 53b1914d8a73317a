"""Commands as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys


class Process:
    """``maestro ...``, started as a user starts it."""

    def __init__(self, *words, stdout=subprocess.PIPE, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "maestro", *map(str, words)],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,  # as a shell does: ctrl-C goes to it and its children alone
        )

    def line(self):
        """The next line of standard output."""
        line = self.process.stdout.readline().rstrip("\n")
        assert line, self.end()
        return line

    def tell(self, number):
        """Send a signal; ctrl-C to the whole group, as a terminal does."""
        send = os.killpg if number == signal.SIGINT else os.kill
        send(self.process.pid, number)

    def end(self, number=None):
        """Status, standard output and error once it has ended, told to or not."""
        if number is not None:
            self.tell(number)
        try:
            out, err = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return self.process.returncode, out, err

    def kill(self):
        """Make an end of it and its children, whatever became of the test."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
