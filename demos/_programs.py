"""Other programs: to start them, to hear from them line by line, and to leave none behind."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Thread
from types import TracebackType
from typing import IO, Any

#: Seconds that a program waits for others before it gives up.
PATIENCE = 60.0

#: Seconds without a word from any program; longer, so that the one that gave up says why itself.
SILENCE = PATIENCE + 20

#: Seconds for a program to end by itself once its input is closed.
GOODBYE = 10.0


def tell(state: str, **more: Any) -> None:
    """In a program that was started here: say how far it is, and anything else that JSON holds."""
    print(json.dumps({"state": state, **more}), flush=True)


class ProgramError(Exception):
    """A program that failed, died, or was not heard of for too long."""


@dataclass
class Program:
    """One that was started."""

    process: subprocess.Popen[str]
    errors: IO[str]
    lasting: bool  # until it is dismissed
    state: str = "is starting"


class Programs:
    """Python scripts running as processes of their own, for the duration of a ``with`` block."""

    def __init__(self) -> None:
        self._all: dict[str, Program] = {}
        self._scratch = TemporaryDirectory(prefix="maestro-demo-", ignore_cleanup_errors=True)
        self._lines: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()

    def start(self, name: str, script: Path, *arguments: object, lasting: bool = False) -> None:
        """Start a script, `lasting` if it ends only once it is dismissed; returns at once."""
        errors = TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed in __exit__)
        process = subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            env=os.environ | {"TMPDIR": self._scratch.name},  # what one that dies leaves goes too
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            process_group=0,  # ctrl-C is for the main program: it ends the others in good order
        )
        self._all[name] = Program(process, errors, lasting)
        Thread(target=self._listen, args=(name, process), daemon=True).start()

    def news(self, *names: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """What all programs tell, with their names, as it comes, until these have ended well.

        Raises
        ------
        ProgramError
            If one of these ends otherwise, another ends at all, or all are silent for too long.
        """
        left = set(names)
        while left:
            try:
                name, line = self._lines.get(timeout=SILENCE)
            except queue.Empty:
                last = "; ".join(f"{name} {self._all[name].state}" for name in sorted(left))
                raise ProgramError(f"No news for {SILENCE:g} s. {last}.") from None
            if line is None:
                self._check(name, expected=name in left)
                left.remove(name)
            elif line.startswith("{"):  # else something that a library prints
                said = json.loads(line)
                self._all[name].state = said["state"]
                yield name, said

    def dismiss(self, name: str) -> None:
        """Close a program's input: to one that waits for that, the word to end."""
        stdin = self._all[name].process.stdin
        assert stdin is not None
        stdin.close()

    def _listen(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._lines.put((name, line))
        process.wait()
        self._lines.put((name, None))

    def _check(self, name: str, expected: bool) -> None:
        program = self._all[name]
        status = program.process.wait()
        if status == 0 and expected:
            return
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        program.errors.seek(0)
        last = program.errors.read().strip().rpartition("\n")[2]  # of a traceback: the error
        raise ProgramError(f"{name} {how}; its last state: {program.state}. {last}")

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for program in self._all.values():
            if not program.lasting:
                program.process.kill()  # does nothing to one that has ended
        for name, program in self._all.items():
            self.dismiss(name)
            try:
                program.process.wait(GOODBYE)
            except subprocess.TimeoutExpired:
                program.process.kill()
                program.process.wait()
            program.errors.close()
        self._scratch.cleanup()
