"""Finding and reading schema files."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from maestro.errors import SchemaError
from maestro.schemas import Schema
from maestro.schemas.reading import LONGEST, parse_schema

__all__ = ["load_schemas"]

logger = logging.getLogger("maestro.schemas")


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
