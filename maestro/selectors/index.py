"""Finding, among very many selectors, those that a CDO's attributes meet.

Most selectors can hold only where certain attributes have certain values, or one lies beyond a
bound, or is there at all: where one of their *paths* of such *anchors* holds as a whole. The index
keeps the paths as a tree, and goes down it with an event's values; only the selectors that it
arrives at are evaluated. So a thousand subscriptions to a thousand different steps cost one
lookup and one evaluation.

::

    (and (.my.step = 6) (.my.param = 130))        .my.param = 130, then .my.step = 6
    (and (.my.param = 130) (.my.level <= 10))     .my.param = 130, then .my.level <= 10
    (or (.my.step = 6) (.my.step = 12))           .my.step = 6; and another path, .my.step = 12
    (name ~= "^t")                                has name
    (not (has .my.step))                          the empty path: evaluated for every event
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from maestro.selectors import Selector, syntax

__all__ = ["Anchor", "Path", "SelectorIndex", "paths"]

Who = TypeVar("Who")


class Anchor(NamedTuple):
    """Something that holds for an attribute wherever a selector does.

    ``relation`` is "=", "<=" or ">=" with a value, or "has".
    """

    key: str
    relation: str
    value: Any = None


#: Anchors that hold all at once: equalities by key, then at most one of the others.
Path: TypeAlias = tuple[Anchor, ...]

_BOUNDS = {"<": "<=", "<=": "<=", ">": ">=", ">=": ">="}
_NOWHERE: frozenset[Path] = frozenset([()])


def paths(clause: syntax.Clause | None) -> frozenset[Path]:
    """The paths of a clause: wherever it holds, one of them does.

    Examples
    --------
    >>> from maestro.selectors import Selector
    >>> paths(Selector("(and (has units) (step = 6))").clause)
    frozenset({(Anchor(key='step', relation='=', value=6),)})
    """
    match clause:
        case syntax.All(clauses):
            return _joined([paths(c) for c in clauses])
        case syntax.Any(clauses):
            found = frozenset[Path]().union(*map(paths, clauses))
            return _NOWHERE if () in found else found
        case syntax.Has(key) | syntax.Match(key):
            return frozenset([(Anchor(key, "has"),)])
        case syntax.Compare(key, operator, value):
            return frozenset([(_anchor(key, operator, value),)])
        case syntax.Not(syntax.Not(inner)):
            return paths(inner)
    return _NOWHERE


def _joined(found: list[frozenset[Path]]) -> frozenset[Path]:
    """The paths of several clauses that all hold.

    Not every combination: of the clauses with several paths only the one with the best of them is
    taken, so that there are never more paths than are written in the selector.
    """
    common = [anchor for each in found if len(each) == 1 for path in each for anchor in path]
    branching = min((each for each in found if len(each) > 1), key=_cost, default=_NOWHERE)
    return frozenset(_ordered([*common, *path]) for path in branching)


def _ordered(anchors: list[Anchor]) -> Path:
    equal = sorted({a for a in anchors if a.relation == "="}, key=lambda a: (a.key, str(a.value)))
    others = sorted((a for a in anchors if a.relation != "="), key=lambda a: a.relation == "has")
    if equal and others and others[0].relation == "has":
        others = []  # they would tell little more, and cost a look-up
    return (*equal, *others[:1])


def _cost(found: frozenset[Path]) -> tuple[bool, int]:
    return not all(path and path[0].relation == "=" for path in found), len(found)


def _anchor(key: str, operator: str, value: syntax.Literal) -> Anchor:
    if operator == "!=" or isinstance(value, datetime):  # times are spelt in many ways
        return Anchor(key, "has")
    if operator == "=":
        return Anchor(key, "=", _comparable(value))
    if isinstance(value, bool):
        return Anchor(key, "has")
    return Anchor(key, _BOUNDS[operator], value)


def _comparable(value: Any) -> Any:
    """A value by which equal ones are found: True is not 1."""
    return ("truth", value) if isinstance(value, bool) else value


class SelectorIndex(Generic[Who]):
    """Whoever asked, by what they selected.

    Examples
    --------
    >>> index = SelectorIndex()
    >>> index.add("anna", Selector("(step = 6)"))
    >>> index.add("ben", Selector("(step > 3)"))
    >>> index.add("carl", Selector())
    >>> sorted(index.matching({"step": 6}))
    ['anna', 'ben', 'carl']
    """

    def __init__(self) -> None:
        self._groups: dict[Selector, _Group[Who]] = {}
        self._tree: _Node[Who] = _Node()

    def add(self, who: Who, selector: Selector) -> None:
        """Let somebody be found where the selector holds."""
        group = self._groups.get(selector)
        if group is None:
            group = self._groups[selector] = _Group(selector)
            for path in group.paths:
                self._tree.add(path, group)
        group.members[who] = None

    def remove(self, who: Who, selector: Selector) -> None:
        """Take back what was added with the same arguments."""
        group = self._groups[selector]
        del group.members[who]
        if not group.members:
            del self._groups[selector]
            for path in group.paths:
                self._tree.remove(path, group)

    def matching(self, attributes: Mapping[str, Any]) -> list[Who]:
        """Whoever's selector holds for the attributes, each once."""
        found: list[Who] = []
        for group in self.candidates(attributes):
            if group.matches(attributes):
                found.extend(group.members)
        return found

    def candidates(self, attributes: Mapping[str, Any]) -> Collection[_Group[Who]]:
        """The groups that have to be evaluated for some attributes, each once."""
        found: dict[_Group[Who], None] = {}
        self._tree.collect(attributes, found)
        return found

    def __bool__(self) -> bool:
        """Whether there is anybody."""
        return bool(self._groups)


