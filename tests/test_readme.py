"""The README's programs run, and its commands are those of the Makefile."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_the_programs_run(tmp_path, capsys):
    """All blocks as one program, as a reader who tries them in order would have it."""
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    program = tmp_path / "readme.py"
    program.write_text("\n".join(blocks))
    names = runpy.run_path(str(program))
    assert names["part"].shape == names["maps"].local_shape(5)
    assert len(names["parts"]) == 6
    printed = capsys.readouterr().out
    assert "t2m" in printed
    assert "peak memory" in printed


def test_the_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", TEXT, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_what_it_links_to_is_there():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target
