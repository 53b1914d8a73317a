"""Selectors: read, refused with a caret, evaluated and indexed as a slow reading of them says."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maestro.errors import MaestroError, SelectorError, from_wire, to_wire
from maestro.selectors import Selector, syntax
from maestro.selectors.index import SelectorIndex
from maestro.selectors.parsing import DEEPEST, LONGEST
from maestro.timestamps import instant

# What selectors mean, said again as slowly and plainly as possible


def naive(clause, attributes):
    """Whether a clause holds, by its definition."""
    match clause:
        case None:
            return True
        case syntax.All(clauses):
            return all([naive(c, attributes) for c in clauses])
        case syntax.Any(clauses):
            return any([naive(c, attributes) for c in clauses])
        case syntax.Not(inner):
            return not naive(inner, attributes)
        case syntax.Has(key):
            return key in attributes
        case syntax.Match(key, pattern, ignore_case):
            given = attributes.get(key)
            flags = re.IGNORECASE if ignore_case else 0
            return isinstance(given, str) and re.search(pattern, given, flags) is not None
        case syntax.Compare(key, operator, value):
            return key in attributes and naive_compare(attributes[key], operator, value)


def naive_compare(given, operator, value):
    if isinstance(value, datetime) and isinstance(given, str):
        given = instant(given)
    if naive_kind(given) != naive_kind(value):
        return operator == "!="
    return {
        "=": lambda: given == value,
        "!=": lambda: given != value,
        "<": lambda: given < value,
        "<=": lambda: given <= value,
        ">": lambda: given > value,
        ">=": lambda: given >= value,
    }[operator]()


def naive_kind(value):
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "time" if isinstance(value, datetime) else "other"


KEYS = st.sampled_from([".maestro.my.step", ".maestro.core.cdo.name", "units", "x"])
TIMES = ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00.5Z"]
STRINGS = st.sampled_from(["", "K", "t2m", "T2M", 'a"b\\c', *TIMES]) | st.text(max_size=3)
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, -1.0, 2.0, 1e300, 2**70])
LITERALS = st.booleans() | NUMBERS | STRINGS | st.sampled_from([instant(text) for text in TIMES])
VALUES = st.one_of(
    *(st.booleans(), NUMBERS, STRINGS, st.none()),
    *(st.sampled_from([float("nan"), float("inf"), [1], {"a": 1}, b"K"]),),
)
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=4)
COMPARISONS = st.builds(
    syntax.Compare, KEYS, st.sampled_from(["=", "=", "!=", "<", "<=", ">", ">="]), LITERALS
)
MATCHES = st.builds(
    syntax.Match, KEYS, st.sampled_from(["", "^t", "m$", "2|K", r"\d", '"']), st.booleans()
)
CLAUSES = st.recursive(
    COMPARISONS | MATCHES | st.builds(syntax.Has, KEYS),
    lambda inner: (
        st.builds(syntax.Not, inner)
        | st.builds(syntax.All, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(syntax.Any, st.lists(inner, min_size=1, max_size=3).map(tuple))
    ),
    max_leaves=6,
)


@given(CLAUSES)
def test_every_clause_is_read_back_as_it_was(clause):
    assert Selector(str(clause)).clause == clause


@given(CLAUSES, st.lists(ATTRIBUTES, min_size=1, max_size=5))
def test_a_selector_holds_where_its_definition_does(clause, events):
    selector = Selector(str(clause))
    for attributes in events:
        assert selector.matches(attributes) is naive(clause, attributes)


@settings(max_examples=200)
@given(
    st.lists(CLAUSES | st.none(), min_size=1, max_size=12),
    st.lists(ATTRIBUTES, min_size=1, max_size=6),
    st.data(),
)
def test_the_index_finds_whom_asking_everyone_would(clauses, events, data):
    index = SelectorIndex()
    asked = {}
    for who, clause in enumerate(clauses):
        asked[who] = clause
        index.add(who, Selector(None if clause is None else str(clause)))
    for attributes in events:
        if asked and data.draw(st.booleans()):
            gone = data.draw(st.sampled_from(sorted(asked)))
            clause = asked.pop(gone)
            index.remove(gone, Selector(None if clause is None else str(clause)))
        expected = sorted(who for who, clause in asked.items() if naive(clause, attributes))
        assert sorted(index.matching(attributes)) == expected
        assert bool(index) is bool(asked)
    for who, clause in asked.items():
        index.remove(who, Selector(None if clause is None else str(clause)))
    assert not index._groups
    assert not index._tree


@pytest.mark.parametrize(
    ("form", "event", "candidates"),
    [
        ("(step = {})", {"step": 7}, 1),
        ("(and (has units) (step = {}))", {"step": 7, "units": "K"}, 1),
        ("(or (step = {0}) (level = {0}))", {"step": 7, "level": 8}, 2),
        ("(not (not (step = {})))", {"step": 7.0}, 1),
        ("(and (param = 130) (step = {}))", {"step": 7, "param": 130}, 1),
        ("(and (param = 130) (level <= {}))", {"level": 998, "param": 130}, 2),
        ("(and (or (step = {}) (step = 12)) (param = {}))", {"step": 12, "param": 130}, 1),
        ("(step < {})", {"step": 998.5}, 1),
        ("(and (step > {}) (units != 'K'))", {"step": 1}, 1 + 1),  # with the bound 1 itself
        ('(name = "{}")', {"name": "7"}, 1),
        ('(name ~= "^{}$")', {"step": 7}, 0),
        ("(level{} = 1)", {"level7": 1, "step": 3}, 1),
    ],
)
def test_only_few_of_a_thousand_selectors_are_evaluated(form, event, candidates):
    index = SelectorIndex()
    for number in range(1000):
        index.add(number, Selector(form.replace("{}", str(number)).replace("{0}", str(number))))
    assert len(list(index.candidates(event))) == candidates


def test_equal_selectors_are_evaluated_once():
    index = SelectorIndex()
    for number in range(10_000):
        index.add(number, Selector(("(units  = 'K')", '(units = "K")')[number % 2]))
    assert len(list(index.candidates({"units": "K"}))) == 1
    assert len(index.matching({"units": "K"})) == 10_000


def test_the_originals_examples_are_read():
    name, param, level = ".maestro.core.cdo.name", ".maestro.gsv.param", ".maestro.gsv.levelist"
    assert Selector(f"(has {name})").clause == syntax.Has(name)
    assert Selector(f"({param} = 130)").clause == syntax.Compare(param, "=", 130)
    both = (syntax.Compare(param, "=", 130), syntax.Compare(level, "<=", 10))
    assert Selector(f"(and ({param} = 130) ({level} <= 10))").clause == syntax.All(both)
    # As programs paste them together, without spaces between clauses.
    assert Selector(f"(and ({param} = 130)({level} <= 10))").clause == syntax.All(both)


def test_times_are_compared_as_points_in_time():
    selector = Selector("(date = 2026-01-01T00:00:00Z)")
    assert selector.matches({"date": "2026-01-01T01:00:00+01:00"})
    assert not Selector('(date = "2026-01-01T00:00:00Z")').matches(
        {"date": "2026-01-01T01:00:00+01:00"}
    )
    assert Selector("(date < 2026-01-01T00:00:00Z)").matches(
        {"date": "2025-12-31t23:59:60.9z"}
    ) is (
        False  # a leap second is the next minute's first
    )
    assert instant("2026-01-01T00:00:00-00:30") == datetime(2026, 1, 1, 0, 30, tzinfo=UTC)


# What is refused


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("", 1, r"got the end, expected '\('"),
        ("   ", 4, r"expected '\('"),
        ("x", 1, r"got 'x', expected '\('"),
        ("()", 2, "expected and, or, not, has or an attribute"),
        (
            "(step >= )",
            10,
            r"got '\)', expected a number, a time, true or false or a quoted string",
        ),
        ("(step 6)", 7, "expected one of = != < <= > >= or ~= or ~=i"),
        ("(6 = step)", 2, "expected and, or, not, has or an attribute"),
        ("(step = six)", 9, "expected a number, a time"),
        ("(step = 6", 10, r"got the end, expected '\)'"),
        ("(step = 6))", 11, "expected the end"),
        ("(step = 6) x", 12, "expected the end"),
        ("(step = 6abc)", 10, r"got 'abc', expected '\)'"),
        ("(step = 1e999)", 9, "too large for a double"),
        ("(step = 2026-02-30T00:00:00Z)", 9, "there is no time 2026-02-30T00:00:00Z"),
        ("(name = 'K)", 9, "a string that is not closed"),
        ("(name ~= 6)", 10, "expected a quoted string"),
        ("(name ~= '(')", 10, "no regular expression: missing \\)"),
        ("(name ~= '(?=x)')", 10, "no regular expression"),
        ("(name ~= '\ud800')", 10, "surrogate"),
        ("(and)", 5, r"expected '\('"),
        ("(not (has x) (has y))", 14, r"expected '\)'"),
        ("(has x y)", 8, r"expected '\)'"),
        ("(" * 101, DEEPEST + 1, f"more than {DEEPEST} clauses"),
    ],
)
def test_an_error_shows_the_column_with_a_caret(text, column, says):
    with pytest.raises(SelectorError, match=rf"selector: column {column}: .*{says}") as caught:
        Selector(text)
    _, line, caret = str(caught.value).split("\n")
    place = caret.index("^") - 2
    shown = line[2:]
    assert caret == "  " + " " * place + "^"
    if text.isprintable() and len(text) < 60:
        assert shown == text
        assert place == column - 1


def test_an_error_shows_the_line_where_there_are_several():
    with pytest.raises(SelectorError, match=r"line 2, column 8: .*expected a number, a") as caught:
        Selector("(and (has x)\n  (y = ?))")
    assert str(caught.value).split("\n")[1:] == ["    (y = ?))", "         ^"]


def test_a_long_line_is_shown_in_part():
    text = f"(and {'(has x) ' * 200}(y = ?){' (has x)' * 200})"
    with pytest.raises(SelectorError, match="column 1611") as caught:
        Selector(text)
    _, line, caret = str(caught.value).split("\n")
    assert len(line) < 130
    assert line[caret.index("^")] == "?"


def test_selectors_have_a_size():
    with pytest.raises(SelectorError, match=f"expected {LONGEST} at most"):
        Selector(" " * (LONGEST + 1))
    assert Selector(f"(or {'(x = 1)' * 9000})").matches({"x": 1})
    deep = "(not " * (DEEPEST - 1) + "(has x)" + ")" * (DEEPEST - 1)
    assert Selector(deep).matches({"x": 1}) is (DEEPEST % 2 == 1)
    assert Selector(f"(x = '{'(' * 500}')").matches({"x": "(" * 500})


@pytest.mark.parametrize("given", [6, b"(has x)", ["(has x)"], {}])
def test_only_strings_are_selectors(given):
    with pytest.raises(TypeError, match="expected a string or None"):
        Selector(given)


def attempt(text):
    """The selector and None, or None and its error."""
    try:
        return Selector(text), None
    except SelectorError as error:
        return None, error


TOKENS = st.lists(
    st.sampled_from(
        [
            *("(", ")", " ", "and", "or", "not", "has", "=", "~=", "~=i", "<=", "!", "'", '"'),
            *(".a.b", "x", "6", "-1e5", "'x'", "true", "2026-01-01T00:00:00Z", "\n", "(a", "\\"),
            *("é", "\0"),
        ]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=500)
@given(st.text() | TOKENS, ATTRIBUTES)
@example("(x ~= '\\C')", {"x": "é"})
@example("(x ~= '\\xff')", {"x": "\udcff"})
def test_any_text_is_a_selector_or_a_selector_error(text, attributes):
    selector, error = attempt(text)
    if error is not None:
        assert str(from_wire(to_wire(error))) == str(error)
        str(error).encode()
    else:
        assert selector.matches(attributes) in (True, False)


# Regular expressions

CATASTROPHIC = [
    "(a+)+$", "(a|a)*b", "(a|aa)+$", "(.*a){25}", "^(([a-z])+.)+[A-Z]([a-z])+$", "(x+x+)+y",
    "(?:a?){300}a{300}", "(a*)*b",
]  # fmt: skip


@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_no_pattern_takes_more_than_linear_time(pattern):
    """Any of these takes a backtracking engine longer than the universe has lasted."""
    selector = Selector(f"(x ~= '{pattern}')")
    assert selector.matches({"x": "a" * 100_000 + "!"}) in (True, False)


@settings(max_examples=300)
@given(st.text(st.sampled_from("ab(|)*+?{}0129,[]^$.\\dDwWpPxQE-:i'\""), max_size=30), st.text())
def test_any_pattern_is_tried_or_refused(pattern, text):
    quoted = pattern.replace("\\", "\\\\").replace("'", "\\'")
    selector, error = attempt(f"(x ~= '{quoted}')")
    if error is not None:
        assert "no regular expression" in str(error)
    else:
        assert selector.clause.pattern == pattern
        assert selector.matches({"x": text}) in (True, False)


@pytest.mark.parametrize("pattern", ["((a{0,100}){0,100}){0,10}", "a{1000}{1000}", ".{999}" * 3])
def test_patterns_have_a_size(pattern):
    with pytest.raises(
        SelectorError, match=r"no regular expression: (it is too large|invalid|bad)"
    ):
        Selector(f"(x ~= '{pattern}')")


def test_refused_patterns_are_silent(capfd):
    with pytest.raises(MaestroError):
        Selector("(x ~= '(')")
    assert capfd.readouterr() == ("", "")


def test_the_parser_is_loaded_only_where_somebody_selects():
    code = (
        "import sys, maestro, maestro.selectors;"
        "print(*{'lark', 'yamale', 're2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
