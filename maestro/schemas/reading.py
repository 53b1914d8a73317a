"""From the text of a schema file to a schema."""

from __future__ import annotations

import warnings
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from maestro.errors import SchemaError
from maestro.schemas import Definition, Schema

__all__ = ["LONGEST", "parse_schema"]

#: Characters that a schema file may have.
LONGEST = 1 << 20
_DEEPEST = 20
_KEYS = {"schema-name", "schema-version", "schema-namespace", "maestro-attributes"}
_ATTRIBUTE_KEYS = {"key", "type", "required", "documentation", "default"}

# libyaml's where it is there: ten times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_schema(text: str, source: str = "schema") -> Schema:
    """Read a schema.

    Parameters
    ----------
    text : str
        YAML, of the form that Maestro Core's schema files have.
    source : str
        What errors call it, such as its path.

    Raises
    ------
    SchemaError
        If it is no YAML, not of this form, or has a type that is none.

    Examples
    --------
    >>> schema = parse_schema('''
    ... schema-name: My fields
    ... schema-version: 1
    ... schema-namespace: ".maestro.my-namespace."
    ... maestro-attributes:
    ...   - key: "step"
    ...     type: int(min=0)
    ...     required: True
    ...     documentation: Forecast step in hours.
    ... ''')
    >>> schema.attributes[".maestro.my-namespace.step"].type
    'int(min=0)'
    """
    words = _load(text, source)
    errors = _form().validate(words, source, strict=False).errors
    if errors:
        raise SchemaError(f"{source}: {'; '.join(errors)}, expected the form of a schema")
    namespace = f".{words['schema-namespace'].strip('.')}."
    attributes: dict[str, Definition] = {}
    ignored = sorted(str(key) for key in words.keys() - _KEYS)
    for entry in words.get("maestro-attributes") or ():
        definition = _definition(entry, namespace, source)
        if definition.key in attributes:
            raise SchemaError(f"{source}: it defines {definition.key!r} twice, expected once")
        attributes[definition.key] = definition
        ignored += sorted(f"{definition.key}: {key}" for key in entry.keys() - _ATTRIBUTE_KEYS)
    version = str(words.get("schema-version", ""))
    return Schema(words["schema-name"], version, namespace, attributes, tuple(ignored))


def _load(text: str, source: str) -> dict[str, Any]:
    """The text's plain values; neither long, nor deep, nor growing by aliases."""
    if not isinstance(text, str):
        raise TypeError(f"{source}: got {text!r}, expected a string")
    if len(text) > LONGEST:
        raise SchemaError(f"{source}: {len(text)} characters, expected {LONGEST} at most")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.AliasEvent):
                raise SchemaError(f"{source}: got the alias *{event.anchor}, expected none")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise SchemaError(f"{source}: nested deeper than {_DEEPEST} levels")
        words = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(f"{source}: no YAML: {error}") from None
    if not isinstance(words, dict):
        raise SchemaError(f"{source}: got {type(words).__name__}, expected a mapping")
    return words


@cache
def _form() -> Any:
    """What a schema file must look like."""
    import yamale

    text = files("maestro.schemas").joinpath("form.yaml").read_text(encoding="utf-8")
    return yamale.make_schema(content=text)


def _definition(entry: dict[str, Any], namespace: str, source: str) -> Definition:
    key = namespace + entry["key"].lstrip(".")
    default = entry.get("default")
    if isinstance(default, date):  # YAML reads times that are not quoted
        default = _rfc3339(default)
    definition = Definition(
        key,
        entry["type"],
        bool(entry.get("required", False)),
        (entry.get("documentation") or "").strip(),
        default,
        _checker(entry["type"], f"{source}: attribute {key!r}"),
    )
    if default is not None and (errors := definition.errors(default)):
        raise SchemaError(
            f"{source}: attribute {key!r}: the default {default!r}: {'; '.join(errors)}, expected"
            f" {definition.type}"
        )
    return definition


def _rfc3339(value: date) -> str:
    if not isinstance(value, datetime):
        return value.isoformat()
    return value.isoformat() + ("Z" if value.tzinfo is None else "")


def _checker(type_: str, where: str) -> Any:
    """What tells whether a value is of a type."""
    from yamale.schema import Schema as Checker

    from maestro.schemas.types import TYPES

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's own, of escapes in patterns
            return Checker({"value": type_}, validators=TYPES)
    except (SyntaxError, ValueError, TypeError, AttributeError, RecursionError, MemoryError) as e:
        reason = str(e).removesuffix(" at node 'value'")
        raise SchemaError(f"{where}: type {type_!r}: {reason}") from None
