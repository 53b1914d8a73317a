"""Settings, through `dask.config`, with the defaults of ``maestro.yaml``."""

from __future__ import annotations

from pathlib import Path

import dask
from dask.utils import parse_bytes, parse_timedelta

__all__ = [
    "get_bytes",
    "get_flag",
    "get_number",
    "get_path",
    "get_seconds",
    "get_text",
    "get_texts",
]

(_DEFAULTS,) = dask.config.collect_yaml([str(Path(__file__).with_name("maestro.yaml"))])
dask.config.update_defaults(_DEFAULTS)


def get_bytes(key: str) -> int:
    """A setting in bytes, at least 1."""
    return max(1, int(parse_bytes(dask.config.get(f"maestro.{key}"))))


def get_seconds(key: str) -> float:
    """A setting in seconds."""
    return float(parse_timedelta(dask.config.get(f"maestro.{key}")))


def get_number(key: str) -> float:
    """A setting that is a plain number."""
    return float(dask.config.get(f"maestro.{key}"))


def get_flag(key: str) -> bool:
    """A setting that is true or false."""
    return bool(dask.config.get(f"maestro.{key}"))


def get_text(key: str) -> str:
    """A setting that is a word."""
    return str(dask.config.get(f"maestro.{key}"))


def get_texts(key: str) -> str | list[str]:
    """A setting that is a list of words, or all of them in one string."""
    texts = dask.config.get(f"maestro.{key}") or []
    return texts if isinstance(texts, str) else [str(text) for text in texts]


def get_path(key: str) -> Path | None:
    """A setting that names a directory, or none."""
    path = dask.config.get(f"maestro.{key}")
    return None if path is None else Path(path).expanduser()
