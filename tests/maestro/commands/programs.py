"""Commands as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


class Process:
    """``maestro ...``, started as a user starts it."""

    def __init__(self, *words, stdout=subprocess.PIPE, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "maestro", *map(str, words)],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            bufsize=0,  # a line is read to its end and no further: `communicate` gets the rest
            process_group=0,  # as a shell does: ctrl-C goes to it and its children alone
        )

    def line(self):
        """The next line of standard output."""
        return self._line(self.process.stdout)

    def said(self):
        """The next line of standard error: what a program says once it is where it should be."""
        return self._line(self.process.stderr)

    def _line(self, stream):
        silent = threading.Timer(300, self.process.kill)
        silent.start()
        line = stream.readline().decode().rstrip("\n")
        silent.cancel()
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
            out, err = self.process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return self.process.returncode, *((said or b"").decode() for said in (out, err))

    def kill(self):
        """Make an end of it and its children, whatever became of the test."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