class _Group(Generic[Who]):
    """All who selected the same."""

    __slots__ = ("matches", "members", "paths")

    def __init__(self, selector: Selector) -> None:
        self.paths = paths(selector.clause)
        self.matches = selector.matches
        self.members: dict[Who, None] = {}


class _Node(Generic[Who]):
    """Where the paths so far agree: the groups whose path ends here, and where others go on."""

    __slots__ = ("groups", "keys")

    def __init__(self) -> None:
        self.groups: dict[_Group[Who], None] = {}
        self.keys: dict[str, _Key[Who]] = {}

    def __bool__(self) -> bool:
        return bool(self.groups or self.keys)

    def add(self, path: Path, group: _Group[Who]) -> None:
        if path:
            self.keys.setdefault(path[0].key, _Key()).add(path, group)
        else:
            self.groups[group] = None

    def remove(self, path: Path, group: _Group[Who]) -> None:
        if not path:
            del self.groups[group]
            return
        key = self.keys[path[0].key]
        key.remove(path, group)
        if not key:
            del self.keys[path[0].key]

    def collect(self, attributes: Mapping[str, Any], found: dict[_Group[Who], None]) -> None:
        """Add the groups whose paths from here on hold."""
        if self.groups:
            found.update(self.groups)
        keys = self.keys
        if len(keys) < len(attributes):
            for name, key in keys.items():
                if name in attributes:
                    key.collect(attributes[name], attributes, found)
        else:
            for name in attributes:
                if name in keys:
                    keys[name].collect(attributes[name], attributes, found)


class _Key(Generic[Who]):
    """The paths that go on at one attribute."""

    __slots__ = ("bounds", "equal", "present")

    def __init__(self) -> None:
        self.equal: dict[Any, _Node[Who]] = {}
        self.present: dict[_Group[Who], None] = {}
        # By type of the value, number or string, and relation.
        self.bounds: dict[tuple[bool, str], _Bounds[Who]] = {}

    def __bool__(self) -> bool:
        return bool(self.equal or self.present or self.bounds)

    def add(self, path: Path, group: _Group[Who]) -> None:
        _, relation, value = path[0]
        if relation == "=":
            self.equal.setdefault(value, _Node()).add(path[1:], group)
        elif relation == "has":
            self.present[group] = None
        else:
            kind = (isinstance(value, str), relation)
            self.bounds.setdefault(kind, _Bounds()).add(value, group)

    def remove(self, path: Path, group: _Group[Who]) -> None:
        _, relation, value = path[0]
        if relation == "=":
            self.equal[value].remove(path[1:], group)
            if not self.equal[value]:
                del self.equal[value]
        elif relation == "has":
            del self.present[group]
        else:
            kind = (isinstance(value, str), relation)
            self.bounds[kind].remove(value, group)
            if not self.bounds[kind].values:
                del self.bounds[kind]

    def collect(
        self, value: Any, attributes: Mapping[str, Any], found: dict[_Group[Who], None]
    ) -> None:
        """Add the groups whose paths hold for a value of the attribute."""
        if self.present:
            found.update(self.present)
        kind = type(value)
        if kind is bool:
            value = ("truth", value)
        elif kind is not int and kind is not str and kind is not float:
            return  # a list or such: equal to nothing that a selector can say
        node = self.equal.get(value)
        if node is not None:
            node.collect(attributes, found)
        if self.bounds and kind is not bool:
            for (is_string, relation), bounds in self.bounds.items():
                if is_string is (kind is str):
                    bounds.collect(value, relation, found)


class _Bounds(Generic[Who]):
    """Groups by a bound of one attribute, in order, so that a value finds those that it meets."""

    __slots__ = ("groups", "values")

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.groups: dict[Any, dict[_Group[Who], None]] = {}

    def add(self, bound: Any, group: _Group[Who]) -> None:
        if bound not in self.groups:
            insort(self.values, bound)
            self.groups[bound] = {}
        self.groups[bound][group] = None

    def remove(self, bound: Any, group: _Group[Who]) -> None:
        del self.groups[bound][group]
        if not self.groups[bound]:
            del self.groups[bound], self.values[bisect_left(self.values, bound)]

    def collect(self, value: Any, relation: str, found: dict[_Group[Who], None]) -> None:
        if value != value:  # not a number: it meets no bound
            return
        if relation == "<=":
            met = self.values[bisect_left(self.values, value) :]
        else:
            met = self.values[: bisect_right(self.values, value)]
        for bound in met:
            found.update(self.groups[bound])
