"""What goes wrong in a pool, as types.

Every error names the CDO or the argument, what was given and what was expected, and derives from a
builtin that callers may already catch. Errors cross the wire as the name of their type and their
text, never pickled.
"""

from __future__ import annotations

__all__ = [
    "AlreadyOfferedError",
    "DataLostError",
    "InconsistentError",
    "LifecycleError",
    "MaestroError",
    "PoolFullError",
    "PoolLostError",
    "PoolNotFoundError",
    "PoolTimeoutError",
    "ProtocolError",
    "RankError",
    "SchemaError",
    "SelectorError",
    "StoreError",
    "StoreExistsError",
    "from_wire",
    "to_wire",
]


class MaestroError(Exception):
    """Anything that a pool refuses or cannot do."""


class PoolNotFoundError(MaestroError, ConnectionError):
    """There is no pool, and none can be made, where an app wants to connect."""


class PoolLostError(MaestroError, ConnectionError):
    """The pool manager went away, or the app is not connected any more."""


class ProtocolError(MaestroError, ValueError):
    """A message that the pool manager does not understand, or an app of another version."""


class LifecycleError(MaestroError, RuntimeError):
    """A call out of its turn in the life of a CDO handle."""


class InconsistentError(MaestroError, ValueError):
    """Handles of one name, or a handle and its data, that disagree."""


class RankError(MaestroError, IndexError):
    """A rank that the distribution does not have."""


class AlreadyOfferedError(MaestroError, ValueError):
    """A name, or one rank of it, that is in the pool already."""


class PoolTimeoutError(MaestroError, TimeoutError):
    """The time given for a wait ran out."""


class PoolFullError(MaestroError, MemoryError):
    """No node of the pool has room for what is offered."""


class DataLostError(MaestroError, ConnectionError):
    """An app or a node died with data that somebody waited for."""


class StoreError(MaestroError, OSError):
    """A store that cannot be read or written, or that holds what it should not."""


class StoreExistsError(StoreError, FileExistsError):
    """Something is there already where a store, or something in it, is to be written."""


class SelectorError(MaestroError, ValueError):
    """A selector that can't be read; the text shows where."""


class SchemaError(MaestroError, ValueError):
    """A schema that can't be read, or an attribute that is not as its schema says."""


_TYPES = {kind.__name__: kind for kind in globals().copy().values() if isinstance(kind, type)}


def to_wire(error: MaestroError) -> dict[str, str]:
    """The error as a plain message."""
    return {"type": type(error).__name__, "text": str(error)}


def from_wire(message: dict[str, str]) -> MaestroError:
    """The error of a plain message; a type that is not known here becomes a MaestroError."""
    kind = _TYPES.get(message["type"], MaestroError)
    error: MaestroError = kind(message["text"])
    return error
