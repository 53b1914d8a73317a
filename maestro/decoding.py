"""What comes over the wire as a call, checked: a dict of what msgpack knows becomes a message.

Of calls that come by the ten thousand a second most fields are looked at once, by their type.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from maestro.attributes import plain
from maestro.errors import ProtocolError
from maestro.messages import CALLS, Call
from maestro.report import MOVED
from maestro.schemas import CORE
from maestro.spelling import dtype_from_wire, layout_from_wire

__all__ = ["decode"]

#: What is said to have been moved is less; sums of it stay exact.
MOST_MOVED = 1 << 53

_EXPECTED = {
    word: {field.name for field in dataclasses.fields(kind)} - {"request"}
    for word, kind in CALLS.items()
}


def decode(word: str, request: int, fields: dict[str, Any]) -> Call:
    """The call of a message.

    Raises
    ------
    ProtocolError
        If it is none that this manager knows.
    """
    kind = CALLS.get(word) if isinstance(word, str) else None
    if kind is None:
        raise ProtocolError(f"call: got {word!r}, expected one of {', '.join(CALLS)}")
    expected = _EXPECTED[word]
    if fields.keys() != expected:
        raise ProtocolError(
            f"call {word!r}: got the fields {sorted(map(str, fields))}, expected {sorted(expected)}"
        )
    if word in _PARTS:
        fields = {**fields, _PARTS[word]: _decode_parts(word, request, fields)}
    try:
        checked = {
            name: value
            if type(value) in _PLAIN.get(name, _WORD)
            or (not value and type(value) is _EMPTY.get(name))
            else _checked(name, value)
            for name, value in fields.items()
        }
        return kind(request=request, **checked)
    except (TypeError, ValueError, KeyError, SyntaxError) as error:
        raise ProtocolError(f"call {word!r}: {error}") from None


#: Calls that consist of calls: the field that has them.
_PARTS = {"seals": "seals", "offergroup": "offers"}


def _decode_parts(word: str, request: int, fields: dict[str, Any]) -> tuple[Call, ...]:
    """The calls that a call consists of: all of them are of the same app."""
    name = _PARTS[word]
    parts = fields[name]
    if not isinstance(parts, list | tuple) or not all(isinstance(part, dict) for part in parts):
        raise ProtocolError(f"call {word!r}: {name}: got {parts!r}, expected a list of calls")
    common = {"seals": {}, "offers": {"wait": False}}[name]
    return tuple(
        decode(name.removesuffix("s"), request, {**part, **common, "app": fields["app"]})
        for part in parts
    )


def _checked(name: str, value: Any) -> Any:
    """A field's value, if it is of the kind that its name stands for."""
    kind, optional = _FIELDS.get(name, (str, False))
    if optional and value is None:
        return None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name}: got {value!r}, expected {getattr(kind, '__name__', 'list')}")
    if name == "distribution":
        return layout_from_wire(value)
    if name == "dtype":
        dtype_from_wire(value)
    if name == "placed":
        return _lease_from_wire(value)
    if name in ("depends", "members"):
        if not all(type(word) is str for word in value):
            raise TypeError(f"{name}: got {value!r}, expected strings")
        return tuple(value)
    if name in ("attributes", "defaults"):
        _check_attributes(name, value)
    if name == "moved":
        _check_moved(value)
    if name == "near" and not all(type(r) is int and type(n) is str for r, n in value.items()):
        raise TypeError(f"near: got {value!r}, expected addresses of nodes by rank")
    return value


def _lease_from_wire(value: Any) -> Any:
    if [type(word) for word in value] not in ([], [int, str]):
        raise TypeError(f"placed: got {value!r}, expected a version and the address of a node")
    return tuple(value)


def _check_moved(moved: dict[Any, Any]) -> None:
    for key, value in moved.items():
        number = type(value) in (int, float)
        if key not in MOVED or not number or not 0 <= value < MOST_MOVED:
            raise TypeError(f"moved: got {key!r}: {value!r}, expected numbers of {MOVED}")


def _check_attributes(name: str, values: dict[Any, Any]) -> None:
    for key, value in values.items():
        if not isinstance(key, str) or key.startswith(CORE):
            raise TypeError(f"{name}: got {key!r}, expected strings that do not begin with {CORE}")
        try:
            plain(value)
        except TypeError as error:
            raise TypeError(f"{name}: {key!r}: {error}") from None


#: Kinds of the fields of calls, and whether they may be None; all others are strings.
_FIELDS: dict[str, tuple[Any, bool]] = {
    "rank": (int, True),
    "dtype": (str, True),
    "distribution": (dict, True),
    "attributes": (dict, False),
    "defaults": (dict, False),
    "near": (dict, False),
    "wait": (bool, False),
    "copies": (int, False),
    "served": (bool, False),
    "stay": (bool, False),
    "awaited": (bool, False),
    "placed": (list | tuple, True),
    "moved": (dict, False),
    "selector": (str, True),
    "kinds": (list | tuple, False),
    "ack": (bool, False),
    "own": (bool, False),
    "since": (int, True),
    "durable": (str, True),
    "patience": (int | float, True),
    "most": (int, False),
    "count": (int, False),
    "serials": (list | tuple, False),
    "depends": (list | tuple, False),
    "members": (list | tuple, False),
    "group": (bool, False),
    "push": (bool, False),
    "along": (bool, False),
    "waited": (float, False),
    "seals": (tuple, False),
    "offers": (tuple, False),
}

#: Fields of whose values something is looked at beside their kind.
_LOOKED_INTO = frozenset(
    ("distribution", "dtype", "depends", "members", "attributes", "defaults", "moved", "near")
)

#: Types, by field, of values that are as they should be: most of what comes is found here.
_PLAIN: dict[str, tuple[type, ...]] = {
    name: (
        *(() if name in _LOOKED_INTO or not isinstance(kind, type) else (kind,)),
        *((type(None),) if optional else ()),
    )
    for name, (kind, optional) in _FIELDS.items()
}
_WORD = (str,)
_EMPTY = {
    **dict.fromkeys(("attributes", "defaults", "moved", "near"), dict),
    **dict.fromkeys(("depends", "members", "placed"), tuple),
}
