"""The notebooks run from top to bottom, and are stored with what they show."""

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def by_name(notebook):
    return notebook.stem


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A kernel of this interpreter, whichever others are installed for this user."""
    place = tmp_path / "jupyter" / "kernels" / "these-tests"
    place.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    words = {"argv": command, "display_name": "these tests", "language": "python"}
    (place / "kernel.json").write_text(json.dumps(words))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    return place.name


def outputs(notebook):
    """All outputs of the code cells."""
    return [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_notebook_runs(path, kernel, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    place = tmp_path / "here"
    place.mkdir()
    client = NotebookClient(
        notebook, timeout=500, kernel_name=kernel, resources={"metadata": {"path": str(place)}}
    )
    client.execute()  # raises at the first error
    warnings = [out.text for out in outputs(notebook) if out.get("name") == "stderr"]
    assert not warnings
    assert not list(place.iterdir()), "it leaves files behind"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_notebook_is_stored_as_run(path):
    """From top to bottom, once, without errors, and without a trace of where that was."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert outputs(notebook)
    assert {out.output_type for out in outputs(notebook)} <= {
        "display_data",
        "execute_result",
        "stream",
    }
    assert "stderr" not in {out.get("name") for out in outputs(notebook)}
    text = path.read_text(encoding="utf-8")
    for trace in (str(ROOT), str(Path.home()) + "/", "/tmp/", "/home/", "tcp://", "site-packages"):
        assert trace not in text
