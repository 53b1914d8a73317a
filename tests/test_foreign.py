"""The guard against foreign packages of our names, each case in a process of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("maestro", "layouts", "kernels")


def install(site, name, version, files, *, top_level=None, record=True, metadata=True):
    """Write a distribution as pip would leave it; existing files are overwritten, as pip does."""
    for file, text in files.items():
        path = site / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    if metadata:
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nAbout it.\n"
        (info / "METADATA").write_text(text)
    if top_level is not None:
        (info / "top_level.txt").write_text("".join(f"{entry}\n" for entry in top_level))
    if record:
        lines = [f"{file},sha256=0,1\n" for file in (*files, f"{info.name}/METADATA")]
        (info / "RECORD").write_text("".join(lines))
    return site


@pytest.fixture
def site(tmp_path):
    """A site directory with a normal install of maestro-pool."""
    site = tmp_path / "site-packages"
    skip = shutil.ignore_patterns("__pycache__")
    for name in NAMES:
        shutil.copytree(ROOT / name, site / name, ignore=skip)
    shutil.copy(ROOT / "_maestro_pool.py", site)
    ours = {str(p.relative_to(site)): p.read_text() for p in site.rglob("*.py")}
    return install(site, "maestro-pool", "0.1.0", ours, top_level=("_maestro_pool", *NAMES))


@pytest.fixture
def elsewhere(tmp_path):
    """Another folder for sys.path."""
    path = tmp_path / "elsewhere"
    path.mkdir()
    return path


def run(code, *path, cwd=None):
    """Run Python with these folders first on sys.path (after the current folder)."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    cwd = cwd or path[0]
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)


def passes(*args, **kwargs):
    """Assert that the code runs."""
    done = run(*args, **kwargs)
    assert done.returncode == 0, done.stderr


def refusal(*args, **kwargs):
    """The ImportError's message, without the traceback before it."""
    done = run(*args, **kwargs)
    assert done.returncode == 1
    assert "\nImportError: maestro-pool, in " in done.stderr, done.stderr
    return done.stderr.partition("\nImportError: ")[2]


TRAP = "raise SystemExit('the foreign package was run')\n"


# A foreign one earlier on the path.


@pytest.mark.parametrize("ours", ["layouts", "maestro"])
def test_distribution_earlier_on_the_path(site, elsewhere, ours):
    install(elsewhere, "kernels", "0.17.2", {"kernels/__init__.py": TRAP})
    message = refusal(f"import {ours}", elsewhere, site)
    assert f"`import kernels` finds kernels 0.17.2, in {elsewhere / 'kernels'}\n" in message
    assert "`pip uninstall kernels`" in message
    assert "separate environment" in message


def test_distribution_of_another_name(site, elsewhere):
    install(elsewhere, "keyboard-tools", "3.1", {"layouts/__init__.py": TRAP})
    message = refusal("import kernels", elsewhere, site)
    assert f"`import layouts` finds keyboard-tools 3.1, in {elsewhere / 'layouts'}\n" in message
    assert "`pip uninstall keyboard-tools`" in message


def test_all_that_is_in_the_way_is_named(site, elsewhere):
    install(elsewhere, "layouts", "0.4.10", {"layouts/__init__.py": TRAP})
    install(elsewhere, "maestro", "1.0.0", {"maestro/__init__.py": TRAP})
    message = refusal("import kernels", elsewhere, site)
    assert "finds layouts 0.4.10" in message
    assert "finds maestro 1.0.0" in message
    assert "`pip uninstall maestro layouts`" in message


def test_folder_without_metadata(site, elsewhere):
    (elsewhere / "kernels").mkdir()
    (elsewhere / "kernels" / "__init__.py").write_text(TRAP)
    message = refusal("import layouts", elsewhere, site)
    assert f"finds {elsewhere / 'kernels'}, of no installed distribution" in message
    assert "pip uninstall" not in message
    assert "PYTHONPATH" in message


def test_module_in_the_current_folder(site, elsewhere):
    (elsewhere / "kernels.py").write_text(TRAP)
    message = refusal("import layouts", site, cwd=elsewhere)
    assert f"finds {elsewhere / 'kernels.py'}, of no installed distribution" in message


def test_foreign_package_already_imported(site, elsewhere):
    install(elsewhere, "kernels", "0.17.2", {"kernels/__init__.py": "__spec__ = None\n"})
    code = f"import sys; sys.path[:0] = [{str(elsewhere)!r}]; import kernels; del sys.path[0]"
    message = refusal(f"{code}; import layouts", site)
    assert "finds kernels 0.17.2" in message


