"""Plans by command: what they say is what `layouts.plan` says."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from click.testing import CliRunner

from layouts import BlockCyclic, Distribution, plan
from maestro.commands import maestro as command

SOURCE = Distribution((64, 64), (2, 2), (BlockCyclic(4), BlockCyclic(4)), "F")
TARGET = Distribution((64, 64), (4, 1))
ONE_WORD = "64x64/2x2/cyclic4,cyclic4/F", "64x64/4x1"


def run(*words):
    result = CliRunner().invoke(command, ["plan", *map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_same_however_it_is_written(tmp_path):
    file = tmp_path / "target.json"
    file.write_text(json.dumps(TARGET.to_dict()))
    as_json = json.dumps(SOURCE.to_dict())
    said = {run(*words, "--dtype", "f4") for words in (ONE_WORD, (as_json, f"@{file}"))}
    ((status, out, err),) = said
    assert (status, err) == (0, "")
    explained, rows = out.split("\n bytes")
    assert explained == plan(SOURCE, TARGET).explain(itemsize=4)
    body = [line.split()[2:] for line in rows.splitlines()[1:]]
    assert [list(map(int, row)) for row in body] == plan(SOURCE, TARGET).matrix(4).tolist()


def test_the_picture(tmp_path):
    picture = tmp_path / "plan.svg"
    assert run(*ONE_WORD, "--relabel", "--output", picture)[0] == 0
    assert picture.read_text() == plan(SOURCE, TARGET, relabel=True).picture()
    assert ET.parse(picture).getroot().tag.endswith("svg")
    status, _, err = run(*ONE_WORD, "--output", tmp_path / "none" / "plan.svg")
    assert (status, err.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("8x8/2x", "8x8"), "'SRC': grid: got '2x', expected numbers such as 8x6"),
        (("8x8", "8x9"), "target: its shape is (8, 9), expected the source's (8, 8)"),
        (("8x8", "{"), "'DST': Expecting property name"),
        (("8x8", '{"axes": []}'), "'DST': it has no 'shape', as of Distribution.to_dict"),
        (("8x8", "@nowhere.json"), "'DST': nowhere.json: No such file"),
        (("8x8", "8x8", "--dtype", "q9"), "q9"),
    ],
)
def test_what_is_wrong(words, expected):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert expected in err.splitlines()[-1]
