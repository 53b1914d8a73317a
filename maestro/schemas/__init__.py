"""Schemas: which attributes there are under a namespace, and of what type.

`maestro.schemas.reading` reads one from the text of its file; `Schemas` checks attributes against
several of them; `maestro.schemas.core` fills in the attributes that maestro itself sets.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from maestro.errors import SchemaError

__all__ = ["CORE", "MISSING", "UNKNOWN", "Checked", "Definition", "Schema", "Schemas"]

logger = logging.getLogger("maestro.schemas")

#: The namespace of what maestro itself sets.
CORE = ".maestro.core."

#: What can be done about attributes that no schema knows.
UNKNOWN = ("keep", "refuse", "drop")

#: What can be done about required attributes that are not set when a CDO is offered.
MISSING = ("warn", "refuse", "ignore")


@dataclass(frozen=True)
class Definition:
    """One attribute of a schema.

    Attributes
    ----------
    key : str
        With its namespace.
    type : str
        As the schema spells it, such as ``int(min=0)``.
    required : bool
        Whether a CDO must not be offered without it.
    documentation : str
        What it means.
    default : object
        Its value where it is not set; None for none.
    """

    key: str
    type: str
    required: bool = False
    documentation: str = ""
    default: Any = None
    checker: Any = field(default=None, compare=False, repr=False)  # yamale's

    def errors(self, value: Any) -> list[str]:
        """What is wrong with a value."""
        if value is None:  # yamale lets it pass where it is not required
            return [] if self.type.startswith(("null", "any")) else [f"got None of {self.type}"]
        found = self.checker.validate({"value": value}, "", True).errors
        return [error.removeprefix("value: ") for error in found]


@dataclass(frozen=True)
class Schema:
    """The attributes of a namespace.

    Attributes
    ----------
    name, version, namespace : str
        As the file says; the namespace begins and ends with a dot.
    attributes : mapping of str to Definition
        By key with namespace.
    ignored : tuple of str
        What the file says beyond what is known here.
    """

    name: str
    version: str
    namespace: str
    attributes: Mapping[str, Definition]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checked:
    """Attributes as their schemas want them.

    Attributes
    ----------
    stated : dict
        What was set, and is kept.
    defaults : dict
        What was not set, and has a default.
    missing : tuple of str
        What is required, and has neither value nor default, in words.
    """

    stated: dict[str, Any]
    defaults: dict[str, Any]
    missing: tuple[str, ...]

    @property
    def values(self) -> dict[str, Any]:
        """All of them."""
        return {**self.defaults, **self.stated}


class Schemas:
    """Several schemas together.

    Parameters
    ----------
    schemas : iterable of Schema
        They may not define a key twice, unless in the same way, nor any of maestro's own.
    unknown : str
        What to do about attributes that none of them knows: "keep", "refuse" or "drop" them.
    missing : str
        What to do about an offer without a required attribute: "warn", "refuse" or "ignore" it.

    Raises
    ------
    SchemaError
        If they contradict each other.

    Examples
    --------
    >>> from maestro.schemas.reading import parse_schema
    >>> fields = '''
    ... schema-name: My fields
    ... schema-namespace: .my.
    ... maestro-attributes: [{key: step, type: int(min=0), required: True}]
    ... '''
    >>> schemas = Schemas([parse_schema(fields)])
    >>> schemas.check("t2m", {".my.step": 6}).values
    {'.my.step': 6}
    >>> schemas.check("t2m", {}).missing
    ("CDO 't2m': attribute '.my.step' is not set, expected int(min=0) as schema 'My fields' says",)
    >>> schemas.check("t2m", {".my.step": -1})
    Traceback (most recent call last):
    ...
    maestro.errors.SchemaError: CDO 't2m': attribute '.my.step': -1 is less than 0, expected ...
    """

    def __init__(
        self, schemas: Iterable[Schema] = (), unknown: str = "keep", missing: str = "warn"
    ) -> None:
        for what, given, known in (("unknown", unknown, UNKNOWN), ("missing", missing, MISSING)):
            if given not in known:
                raise ValueError(f"{what}: got {given!r}, expected one of {', '.join(known)}")
        self.unknown, self.missing = unknown, missing
        self.schemas = tuple(schemas)
        self._known: dict[str, tuple[Definition, str]] = {}
        for schema in self.schemas:
            for key, definition in schema.attributes.items():
                self._define(key, definition, schema.name)

    def check(
        self, name: str, attributes: Mapping[str, Any], core: Mapping[str, Any] | None = None
    ) -> Checked:
        """The attributes of a CDO, with defaults for what is not set.

        Parameters
        ----------
        name : str
            The CDO, for errors.
        attributes : mapping
            What was set.
        core : mapping, optional
            What maestro itself says of the CDO: see `maestro.schemas.core`. Only this can be set
            under ``.maestro.core.``.

        Raises
        ------
        SchemaError
            If one is not of its type, or is not known and not to be kept.
        """
        kept = {
            key: value
            for key, value in attributes.items()
            if self.accept(name, key, value, core or {})
        }
        defaults: dict[str, Any] = {}
        missing = []
        for key, (definition, schema) in self._known.items():
            if key in kept:
                continue
            if definition.default is not None:
                defaults[key] = definition.default
            elif definition.required:
                missing.append(
                    f"CDO {name!r}: attribute {key!r} is not set, expected {definition.type} as"
                    f" schema {schema!r} says"
                )
        return Checked(kept, defaults, tuple(missing))

    def accept(self, name: str, key: str, value: Any, core: Mapping[str, Any]) -> bool:
        """Whether an attribute is to be kept.

        False for one that is dropped, and for what maestro itself says, which need not be said.

        Raises
        ------
        SchemaError
            As `check`.
        """
        if key in self._known:
            self._check_type(name, key, value)
            return True
        if key.startswith(CORE):
            self._check_core(name, key, value, core)
            return False
        return self._keeps(name, key)

    def miss(self, missing: Iterable[str]) -> None:
        """Do about an offer without required attributes what is to be done.

        Raises
        ------
        SchemaError
            If it is to be refused.
        """
        text = "; ".join(missing)
        if text and self.missing == "refuse":
            raise SchemaError(text)
        if text and self.missing == "warn":
            logger.warning("%s", text)

    def _define(self, key: str, definition: Definition, schema: str) -> None:
        if key.startswith(CORE):
            raise SchemaError(
                f"schema {schema!r}: it defines {key!r}, expected no key under {CORE}: these are"
                " maestro's own"
            )
        known = self._known.setdefault(key, (definition, schema))
        if known[0] != definition:
            raise SchemaError(
                f"schema {schema!r}: it defines {key!r} as {definition.type}, expected what schema"
                f" {known[1]!r} says: {known[0].type}; the two differ"
            )

    def _check_type(self, name: str, key: str, value: Any) -> None:
        definition, schema = self._known[key]
        errors = definition.errors(value)
        if errors:
            raise SchemaError(
                f"CDO {name!r}: attribute {key!r}: {'; '.join(errors)}, expected"
                f" {definition.type} as schema {schema!r} says"
            )

    def _check_core(self, name: str, key: str, value: Any, core: Mapping[str, Any]) -> None:
        if self.unknown != "drop" and (key not in core or core[key] != value):
            raise SchemaError(
                f"CDO {name!r}: attribute {key!r} was set to {value!r}, expected"
                f" {core.get(key, 'nothing')!r}: what is under {CORE} is maestro's own"
            )

    def _keeps(self, name: str, key: str) -> bool:
        """Whether an attribute that no schema knows stays."""
        if self.unknown == "refuse":
            where = ", ".join(repr(schema.name) for schema in self.schemas) or "none"
            raise SchemaError(
                f"CDO {name!r}: attribute {key!r} is unknown, expected one of the schemas'"
                f" ({where})"
            )
        return self.unknown == "keep"
