"""What a handle says about its CDO besides the data: keys and plain values, fixed by the seal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from maestro.errors import LifecycleError

__all__ = ["Attributes", "plain"]


class Attributes(MutableMapping[str, Any]):
    """A mapping from dotted keys to plain values.

    Values are None, bool, int, float, str, bytes, and lists and string-keyed dicts of these; NumPy
    scalars and arrays become the Python values they hold.

    Raises
    ------
    TypeError
        For a key that is no string, or a value that is none of these.
    LifecycleError
        If changed after the seal.

    Examples
    --------
    >>> attributes = Attributes("t2m", {".maestro.my.step": 6})
    >>> attributes[".maestro.my.level"] = 850
    >>> dict(attributes)
    {'.maestro.my.step': 6, '.maestro.my.level': 850}
    """

    def __init__(self, name: str, values: Mapping[str, Any] | None = None) -> None:
        self._name = name
        self._values: dict[str, Any] = {}
        self._sealed = False
        self.update(values or {})

    def seal(self) -> None:
        """From here on the attributes do not change."""
        self._sealed = True

    def unseal(self) -> None:
        """Open them again, where the handle could not be announced after all."""
        self._sealed = False

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
            self._values[key] = plain(value)
        except TypeError as error:
            raise TypeError(f"CDO {self._name!r}: attribute {key!r}: {error}") from None

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
        if self._sealed:
            raise LifecycleError(
                f"CDO {self._name!r}: attribute {key!r} was changed after the seal, expected all"
                " attributes to be set before seal, offer, require or demand"
            )


def plain(value: Any) -> Any:
    """The value as what every message format can carry.

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
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    match value:
        case int() if not -(2**63) <= value < 2**64:
            raise TypeError(f"got {value}, expected integers of at most 64 bits")
        case None | bool() | int() | float() | str() | bytes():
            return value
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            if all(isinstance(key, str) for key in value):
                return {key: plain(item) for key, item in value.items()}
    raise TypeError(
        f"got {value!r}, expected None, a bool, number, string, bytes, or a list or dict of these"
    )
