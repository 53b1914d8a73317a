"""Import, first use and the cache on disk, each in fresh processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kernels

ROOT = Path(kernels.__file__).parent.parent

MOVE = """
import numpy as np, kernels
a = np.arange({n}, dtype="{dtype}").reshape(20, -1)
assert kernels.permute(a, (1, 0)).tobytes() == a.T.tobytes()
"""


def start(code, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def check(*processes):
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors


def test_import_takes_neither_numba_nor_a_compiler():
    check(start("import sys, kernels; assert not {'numba', 'llvmlite', 'dask'} & set(sys.modules)"))


def test_four_processes_start_on_one_cold_cache(tmp_path):
    code = MOVE.format(n=600, dtype="i8")
    check(*(start(code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(4)))
    assert len(list(tmp_path.rglob("*.nbi"))) == 1
    assert len(list(tmp_path.rglob("*.nbc"))) == 1  # compiled once, loaded three times
    damage(tmp_path, "*.nbc")
    check(start(code, NUMBA_CACHE_DIR=str(tmp_path)))
    damage(tmp_path, "*.nbi")
    check(start(code, NUMBA_CACHE_DIR=str(tmp_path)))
    # the cache is whole again: a process that may not compile finds all it needs
    check(start(NO_COMPILER + code, NUMBA_CACHE_DIR=str(tmp_path)))


NO_COMPILER = """
from numba.core import compiler
def refuse(*args, **kwargs): raise SystemExit("compiled although the cache was warm")
compiler.compile_extra = refuse
"""


def damage(directory, pattern):
    for path in directory.rglob(pattern):
        path.write_bytes(path.read_bytes()[:-100])


def test_a_plain_cpu_and_nowhere_to_write(tmp_path):
    (tmp_path / "file").touch()
    where = str(tmp_path / "file" / "below")
    code = MOVE.format(n=600, dtype="c16")
    check(start(code, NUMBA_CPU_NAME="generic", NUMBA_CACHE_DIR=where))


def test_without_locks_nothing_is_cached(tmp_path):
    code = "import sys; sys.modules['fcntl'] = None" + MOVE.format(n=600, dtype="i4")
    check(start(code, NUMBA_CACHE_DIR=str(tmp_path)))
    assert not list(tmp_path.rglob("*.nb?"))


def test_a_width_is_loaded_once():
    from kernels.loading import kernel

    kernels.warmup()
    assert kernel(8) is kernel(8)
    assert kernel(3) is kernel(24)


@pytest.mark.parametrize("size", [0, -8, 2.0, True, "8"])
def test_bad_sizes_are_refused(size):
    with pytest.raises(ValueError, match="itemsizes must be integers of at least 1"):
        kernels.warmup([size])
