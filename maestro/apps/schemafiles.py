"""Finding and reading schema files: those that an app is given, or that are configured."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from maestro.config import get_text, get_texts
from maestro.errors import SchemaError
from maestro.schemas import Schema, Schemas
from maestro.schemas.reading import LONGEST, parse_schema

__all__ = ["Given", "load_schemas", "schemas_of"]

#: A schema, its file, several of them, or file names in one string separated by ``;``.
Given: TypeAlias = "str | os.PathLike[str] | Schema | Iterable[str | os.PathLike[str] | Schema]"

logger = logging.getLogger("maestro.schemas")


def schemas_of(given: Given | None = None) -> Schemas:
    """The schemas of an app.

    What is not given is as ``maestro.schemas`` is configured; and that is as the original's
    environment variables say, ``MSTRO_SCHEMA_LIST``, ``MSTRO_SCHEMA_PATH`` and
    ``MSTRO_DROP_UNKNOWN_ATTRIBUTES``, where they are set.

    Parameters
    ----------
    given : str, path, Schema, or several of them, optional
        Schema files: paths, or names to look for along the configured path.

    Raises
    ------
    SchemaError
        If a file is not found or can't be read, or the schemas contradict each other.

    Examples
    --------
    >>> schemas_of().check("t2m", {".my.step": 6}).values
    {'.my.step': 6}
    """
    if given is None:
        given = os.environ.get("MSTRO_SCHEMA_LIST") or get_texts("schemas.files")
    if isinstance(given, str):
        given = given.split(";")
    elif isinstance(given, os.PathLike | Schema):
        given = [given]
    folders = os.environ.get("MSTRO_SCHEMA_PATH") or get_texts("schemas.path")
    schemas = [
        schema
        for each in given
        for schema in (
            [each] if isinstance(each, Schema) else load_schemas([os.fspath(each)], folders)
        )
    ]
    drop = os.environ.get("MSTRO_DROP_UNKNOWN_ATTRIBUTES", "").strip().lower()
    unknown = get_text("schemas.unknown") if drop in ("", "0", "false", "no", "off") else "drop"
    return Schemas(schemas, unknown, get_text("schemas.missing"))


def load_schemas(names: str | Iterable[str], folders: str | Iterable[str] = ()) -> list[Schema]:
    """Read schema files.

    Parameters
    ----------
    names : str or iterable of str
        Paths, or names to look for; in one string separated by ``;`` as in ``MSTRO_SCHEMA_LIST``.
    folders : str or iterable of str
        Where to look, after the current folder; in one string separated by ``:`` or ``;`` as in
        ``MSTRO_SCHEMA_PATH``.

    Raises
    ------
    SchemaError
        If one is not found or can't be read.
    """
    if isinstance(names, str):
        names = names.split(";")
    if isinstance(folders, str):
        folders = folders.replace(";", ":").split(":")
    places = [Path(), *(Path(folder) for folder in folders if folder)]
    return [_load(name.strip(), places) for name in names if name.strip()]


def _load(name: str, places: list[Path]) -> Schema:
    path = next((p / name for p in places if (p / name).is_file()), None)
    if path is None:
        looked = ", ".join(map(str, places))
        raise SchemaError(f"schema {name!r}: there is no such file, looked for it in {looked}")
    try:
        with path.open(encoding="utf-8") as file:
            schema = parse_schema(file.read(LONGEST + 1), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"schema {name!r}: {path} can't be read: {error}") from None
    if schema.ignored:
        logger.info("Schema %s: ignored %s", path, ", ".join(schema.ignored))
    return schema
