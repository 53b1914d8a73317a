"""Schemas: files of the original's form, all types, and what is refused, dropped or filled in."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from layouts import Block, BlockCyclic, Distribution, Irregular, Replicated, Tiled
from maestro.apps.schemafiles import load_schemas
from maestro.errors import SchemaError
from maestro.schemas import Schemas
from maestro.schemas.core import core_attributes, core_schema
from maestro.schemas.reading import LONGEST, parse_schema
from maestro.selectors import Selector

FIELDS = """
schema-name: My fields
schema-version: 1
schema-namespace: ".maestro.my-namespace."
maestro-attributes:
  - key: "step"
    type: int(min=0)
    required: True
    documentation: Forecast step in hours.
  - key: "date"
    type: timestamp()
    default: 2026-01-01T00:00:00Z
  - key: "stream"
    type: str()
"""
STEP = ".maestro.my-namespace.step"


def of_type(type_, more=""):
    """The schemas of one attribute, `.x.y`."""
    lines = f"schema-name: x\nschema-namespace: .x.\nmaestro-attributes:\n  - key: y\n{more}"
    return Schemas([parse_schema(f"{lines}    type: '{type_.replace(chr(39), chr(39) * 2)}'\n")])


def test_a_file_of_the_originals_form_is_read_as_it_is():
    schema = parse_schema(FIELDS)
    assert (schema.name, schema.version, schema.namespace) == (
        *("My fields", "1"),
        ".maestro.my-namespace.",
    )
    step = schema.attributes[STEP]
    assert (step.type, step.required) == ("int(min=0)", True)
    assert step.documentation == "Forecast step in hours."
    date = schema.attributes[".maestro.my-namespace.date"]
    assert date.default == "2026-01-01T00:00:00+00:00", "YAML takes it for a time of its own"


def test_defaults_are_filled_in_and_what_is_required_is_missed():
    checked = Schemas([parse_schema(FIELDS)]).check("t2m", {"units": "K"})
    assert checked.values["units"] == "K"
    assert Selector("(.maestro.my-namespace.date = 2026-01-01T00:00:00Z)").matches(checked.values)
    (warning,) = checked.missing
    assert f"CDO 't2m': attribute '{STEP}' is not set, expected int(min=0)" in warning
    assert Schemas([parse_schema(FIELDS)]).check("t2m", {STEP: 3}).missing == ()


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        ("int()", [0, -5, 2**63 - 1, -(2**63)], [1.0, True, "1", 2**63, None, [1]]),
        ("int(min=-1, max=3)", [-1, 3], [-2, 4]),
        ("uint()", [0, 2**64 - 1], [-1, 2**64, 1.5, False]),
        ("num(max=2.5)", [1, 2.5], [3, "1", True]),
        ("double()", [1, 1e300, float("inf")], ["1", None, True]),
        ("float()", [1.5, -3e38, float("inf")], [1e39, "x"]),
        ("float(min=0)", [0.0], [-0.1]),
        ("bool()", [True, False], [1, 0, "true", None]),
        ("str()", ["", "x"], [1, None, b"x", ["x"]]),
        ("str(min=1, max=3)", ["a", "abc"], ["", "abcd"]),
        ('str(matches="[a-c]+$")', ["abc"], ["abcd", "xabc", ""]),
        ('str(equals="AbC", ignore_case=True)', ["abc"], ["ab"]),
        ('regex("^[0-9]+$", "^x")', ["12", "xyz"], ["12a", "", 12]),
        ('regex("AB", ignore_case=True)', ["abc"], ["cab"]),
        ('enum("oper", "enfo", 3)', ["oper", 3], ["op", 4]),
        (
            "timestamp()",
            ["2026-11-22T21:19:05Z", "2026-11-22t21:19:05.123456789+01:00"],
            ["2026-11-22", "2026-11-22 21:19:05Z", "2026-02-30T00:00:00Z", 0, "", "21:19:05Z"],
        ),
        (
            'timestamp(min="2026-01-01T00:00:00Z", max="2026-12-31T00:00:00Z")',
            ["2026-01-01T01:00:00+01:00"],
            ["2025-12-31T23:59:59Z", "2027-01-01T00:00:00Z"],
        ),
        ("list()", [[], [1, "x"]], ["x", 1, {}]),
        ("list(int(min=0), max=2)", [[], [1, 2]], [[-1], ["x"], [1, 2, 3]]),
        ("list(list(int()))", [[[1], []]], [[1]]),
        ("map(num(), key=str())", [{}, {"a": 1.5}], [{"a": "x"}, []]),
        ("any(int(), str())", [1, "x"], [1.5, []]),
        ("any()", [1, None], []),
    ],
)  # fmt: skip
def test_every_type_takes_its_values_and_no_others(type_, good, bad):
    schemas = of_type(type_)
    for value in good:
        assert schemas.check("t", {".x.y": value}).values == {".x.y": value}
    for value in bad:
        with pytest.raises(SchemaError, match=r"CDO 't': attribute '\.x\.y': .*expected") as caught:
            schemas.check("t", {".x.y": value})
        assert type_ in str(caught.value)


def test_no_pattern_of_a_schema_takes_more_than_linear_time():
    for type_ in ('str(matches="(a+)+$")', 'regex("(a|aa)+$")'):
        with pytest.raises(SchemaError):
            of_type(type_).check("t", {".x.y": "a" * 100_000 + "!"})


@pytest.mark.parametrize(
    ("unknown", "kept"), [("keep", {"units": "K", ".maestro.my-namespace.stp": 1}), ("drop", {})]
)
def test_unknown_attributes_are_kept_or_dropped(unknown, kept):
    schemas = Schemas([parse_schema(FIELDS.replace("required: True", ""))], unknown)
    given_ = {"units": "K", ".maestro.my-namespace.stp": 1}
    values = schemas.check("t", given_).values
    assert values.pop(".maestro.my-namespace.date")
    assert values == kept


def test_unknown_attributes_are_refused():
    schemas = Schemas([parse_schema(FIELDS)], "refuse")
    with pytest.raises(SchemaError, match=r"'units' is unknown, .*\('My fields'\)"):
        schemas.check("t", {"units": "K"})
    with pytest.raises(ValueError, match=r"unknown: got 'ignore', expected one of keep"):
        Schemas([], "ignore")


def test_schemas_that_contradict_each_other_are_refused():
    other = FIELDS.replace("My fields", "Others").replace("int(min=0)", "int()")
    with pytest.raises(SchemaError, match=r"'Others': it defines .* as int.*'My fields' says"):
        Schemas([parse_schema(FIELDS), parse_schema(other)])
    again = Schemas([parse_schema(FIELDS), parse_schema(FIELDS.replace("My", "The same"))])
    assert again.check("t", {STEP: 1}).values[STEP] == 1


@pytest.mark.parametrize(
    ("namespace", "key"),
    [(".maestro.core.", "cdo.name"), (".maestro.", "core.cdo.name"), ("maestro.core", "mine")],
)
def test_maestros_own_attributes_cannot_be_redefined(namespace, key):
    text = f"""
        schema-name: Intruder
        schema-namespace: "{namespace}"
        maestro-attributes: [{{key: "{key}", type: int()}}]
    """
    with pytest.raises(SchemaError, match=r"'Intruder': it defines '\.maestro\.core\..*own"):
        Schemas([parse_schema(textwrap.dedent(text))])


def test_maestros_own_attributes_are_what_they_are():
    core = {".maestro.core.cdo.name": "t"}
    assert Schemas().check("t", core, core).values == {}
    with pytest.raises(SchemaError, match=r"was set to 'u', expected 't': .*maestro's own"):
        Schemas().check("t", {".maestro.core.cdo.name": "u"}, core)
    with pytest.raises(SchemaError, match=r"'.maestro.core.mine' was set"):
        Schemas().check("t", {".maestro.core.mine": 1}, core)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a mapping"),
        ("[1, 2]", "expected a mapping"),
        ("a: [", "no YAML"),
        ("a: !!python/object:os.system {}", "no YAML"),
        ("schema-name: x", "schema-namespace: Required field missing"),
        ("schema-name: 3\nschema-namespace: x", "'3' is not a str"),
        ("schema-name: x\nschema-namespace: .x.\nmaestro-attributes: {}", "is not a list"),
        ("schema-name: x\nschema-namespace: .x.\nmaestro-attributes: [{key: a}]", "type: Required"),
        ("a: &a [1]\nb: [*a, *a]", r"alias \*a"),
        ("a: " + "[" * 30 + "]" * 30, "nested deeper"),
        ("#" * (LONGEST + 1), "characters"),
    ],
)
def test_what_is_no_schema_is_refused(text, says):
    with pytest.raises(SchemaError, match=f"my.yaml: .*{says}"):
        parse_schema(text, "my.yaml")


@pytest.mark.parametrize(
    "type_",
    [
        *("", "int", "integer()", "int(", "int(min=x)", 'int(min="x")', "__import__(int)", "1"),
        *('regex("(")', 'str(matches="(?=x)")', 'timestamp(min="now")', 'include("x")', "regex(1)"),
        *("int().x", "list(" * 200 + ")" * 200, "\0"),
    ],
)
def test_what_is_no_type_is_refused(type_):
    text = {"key": "y", "type": type_}
    with pytest.raises(SchemaError, match=r"my.yaml"):
        parse_schema(
            f"schema-name: x\nschema-namespace: .x.\nmaestro-attributes: [{text!r}]\n", "my.yaml"
        )


def test_a_default_must_be_of_its_type():
    with pytest.raises(SchemaError, match=r"the default -1: .*less than 0, expected int"):
        of_type("int(min=0)", more="    default: -1\n")


def test_an_attribute_is_defined_once():
    twice = FIELDS + "  - {key: step, type: int()}\n"
    with pytest.raises(SchemaError, match=r"step' twice"):
        parse_schema(twice)


def test_what_else_a_file_says_is_let_pass_and_named():
    schema = parse_schema(FIELDS + "    unit: none\nschema-author: me\n")
    assert schema.ignored == ("schema-author", ".maestro.my-namespace.stream: unit")


TYPES = st.text(st.sampled_from("intstrlisanymapregexenum()\"'=,-10 [a.*+\\]"), max_size=25)


@given(st.text(max_size=200) | TYPES.map(lambda t: f"{FIELDS}  - {{key: z, type: {t}}}\n"))
@example("schema-name: x\nschema-namespace: .x.\n1: 2\n[1]: 3\n")
@example("schema-name: x\nschema-namespace: .x.\nmaestro-attributes: [{key: a, type: int(), 3: 4}]")
@example("a: 2026-99-99")
@example(FIELDS + "  - {key: z, type: 'map(int(max=\"x\"))'}\n")
def test_any_text_is_a_schema_or_a_schema_error(text):
    try:
        schema = parse_schema(text)
    except SchemaError:
        return
    checked = Schemas([schema]).check("t", {STEP: 1})
    assert set(checked.values) <= {STEP, *schema.attributes}


# maestro's own


DISTRIBUTIONS = [
    Distribution((8, 6)),
    Distribution((8, 6), order="F"),
    Distribution((7, 5, 3), (2, 2, 1), (BlockCyclic(2), Block(), Block()), (1, 2, 0)),
    Distribution((7, 5), (3, 2), (Replicated(), Irregular([0, 1, 5]))),
    Distribution((7, 9), (3, 2), (Replicated(), Block())).section([slice(1, 5), slice(3, 9)]),
    Distribution((7, 5), (2, 3), (Block(), Replicated()), Tiled((3, 2))),
    Distribution((0, 4), (2, 1)),
    Distribution(()),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["u1", "f8", "c16"])
def test_the_layout_is_seen_by_selectors(distribution, dtype):
    dtype = np.dtype(dtype)
    parts = distribution.split(np.zeros(distribution.shape, dtype))
    prefix = ".maestro.core.cdo."
    for rank in (None, *range(distribution.size)):
        found = core_attributes("t", distribution, dtype, rank)
        size = sum(p.nbytes for p in parts) if rank is None else parts[rank].nbytes
        order = {"C": 0, "F": 1}.get(distribution.order)
        assert found[f"{prefix}scope.local-size"] == size
        assert found.get(f"{prefix}layout.order") == order
        assert found[f"{prefix}layout.dims-size"] == list(distribution.shape)
        assert Selector(
            f'(and ({prefix}name = "t") ({prefix}layout.ndims = {len(distribution.shape)})'
            f" ({prefix}layout.element-size = {dtype.itemsize}) (has {prefix}dist-layout)"
            f" ({prefix}scope.local-size <= {size}))"
        ).matches(found)
        for key, value in found.items():
            assert core_schema().attributes[key].errors(value) == []


def test_a_cdo_without_data_has_a_name():
    assert core_attributes("t", None, None) == {
        ".maestro.core.cdo.name": "t",
        ".maestro.core.cdo.scope.local-size": 0,
    }


def test_a_long_description_is_cut():
    irregular = Distribution((1000,), (1000,), (Irregular(range(1001)),))
    found = core_attributes("t", irregular, np.dtype("f8"))
    assert len(found[".maestro.core.cdo.dist-layout"]) <= 200


# Files


def test_files_are_found_along_the_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "one.yaml").write_text(FIELDS)
    (tmp_path / "b" / "two.yaml").write_text(FIELDS.replace("My fields", "Two"))
    path = f"{tmp_path / 'a'}:{tmp_path / 'b'}"
    assert [s.name for s in load_schemas(" one.yaml ; two.yaml;", path)] == ["My fields", "Two"]
    assert [s.name for s in load_schemas([str(tmp_path / "b" / "two.yaml")])] == ["Two"]
    assert load_schemas("", "") == []
    with pytest.raises(SchemaError, match=r"'three.yaml': there is no such file, looked for it in"):
        load_schemas("three.yaml", path)
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SchemaError, match=r"bad\.yaml"):
        load_schemas("bad.yaml")
