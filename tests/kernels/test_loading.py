"""Import, first use and compiled code on disk, each in fresh processes."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kernels
from kernels import compiling, loading, machine_code, object_cache

ROOT = Path(kernels.__file__).parent.parent

MOVE = """
import numpy as np, kernels
kernels.by_numpy.SMALL_BYTES = kernels.by_numpy.KERNEL_BYTES = -1  # nothing is left to NumPy
a = np.arange({n}, dtype="{dtype}").reshape(20, -1)
assert kernels.permute(a, (1, 0)).tobytes() == a.T.tobytes()
"""
MOVE_F8 = MOVE.format(n=600, dtype="f8")
# Whoever finds the code on disk needs no compiler.
NO_NUMBA = "import sys; sys.modules['numba'] = None\n"
# Each process that had to compile leaves a mark.
REPORT = """
import os
from kernels import compiling
def report(kind, work=compiling.in_another_process):
    with open(os.path.join(os.environ["NUMBA_CACHE_DIR"], "compiled"), "a") as file: file.write("1")
    return work(kind)
compiling.in_another_process = report
"""


def start(code, folder, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NUMBA_CACHE_DIR": str(folder),
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    )


def check(*processes):
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        assert not errors


def objects(folder):
    return sorted(folder.rglob("*.o"))


@pytest.fixture(scope="module")
def move_code():
    """The machine code of the move, which this machine has, or has after this."""
    kernels.warmup()
    return object_cache.read(object_cache.name_of("move", *machine_code.processor()))


@pytest.fixture
def load(move_code, tmp_path, monkeypatch):
    """Load that kernel as a new process would; says whether it was compiled, and tries it."""
    times = []
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "folder"))
    monkeypatch.setattr(compiling, "in_another_process", lambda kind: times.append(1) or ("", kind))
    monkeypatch.setattr(machine_code, "stand_alone", lambda code, name: move_code)

    def load_again():
        times.clear()
        monkeypatch.setattr(loading, "_loaded", {})
        for limit in ("SMALL_BYTES", "KERNEL_BYTES"):  # nothing is left to NumPy
            monkeypatch.setattr(kernels.by_numpy, limit, -1)
        a = np.arange(600.0).reshape(20, -1)
        assert kernels.permute(a, (1, 0)).tobytes() == a.T.tobytes()
        return bool(times)

    return load_again


def test_import_takes_neither_numba_nor_a_compiler(tmp_path):
    code = "import sys, kernels; assert not {'numba', 'llvmlite', 'dask'} & set(sys.modules)"
    check(start(code, tmp_path))
    assert not list(tmp_path.iterdir())


def test_eight_processes_start_on_one_cold_folder(tmp_path):
    check(*(start(REPORT + MOVE_F8, tmp_path) for _ in range(8)))
    left = sorted(path.name for path in tmp_path.iterdir() if path.name != "compiled")
    assert left == sorted([objects(tmp_path)[0].name, object_cache.LOCK_NAME])
    assert (tmp_path / "compiled").read_text() == "1"  # one compiled, the others waited and read
    check(*(start(NO_NUMBA + REPORT + MOVE_F8, tmp_path) for _ in range(8)))
    assert (tmp_path / "compiled").read_text() == "1"


# In place of the compilation, which takes most of the time that such a start takes.
KNOWN = """
import pathlib, time
from kernels import machine_code
compiling.in_another_process = lambda kind: time.sleep(0.2) or report(kind, lambda _: ("", kind))
machine_code.stand_alone = lambda code, name: pathlib.Path({path!r}).read_bytes()
"""


@pytest.mark.timeout(1800)
def test_cold_starts_of_eight_again_and_again(move_code, tmp_path):
    known = tmp_path / "known.o"
    known.write_bytes(move_code)
    for turn in range(int(os.environ.get("MAESTRO_TEST_COLD_STARTS", "2"))):
        folder = tmp_path / str(turn)
        folder.mkdir()
        code = REPORT + KNOWN.format(path=str(known)) + MOVE_F8
        check(*(start(code, folder) for _ in range(8)))
        assert (folder / "compiled").read_text() == "1"
        assert objects(folder)[0].read_bytes().endswith(move_code)


def test_a_change_of_any_source_of_compiled_code_counts():
    folder = ROOT / "kernels"
    counted = {path for pattern in object_cache.SOURCES for path in folder.glob(pattern)}
    compiled = set((folder / "compiled").glob("*.py"))
    text = "".join(path.read_text() for path in compiled)
    imported = set(re.findall(r"^from kernels\.(\w+) import", text, re.MULTILINE))
    assert compiled | {folder / f"{name}.py" for name in imported} <= counted
    assert len(compiled) > 5


def test_a_kernel_is_compiled_once_and_then_read(load, tmp_path):
    assert [load(), load(), load()] == [True, False, False]
    assert [path.name.partition(".")[0] for path in objects(tmp_path)] == ["move"]


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "gone", "unreadable"])
def test_a_damaged_file_is_compiled_anew(load, tmp_path, damage):
    load()
    (path,) = objects(tmp_path)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    if damage in ("gone", "unreadable"):
        path.unlink()
    if damage == "unreadable":  # whoever reads it, and it cannot be replaced either
        path.mkdir()
        (path / "file").touch()
    elif damage != "gone":
        path.write_bytes({"empty": b"", "short": whole[:-100], "flipped": flipped}[damage])
    assert load()
    if damage != "unreadable":
        assert path.read_bytes() == whole
        assert not load()


@pytest.mark.parametrize("what", ["stamp", "processor"])
def test_another_source_or_processor_has_a_file_of_its_own(load, tmp_path, monkeypatch, what):
    load()
    with monkeypatch.context() as patch:
        if what == "stamp":
            patch.setattr(object_cache, "stamp", lambda: b"other")
        else:
            name, features = "generic", ""
            other = machine_code.Processor(machine_code.processor().triple, name, features)
            patch.setattr(machine_code, "processor", lambda: other)
        assert load()
        assert not load()
    assert len(objects(tmp_path)) == 2
    assert not load()


def test_a_file_is_in_the_way(load, tmp_path):
    (tmp_path / "folder").touch()
    assert load()
    assert load()


@pytest.mark.parametrize("where", ["chmod", "replace", "mkstemp"])
def test_the_disk_is_full(load, tmp_path, monkeypatch, where):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "no space left on device")

    module = object_cache.tempfile if where == "mkstemp" else object_cache.os
    monkeypatch.setattr(module, where, full)
    assert load()
    assert load()
    assert not objects(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_folder_goes_away(load, tmp_path, monkeypatch):
    def compile_and_remove(kind):
        shutil.rmtree(tmp_path / "folder")
        return "", kind

    with monkeypatch.context() as patch:
        patch.setattr(compiling, "in_another_process", compile_and_remove)
        load()
    assert not load()  # it was made again


def test_without_locks_it_is_kept_too(load, monkeypatch):
    monkeypatch.setattr(object_cache, "fcntl", None)
    assert [load(), load()] == [True, False]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_is_read_only(load, tmp_path):
    (tmp_path / "folder").mkdir(mode=0o500)
    assert load()
    assert load()


# A kernel as it must not be, instead of the move: memory of Numba's, and an error of Python's.
UNFIT = """
import ctypes, numpy as np
from numba import types
from kernels import compiling, loading
from kernels.compiled import product
from kernels.compiled.tables import assign
def fill(address, n):
    values = np.zeros(n)
    if n > 9: raise ValueError("more than nine")
    for i in range(n): assign(address, i, np.int64(values[i]) + 7)
