"""Refuses to start beside a foreign `maestro`, `layouts` or `kernels`.

These three import names belong to other distributions too, and Python does not mind: whichever
lies first on `sys.path` is imported, and two that are installed into one folder overwrite each
other's files. Either way half of one library would run with half of another. So each of our
packages begins with

    import _maestro_pool

and the first of these imports, in each process, looks for two things:

- a module of one of our names that `import` would find before ours (another folder, earlier on
  the path);
- another distribution whose files of one of our names went into the folder that ours are in.

Trouble is an `ImportError` that says what is in the way and how to be rid of it. Nothing is
imported in order to look, and `importlib.metadata` is not needed: importing it alone would cost
several times the whole check.
"""

import os
import re
import sys
from importlib.util import find_spec

NAMES = ("maestro", "layouts", "kernels")

_HERE = os.path.dirname(os.path.abspath(__file__))
_OURS = re.compile(r"maestro[-_.]pool([-.]\d.*)?\.(dist|egg)-info$", re.IGNORECASE)


def check() -> None:
    """
    Look for foreign packages of our names.

    Raises
    ------
    ImportError
        If there are any; the message names each with its version and folder, and says what to do.
    """
    places = [(name, _place(name)) for name in NAMES]
    found = [(name, place) for name, place in places if place and not _is_ours(name, place)]
    merged = _merged()
    if found or merged:
        raise ImportError(_message(found, merged), name=found[0][0] if found else merged[0][1][0])


def _place(name: str) -> str | None:
    """Where `import name` finds its module: a package's folder, else a file, else None."""
    module = sys.modules.get(name)
    # Not find_spec for what is loaded: it refuses a module whose __spec__ is None.
    spec = find_spec(name) if module is None else getattr(module, "__spec__", None)
    if spec is None:
        folders, file = getattr(module, "__path__", None), getattr(module, "__file__", None)
    else:
        folders, file = spec.submodule_search_locations, spec.origin if spec.has_location else None
    return next(iter(folders or ()), file)


def _is_ours(name: str, place: str) -> bool:
    """Whether this is our folder of that name, however its path is spelt."""
    ours = os.path.join(_HERE, name)
    try:
        return place == ours or os.path.samefile(place, ours)
    except OSError:
        return False


def _merged() -> list[tuple[str, list[str]]]:
    """Foreign distributions installed into our folder, each with those of our names that it has."""
    try:
        entries = os.listdir(_HERE)
    except OSError:  # in a zip file, where nothing else gets installed
        return []
    infos = (e for e in entries if e.endswith((".dist-info", ".egg-info")) and not _OURS.match(e))
    return [(info, names) for info in sorted(infos) if (names := _provides(_HERE, info))]


def _provides(folder: str, info: str) -> list[str]:
    """
    Those of our names that the distribution with this metadata folder installed beside it.

    `top_level.txt` is short, but not every build tool writes it, and in an editable install it
    speaks of files that lie elsewhere; RECORD has every file, but can have megabytes. So RECORD
    is read only where the former is missing or accuses.
    """
    path = os.path.join(folder, info)
    top_level = _read(path, "top_level.txt")
    if top_level is None:
        names = list(NAMES)
    else:
        names = [name for name in NAMES if name.encode() in top_level.split()]
    if not names:
        return []
    record = _read(path, "RECORD")
    if record is not None:
        return [name for name in names if _lists(record, name.encode())]
    if top_level is not None:
        return names
    return [name for name in NAMES if name == re.split(r"[-.]", info)[0].lower()]


def _lists(record: bytes, name: bytes) -> bool:
    """Whether a RECORD has `name/...`, `name.py` or `name.<platform>.so`."""
    # Plain searches first: the expression takes ten times as long, for `kernels` inside others'
    # paths is not rare.
    if b"\n" + name not in record and not record.startswith(name):
        return False
    line = rb"^" + name + rb"(/|\.py,|\.[^/,\n]*(so|pyd),)"
    return re.search(line, record, re.MULTILINE) is not None


def _read(folder: str, file: str) -> bytes | None:
    try:
        with open(os.path.join(folder, file), "rb", buffering=0) as f:
            return f.read()
    except OSError:
        return None


def _message(found: list[tuple[str, str]], merged: list[tuple[str, list[str]]]) -> str:
    """What is in the way and what to do about it."""
    lines = [
        f"maestro-pool, in {_HERE}, cannot work beside other packages of its import names"
        " (maestro, layouts, kernels):"
    ]
    remove: list[str] = []
    loose = False
    for name, place in found:
        owner = _owner(name, os.path.dirname(place))
        if owner:
            lines.append(f"  `import {name}` finds {owner[0]} {owner[1]}, in {place}")
            remove.append(owner[0])
        else:
            lines.append(f"  `import {name}` finds {place}, of no installed distribution")
            loose = True
    for info, names in merged:
        title, version = _title(_HERE, info)
        packages = " and ".join(os.path.join(_HERE, name) for name in names)
        lines.append(f"  {title} {version} is installed into the same folder, in {packages}")
        remove.append(title)
    if remove:
        lines.append(f"Run `pip uninstall {' '.join(dict.fromkeys(remove))}`,")
        if merged:  # it takes shared files, such as kernels/__init__.py, away with it
            lines.append("then `pip install --force-reinstall --no-deps maestro-pool`,")
        lines.append("or install maestro-pool in a separate environment.")
    if loose:
        lines.append("Rename what belongs to no distribution, or take its folder off sys.path,")
        lines.append("which begins with the script's or the current folder, then PYTHONPATH.")
    return "\n".join(lines)


def _owner(name: str, folder: str) -> tuple[str, str] | None:
    """Name and version of the distribution that has module `name` in this folder, if one does."""
    try:
        entries = os.listdir(folder)
    except OSError:
        return None
    for entry in sorted(entries):
        if entry.endswith((".dist-info", ".egg-info")) and name in _provides(folder, entry):
            return _title(folder, entry)
    return None


def _title(folder: str, info: str) -> tuple[str, str]:
    """A distribution's name and version, from its metadata or else from their folder's name."""
    path = os.path.join(folder, info)
    text = _read(path, "METADATA") or _read(path, "PKG-INFO") or b""
    head = text.partition(b"\n\n")[0].decode("utf-8", "replace")
    fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
    name, _, version = os.path.splitext(info)[0].partition("-")
    return fields.get("Name", name), fields.get("Version", version or "(version unknown)")


check()
