"""Settings, through `dask.config`, with the defaults of ``maestro.yaml``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import dask
from dask.utils import parse_bytes, parse_timedelta

__all__ = [
    "get_bytes",
    "get_flag",
    "get_mapping",
    "get_number",
    "get_path",
    "get_seconds",
    "get_text",
    "get_texts",
]

# Asked for beside what Dask has: a `dask.config.set` of ours that ends, and that began before this
# was imported, takes all that was below "maestro" with it.
(_DEFAULTS,) = dask.config.collect_yaml([str(Path(__file__).with_name("maestro.yaml"))])
dask.config.update_defaults(_DEFAULTS)


@lru_cache
def _bytes(given: int | float | str) -> int:
    return int(parse_bytes(given))


@lru_cache
def _seconds(given: int | float | str) -> float:
    return float(parse_timedelta(given))


@lru_cache
def _default(key: str) -> Any:
    return dask.config.get(key, config=_DEFAULTS)


def _get(key: str) -> Any:
    key = f"maestro.{key}"
    return dask.config.get(key, _default(key))


def get_bytes(key: str, least: int = 1) -> int:
    """A setting in bytes, at least so many."""
    return max(least, _bytes(_get(key)))


def get_seconds(key: str) -> float:
    """A setting in seconds."""
    return _seconds(_get(key))


def get_number(key: str) -> float:
    """A setting that is a plain number."""
    return float(_get(key))


def get_flag(key: str) -> bool:
    """A setting that is true or false."""
    return bool(_get(key))


def get_text(key: str) -> str:
    """A setting that is a word."""
    return str(_get(key))


def get_texts(key: str) -> str | list[str]:
    """A setting that is a list of words, or all of them in one string."""
    texts = _get(key) or []
    return texts if isinstance(texts, str) else [str(text) for text in texts]


def get_path(key: str) -> Path | None:
    """A setting that names a directory, or none."""
    path = _get(key)
    return None if path is None else Path(path).expanduser()


def get_mapping(key: str) -> dict[str, Any]:
    """A setting that is a mapping, or none."""
    return dict(_get(key) or {})