product.ENTRIES["move"] = lambda: (fill, types.void(types.int64, types.int64))
loading.ARGUMENTS["move"] = 2
compiling.in_another_process = compiling.translated
target = np.zeros(3, "i8")
loading.kernel("move")(target.ctypes.data, 3)
assert target.tolist() == [7, 7, 7]
assert loading._kept
"""


def test_what_does_not_stand_alone_runs_without_being_kept(tmp_path):
    check(start(UNFIT, tmp_path))
    assert not objects(tmp_path)


@pytest.mark.parametrize("python", ["", "/nowhere/python", sys.executable])
def test_where_no_other_process_can_compile_this_one_does(monkeypatch, python):
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(compiling, "ROOT", Path("/nowhere"))  # and nothing to be found there
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(compiling, "translated", lambda kind: ("code", kind))
    assert compiling.in_another_process("no such kernel") == ("code", "no such kernel")


def test_who_waits_too_long_for_a_lock_goes_ahead(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(object_cache, "PATIENCE", 0.0)
    with object_cache.compiling(), object_cache.compiling():
        assert object_cache.write("name", b"data")
    assert object_cache.read("name") == b"data"
    with object_cache.compiling():  # both were given back
        assert object_cache._lock() is None


def test_what_needs_more_than_memory_functions_is_refused():
    code = """
    declare void @elsewhere()
    declare void @llvm.donothing()
    define void @plain() { call void @llvm.donothing() ret void }
    define void @calls() { call void @elsewhere() ret void }
    """
    assert machine_code.stand_alone(code, "calls") is None
    entry = machine_code.link(machine_code.stand_alone(code, "plain"), 0)
    assert entry() is None


def test_every_kernel_stands_alone_and_is_loaded_once():
    kernels.warmup()
    assert not loading._kept  # all stand alone
    assert loading.kernel("move") is loading.kernel("move")
