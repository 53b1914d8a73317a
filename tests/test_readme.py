"""The README's programs run, and its commands are those of the Makefile."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import click

from maestro.commands import maestro

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


def test_the_table_of_commands_is_what_they_say_of_themselves():
    rows = re.findall(r"^\| `maestro (\S+)([^`]*)` \| (.*) \|$", TEXT, re.MULTILINE)
    told = {}
    for name, command in maestro.commands.items():
        usage = " ".join(
            click.Context(command).command.collect_usage_pieces(click.Context(command))
        )
        told[name] = (
            usage.removeprefix("[OPTIONS]").strip(),
            " ".join(command.help.split("\n\n")[0].split()),
        )
    assert {name: (usage.strip(), help) for name, usage, help in rows} == told


def test_what_it_links_to_is_there():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target
