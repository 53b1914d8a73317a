"""What a handle says about its CDO besides the data: keys and plain values, fixed by the seal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import datetime
from typing import Any

import numpy as np

from maestro.errors import LifecycleError
from maestro.schemas import CORE, Checked, Schemas
from maestro.timestamps import as_text

__all__ = ["Attributes", "plain"]

#: How deep lists and dicts may be nested.
DEEPEST = 20


class Attributes(MutableMapping[str, Any]):
    """A mapping from dotted keys to plain values.

    Values are None, bool, int, float, str, bytes, and lists and string-keyed dicts of these; NumPy
    scalars and arrays become the Python values they hold.

    Raises
    ------
    TypeError
        For a key that is no string, or a value that is none of these.
    SchemaError
        For a value that is not of its schema's type, a key that no schema knows where these are to
        be refused, and what is under ``.maestro.core.``, which is maestro's own.
    LifecycleError
        If changed after the seal.

    Examples
    --------
    >>> attributes = Attributes("t2m", {".maestro.my.step": 6})
    >>> attributes[".maestro.my.level"] = 850
    >>> dict(attributes)
    {'.maestro.my.step': 6, '.maestro.my.level': 850}
    """

    def __init__(
        self,
        name: str,
        values: Mapping[str, Any] | None = None,
        schemas: Schemas | None = None,
        core: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._name = name
        self._schemas = schemas or Schemas()
        self._core = core  # what maestro itself says of the CDO
        self._values: dict[str, Any] = {}
        self._open: dict[str, Any] | None = None  # what they were before the seal
        self.update(values or {})

    def seal(self) -> Checked:
        """Fill in defaults; from here on the attributes do not change."""
        checked = self._schemas.check(self._name, self._values, self._core())
        self._open, self._values = self._values, dict(checked.values)
        return checked

    def unseal(self) -> None:
        """Open them again, where the handle could not be announced after all."""
        if self._open is not None:
            self._values, self._open = self._open, None

    def unite(self, values: Mapping[str, Any]) -> None:
        """Take in what the pool knows of the CDO from all of its handles."""
        self._values.update(plain(dict(values)))

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._refuse_if_sealed(key)
        if not isinstance(key, str) or not key:
            raise TypeError(f"CDO {self._name!r}: attribute key {key!r}, expected a string")
        try:
            value = plain(value)
        except TypeError as error:
            raise TypeError(f"CDO {self._name!r}: attribute {key!r}: {error}") from None
        self._schemas.accept(self._name, key, value, self._core() if key.startswith(CORE) else {})
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        self._refuse_if_sealed(key)
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def _refuse_if_sealed(self, key: str) -> None:
        if self._open is not None:
            raise LifecycleError(
                f"CDO {self._name!r}: attribute {key!r} was changed after the seal, expected all"
                " attributes to be set before seal, offer, require or demand"
            )


def plain(value: Any, depth: int = 0) -> Any:
    """The value as what every message format can carry.

    Times become text, as RFC 3339 has them.

    Raises
    ------
    TypeError
        If it cannot be one.

    Examples
    --------
    >>> import numpy as np
    >>> plain((np.float32(1.5), {"a": np.arange(2)}))
    [1.5, {'a': [0, 1]}]
    """
    if depth > DEEPEST:
        raise TypeError(f"got lists and dicts nested deeper than {DEEPEST}")
    if isinstance(value, datetime):
        return as_text(value)
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    match value:
        case int() if not -(2**63) <= value < 2**64:
            raise TypeError(f"got {value}, expected integers of at most 64 bits")
        case None | bool() | int() | float() | str() | bytes():
            return value
        case list() | tuple():
            return [plain(item, depth + 1) for item in value]
        case dict():
            if all(isinstance(key, str) for key in value):
                return {key: plain(item, depth + 1) for key, item in value.items()}
    raise TypeError(
        f"got {value!r}, expected None, a bool, number, string, bytes, time, or a list or dict of"
        " these"
    )
