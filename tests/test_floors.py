"""Imports run downward only: maestro > layouts > kernels; and each floor takes only what it may."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STDLIB = frozenset(sys.stdlib_module_names)
GUARD = "_maestro_pool"

# What decides, in maestro, apart from what does: values and a state machine without I/O or clock.
PURE = (
    *sorted(f"registry.{path.stem}" for path in (ROOT / "maestro" / "registry").glob("*.py")),
    *("messages", "decoding", "spelling", "errors", "attributes", "events", "timestamps"),
    *("apps.lifecycle", "triggers.conditions"),
    *("selectors", "selectors.index"),
    *("schemas", "schemas.reading", "schemas.types", "schemas.core"),
)
IMPURE = {"dask", "distributed", "asyncio", "threading", "time", "socket"}


def declared():
    """The import names of the distributions that we depend on without any extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        name, extra = re.match(r"([\w.-]+)(\[distributed\])?", requirement).groups()
        names = {
            **{"pyyaml": "yaml", "google-re2": "re2", "google-crc32c": "google_crc32c"},
            **{"lazy-loader": "lazy_loader", "prometheus-client": "prometheus_client"},
        }
        yield names.get(name.lower(), name.lower())
        if extra:
            yield "distributed"


ALLOWED = {
    "kernels": {"kernels", "numpy", "numba", "llvmlite", GUARD},
    "layouts": {"layouts", "kernels", "numpy", "scipy", GUARD},
    "maestro": {"maestro", "layouts", "kernels", GUARD, *declared()},
}

# What only one file may, of the distributions of an extra; it imports them where it needs them.
OPTIONAL = {
    "maestro/stores/datasets.py": {"cfgrib", "xarray"},
    "maestro/stores/objects.py": {"obstore"},
}


def imports(source, package=""):
    """
    Every module that this source imports, in whatever function or branch, with its line.

    A name imported from a module counts as a module of its own (it may be one): `from a import b`
    gives `a` and `a.b`. `package` is what relative imports are relative to.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [base])])
            yield base, node.lineno
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func).rpartition(".")[2]
            first = node.args[0]
            if name in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield str(first.value), node.lineno


def imports_of(path):
    """The imports of one file of ours."""
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    return imports(path.read_text(encoding="utf-8"), package)


def file_of(module):
    """Our file that holds this module, or None."""
    path = ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((p for p in candidates if p.is_file()), None)


def test_imports_sees_all_forms():
    source = (
        "import a.b, c\n"
        "def f():\n    from d import e\n    import_module('g')\n"
        "from . import h\nfrom .i import j\nfrom .. import k\n"
        "if TYPE_CHECKING:\n    import l as m\n"
    )
    assert {name for name, _ in imports(source, "p.q")} == {
        *("a.b", "c", "d", "d.e", "g"),
        *("p.q", "p.q.h", "p.q.i", "p.q.i.j", "p", "p.k", "l"),
    }


@pytest.mark.parametrize("floor", ALLOWED)
def test_floor_imports_only_what_it_may(floor):
    files = sorted((ROOT / floor).rglob("*.py"))
    assert files, f"{floor}/ has no code"
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files
        for name, line in imports_of(path)
        if name.partition(".")[0] not in ALLOWED[floor] | STDLIB
        and name.partition(".")[0] not in OPTIONAL.get(path.relative_to(ROOT).as_posix(), ())
    ]
    assert not wrong, f"{floor} may import {sorted(ALLOWED[floor])} and the standard library"


# The storeys of the uppermost floor: what a folder of maestro may not know of.
ABOVE = ("apps", "triggers", "programs", "commands")
UNKNOWN = {
    "arena": ("registry", "transport", "stores", "nodes", *ABOVE),
    "selectors": ("arena", "registry", "transport", "stores", "nodes", *ABOVE),
    "schemas": ("arena", "registry", "transport", "stores", "nodes", *ABOVE),
    "registry": ("arena", "transport", "stores", "nodes", *ABOVE),
    "transport": ABOVE,
    "nodes": ABOVE,
    "stores": ABOVE[1:],
    "apps": ABOVE[2:],
    "triggers": ABOVE[2:],
    "programs": ABOVE[3:],
}


@pytest.mark.parametrize("folder", UNKNOWN)
def test_folders_of_maestro_know_nothing_of_those_above(folder):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / "maestro" / folder).rglob("*.py"))
        for name, line in imports_of(path)
        if name.startswith("maestro.") and name.split(".")[1] in UNKNOWN[folder]
    ]
    assert not wrong


def test_of_layouts_only_relabelling_needs_scipy():
    """One subject, one file: plans are NumPy's and ours."""
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "layouts").rglob("*.py")
        for name, _ in imports_of(path)
        if name.partition(".")[0] == "scipy"
    }
    assert files <= {"layouts/relabelling.py"}


def test_guard_imports_only_the_standard_library():
    names = {name.partition(".")[0] for name, _ in imports_of(ROOT / f"{GUARD}.py")}
    assert names <= STDLIB


@pytest.mark.parametrize("package", ALLOWED)
def test_guard_comes_first(package):
    """Before anything that a foreign package of our names could break."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    found = [
        alias.name if isinstance(node, ast.Import) else node.module
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert [name for name in found if name != "__future__"][:1] == [GUARD]


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_neither_act_nor_wait(name):
    """Nor do the modules of maestro that they import."""
    assert file_of(f"maestro.{name}") is not None
    seen, todo = set(), [f"maestro.{name}"]
    while todo:
        module = todo.pop()
        path = file_of(module)
        if path is None or path in seen or path == ROOT / "maestro" / "__init__.py":
            continue
        seen.add(path)
        for imported, line in imports_of(path):
            where = f"{path.relative_to(ROOT)}:{line}"
            assert imported.partition(".")[0] not in IMPURE, f"{where} imports {imported}"
            if imported.startswith("maestro."):
                todo.append(imported)


@pytest.mark.parametrize("name", ["kernels", "layouts"])
def test_lower_floors_load_neither_dask_nor_numba_nor_scipy(name):
    """Numba only when something is compiled, SciPy when ranks are relabelled: both import fast."""
    heavy = {"dask", "distributed", "numba", "llvmlite", "scipy"}
    code = f"import sys, {name}; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
