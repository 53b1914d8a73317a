"""ScaLAPACK's own redistribution, `pdgemr2d`, by MPI processes that each are one rank.

It takes Debian's `libscalapack-openmpi-dev`, which brings `mpirun`; the routines are called through
ctypes, so neither a compiler nor mpi4py is needed. Between two calls the processes wait for their
line and take no processor time, unlike MPI processes that wait for each other.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from multiprocessing.connection import Client, Listener
from pathlib import Path
from tempfile import TemporaryDirectory

import numbering
import numpy as np
from ranks import Lines, serve

from layouts import Distribution
from layouts.foreign.scalapack import to_descriptor

__all__ = ["ScalapackRanks", "is_there"]

START = 60  # seconds that the processes have to start in
LIBRARY = "libscalapack-openmpi.so.2.2"


def is_there() -> bool:
    """Whether the library and `mpirun` are installed."""
    if shutil.which("mpirun") is None:
        return False
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


class ScalapackRanks(Lines):
    """Processes started by `mpirun`.

    Parameters
    ----------
    size : int
        How many.

    Raises
    ------
    RuntimeError
        If they do not start.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._folder = TemporaryDirectory(prefix="scalapack-")
        address = str(Path(self._folder.name) / "line")
        command = ["mpirun", "-n", str(size), "--oversubscribe", "--bind-to", "none"]
        if os.geteuid() == 0:
            command.append("--allow-run-as-root")
        command += [sys.executable, __file__, address]
        with Listener(address) as listener:
            self._mpirun = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            # The listener has no time-out of its own.
            listener._listener._socket.settimeout(START)  # type: ignore[attr-defined]
            try:
                lines = [listener.accept() for _ in range(size)]
                self._lines = [line for _, line in sorted((line.recv(), line) for line in lines)]
            except (OSError, EOFError) as error:
                self.close()
                raise RuntimeError(f"ScaLAPACK's {size} processes do not start: {error}") from error

    def close(self) -> None:
        """End the processes."""
        for line in self._lines:
            line.close()
        try:
            self._mpirun.wait(10)
        except subprocess.TimeoutExpired:
            self._mpirun.kill()
        self._folder.cleanup()


class _Scalapack:
    """What one of the processes can do; each method is one call."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)
        rank, size = ctypes.c_int(), ctypes.c_int()
        self._library.Cblacs_pinfo(ctypes.byref(rank), ctypes.byref(size))
        self.rank = rank.value
        self._everyone = self._context((1, size.value))
        self._contexts: dict[tuple[int, ...], int] = {}

    def _context(self, grid: tuple[int, ...]) -> int:
        """A BLACS context of a grid; all ranks make it at once."""
        context = ctypes.c_int()
        self._library.Cblacs_get(-1, 0, ctypes.byref(context))
        self._library.Cblacs_gridinit(ctypes.byref(context), b"R", *grid)
        return context.value

    def take_on(self, source: Distribution, target: Distribution) -> None:
        """Have this rank's parts, in their order and, where that is by rows, by columns too."""
        self.target = target
        self.own = numbering.part(source, self.rank)
        self.given = np.full_like(self.own, -1, order="F")
        self.turn()
        self.got = np.full_like(numbering.part(target, self.rank), -1, order="F")
        self._descriptors = self._describe(source), self._describe(target)

    def _describe(self, distribution: Distribution) -> ctypes.Array[ctypes.c_int]:
        if distribution.grid not in self._contexts:
            self._contexts[distribution.grid] = self._context(distribution.grid)
        by_columns = replace(distribution, order="F")
        described = to_descriptor(by_columns, self._contexts[distribution.grid])
        prow, _ = distribution.coordinates(self.rank)
        return (ctypes.c_int * 9)(*described.astuple(prow))

    def turn(self) -> None:
        """From rows to columns, the only order that ScaLAPACK knows; by NumPy."""
        np.copyto(self.given, self.own)

    def redistribute(self) -> None:
        """One pdgemr2d."""
        address, pointer = ctypes.byref, ctypes.c_void_p
        rows, columns = map(ctypes.c_int, self.target.shape)
        one, everyone = ctypes.c_int(1), ctypes.c_int(self._everyone)
        sides = [
            (pointer(part.ctypes.data), address(one), address(one), described)
            for part, described in zip((self.given, self.got), self._descriptors, strict=True)
        ]
        self._library.pdgemr2d_(
            address(rows), address(columns), *sides[0], *sides[1], address(everyone)
        )

    def check(self) -> None:
        """Compare what came with what it must be, then spoil it."""
        numbering.check(replace(self.target, order="F"), self.rank, self.got)
        self.got[...] = -1

    def end(self) -> None:
        """Leave MPI, or `mpirun` takes it for a crash."""
        self._library.Cblacs_exit(0)


def main() -> None:
    itself = _Scalapack()
    with Client(sys.argv[1]) as line:
        line.send(itself.rank)
        serve(line, itself)
    itself.end()


if __name__ == "__main__":
    main()