def test_every_attempt_is_refused(site, elsewhere):
    install(elsewhere, "kernels", "0.17.2", {"kernels/__init__.py": TRAP})
    code = (
        "try: import layouts\nexcept ImportError as e: assert e.name == 'kernels'\nimport layouts"
    )
    refusal(code, elsewhere, site)


# A foreign one in the same folder.


@pytest.mark.parametrize("last", ["ours", "theirs"])
@pytest.mark.parametrize("ours", ["layouts", "maestro"])
def test_distribution_merged_into_ours(site, ours, last):
    init = TRAP if last == "theirs" else (site / "kernels/__init__.py").read_text()
    install(site, "kernels", "0.17.2", {"kernels/__init__.py": init, "kernels/hub.py": TRAP})
    message = refusal(f"import {ours}", site)
    assert f"kernels 0.17.2 is installed into the same folder, in {site / 'kernels'}\n" in message
    assert "`pip uninstall kernels`" in message
    assert "--force-reinstall --no-deps maestro-pool" in message


@pytest.mark.parametrize("evidence", ["record", "top_level", "both"])
def test_merged_distribution_of_another_name(site, evidence):
    install(
        site,
        "keyboard-tools",
        "3.1",
        {"kernels/qwerty.py": TRAP, "layouts/qwerty.py": TRAP},
        top_level=None if evidence == "record" else ["kernels", "layouts"],
        record=evidence != "top_level",
    )
    message = refusal("import layouts", site)
    assert "keyboard-tools 3.1 is installed into the same folder" in message
    assert f"{site / 'layouts'} and {site / 'kernels'}" in message


def test_merged_distribution_of_which_only_the_name_is_known(site):
    install(site, "kernels", "0.17.2", {}, record=False, metadata=False)
    assert "kernels 0.17.2 is installed" in refusal("import layouts", site)


# No false alarms.


IMPORT = "import maestro, layouts, kernels; print(layouts.__file__)"


def test_our_own_install(site):
    passes(IMPORT, site)


def test_checkout_as_current_folder_beside_an_install(site):
    done = run(IMPORT, site, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent == ROOT / "layouts"


def test_install_beside_a_checkout_later_on_the_path(site):
    passes(IMPORT, site, ROOT)


def test_our_own_metadata_in_every_spelling(site):
    for name in (
        "maestro_pool.egg-info",
        "maestro-pool-0.0.9.egg-info",
        "Maestro.Pool-1.dist-info",
    ):
        (site / name).mkdir()
        (site / name / "top_level.txt").write_text("kernels\nlayouts\nmaestro\n_maestro_pool\n")
    passes(IMPORT, site)


def test_folder_without_code(site, elsewhere):
    (elsewhere / "kernels").mkdir()
    (elsewhere / "kernels" / "notes.txt").write_text("nothing to import here\n")
    passes(IMPORT, site, elsewhere)
    passes(IMPORT, elsewhere, site)


def test_similar_names(site):
    files = {"kernels_extra/__init__.py": "", "more/kernels/__init__.py": "", "layouts.txt": ""}
    install(site, "kernels-extra", "1.0", files)
    passes(IMPORT, site)


def test_distribution_called_kernels_with_other_packages(site):
    install(site, "kernels", "0.1", {"hub/__init__.py": ""})
    passes(IMPORT, site)


def test_editable_install_that_lies_elsewhere(site):
    install(site, "kernels", "0.1", {"__editable__.kernels-0.1.pth": ""}, top_level=["kernels"])
    passes(IMPORT, site)


def test_path_through_a_link(site, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(site, target_is_directory=True)
    # One of them through the link, the others not.
    code = f"import sys; sys.path[:0] = [{str(link)!r}]; import kernels; del sys.path[0], "
    passes(f"{code}sys.modules['_maestro_pool']; import layouts", site)


def test_module_made_by_hand(site):
    code = "import sys, types; sys.modules['kernels'] = types.ModuleType('kernels')"
    passes(f"{code}; import _maestro_pool", site)


def test_the_guard_imports_little_and_none_of_ours():
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import _maestro_pool; print(*sys.modules)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"importlib.metadata", *NAMES} & set(loaded)
    assert {name.partition(".")[0] for name in loaded} <= {
        *sys.stdlib_module_names,
        "__main__",
        "_maestro_pool",
        "_sysconfigdata__linux_x86_64-linux-gnu",
    }
