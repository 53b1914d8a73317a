"""The ranks of a distribution as processes of their own, each an app connected to a pool."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import numbering

import maestro
from layouts import Distribution

__all__ = ["Lines", "Processes", "Ranks", "serve"]

PATIENCE = 300.0  # seconds that a rank may take for anything


class Lines:
    """Lines to processes that each are one rank; every call is made by all of them at once."""

    def __init__(self) -> None:
        self._lines: list[Connection] = []

    def each(self, call: str, *arguments: Any) -> tuple[float, list[Any]]:
        """Let every rank do one thing: seconds from the common signal to the last answer, answers.

        Raises
        ------
        RuntimeError
            If a rank fails, dies, or does not answer.
        """
        begun = perf_counter()
        self.begin(call, *arguments)
        answers = self.answers(call)
        return perf_counter() - begun, answers

    def begin(self, call: str, *arguments: Any) -> None:
        """Let every rank begin with one thing; `answers` waits for it."""
        for line in self._lines:
            line.send((call, arguments))

    def answers(self, call: str) -> list[Any]:
        """What every rank answers to the call that was begun; raises as `each` does."""
        answers = [self._answer(rank, call) for rank in range(len(self._lines))]
        for rank, (error, _) in enumerate(answers):
            if error is not None:
                raise RuntimeError(f"rank {rank}: {call}: {error}")
        return [value for _, value in answers]

    def _answer(self, rank: int, call: str) -> tuple[str | None, Any]:
        try:
            if self._lines[rank].poll(PATIENCE):
                answer: tuple[str | None, Any] = self._lines[rank].recv()
                return answer
        except EOFError:
            return "its process died", None
        return f"no answer in {PATIENCE:g} s", None


class Processes(Lines):
    """Processes that do what they are told.

    Parameters
    ----------
    size : int
        How many.
    target : callable
        What each does, given its end of the line, its number and the arguments: see `serve`.
    *arguments : Any
        What else it is given.
    """

    def __init__(self, size: int, target: Callable[..., None], *arguments: Any) -> None:
        super().__init__()
        context = multiprocessing.get_context("spawn")
        self._processes = []
        for number in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=target, args=(theirs, number, *arguments), daemon=True)
            process.start()
            theirs.close()
            self._lines.append(ours)
            self._processes.append(process)

    def close(self) -> None:
        """End the processes."""
        for line in self._lines:
            line.close()  # which they take as the end
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()


class Ranks(Processes):
    """Processes that each are an app and speak for one rank.

    Parameters
    ----------
    address : str
        Of the pool.
    size : int
        How many.
    component : str
        What they are, for the pool's listings.
    """

    def __init__(self, address: str, size: int, component: str) -> None:
        super().__init__(size, _be_a_rank, address, component)


class _Rank:
    """What one of the processes can do; each method is one call."""

    def __init__(self, app: maestro.App, rank: int) -> None:
        self.app, self.rank = app, rank
        self.cdo: Any = None
        self.own: Any = None
        self.part: Any = None

    def take_on(self, name: str, distribution: Distribution) -> None:
        """Be a rank of this distribution of that CDO from now on, and have its part."""
        self.release()
        self.name, self.distribution = name, distribution
        self.own = numbering.part(distribution, self.rank)

    def release(self) -> None:
        """Give up the handle, what it offered and what it got."""
        self.part = None
        if self.cdo is not None:
            if self.cdo.state == "offered":
                self.cdo.withdraw()
            self.cdo.dispose()
            self.cdo = None

    def declare(self) -> None:
        self.release()
        self.cdo = self.app.declare(self.name, self.distribution, "f8", rank=self.rank)

    def offer(self) -> None:
        self.cdo.offer(self.own)

    def demand(self) -> tuple[int, int]:
        """Bytes and messages."""
        self.part = self.cdo.demand(timeout=PATIENCE)
        return self.cdo.report.bytes, self.cdo.report.messages

    def demand_in_bounds(self) -> int:
        """Bytes of memory that the demand takes at most, beside the part and what was mapped."""
        self.app._link.ways.memory.clear()  # what the last part has left behind
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, mapped = _status("VmRSS"), _status("RssShmem")
        self.part = self.cdo.demand(timeout=PATIENCE)
        mapped = max(0, _status("RssShmem") - mapped)  # parts of the nodes that it had not seen
        return _status("VmHWM") - before - mapped - self.part.nbytes

    def check(self) -> None:
        numbering.check(self.distribution, self.rank, self.part)


def _status(key: str) -> int:
    """Bytes of memory that this process takes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"this system does not say {key}")


def _be_a_rank(line: Connection, rank: int, address: str, component: str) -> None:
    with maestro.connect(address, component=component, timeout=PATIENCE) as app:
        serve(line, _Rank(app, rank))


def serve(line: Connection, itself: object) -> None:
    """Do what the line says, each call a method of `itself`, until it ends."""
    while True:
        try:
            call, arguments = line.recv()
        except EOFError:
            return
        try:
            answer = None, getattr(itself, call)(*arguments)
        except Exception as error:  # whatever it is, the benchmark reports it
            answer = f"{type(error).__name__}: {error}", None
        line.send(answer)
