"""From Python to LLVM code, by Numba; where possible in a process of its own.

Numba makes machine code of every function by itself, as well as it can, and of every function again
in those that call it; of a kernel, which is dozens of functions, that takes twice as long as all
else. ``NUMBA_OPT=0`` saves it, but counts for everything that a process compiles. So another
process translates, and :mod:`kernels.machine_code` makes the machine code, once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def compiled(kind: str) -> Any:
    """Numba's C callback of this kind."""
    from numba import cfunc

    from kernels.compiled.product import ENTRIES

    function, signature = ENTRIES[kind]()
    return cfunc(signature, error_model="numpy")(function)


def translated(kind: str) -> tuple[str, str]:
    """The LLVM code of this kind, and the name that its function has there."""
    callback = compiled(kind)
    return callback.inspect_llvm(), callback.native_name


def in_another_process(kind: str) -> tuple[str, str]:
    """As `translated`; by a process of its own, if one can be started."""
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"from kernels.compiling import main; main({kind!r})"],
            env={**os.environ, "NUMBA_OPT": "0", "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):  # no Python, or too little of it
        return translated(kind)
    name, _, code = done.stdout.partition("\n")
    return code, name


def main(kind: str) -> None:
    """Print what `in_another_process` reads."""
    code, name = translated(kind)
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    print(name, code, sep="\n", end="")
