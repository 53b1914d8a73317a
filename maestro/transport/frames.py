"""Array bytes as raw frames of Dask's messages: not pickled, not compressed, not copied.

Dask's own serialiser of arrays pickles their type and, where the configuration says so, compresses
samples of them to see whether it pays. A message that is serialised already passes both by, so
frames of ours go as they are, under a serialiser that both sides register here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from distributed.protocol.serialize import Serialized, register_serialization_family
from numpy.typing import NDArray

__all__ = ["received", "to_send"]

_FAMILY = "maestro"


def _load(header: dict[str, Any], frames: Sequence[Any]) -> list[NDArray[np.uint8]]:
    return [np.frombuffer(frame, np.uint8) for frame in frames]


def _dump(given: Any) -> Any:
    raise TypeError(f"only frames made by to_send travel so, got {type(given).__name__}")


register_serialization_family(_FAMILY, _dump, _load)


def to_send(frames: Sequence[NDArray[np.uint8]]) -> Serialized:
    """What to put into a message for these bytes to go with it, each array as one frame.

    They are read when the message is on its way: whoever owns them must leave them alone until the
    other side says that it has them.
    """
    return Serialized({"serializer": _FAMILY}, [frame.data for frame in frames])


def received(data: Any) -> list[NDArray[np.uint8]]:
    """The frames of a message that has come, one flat array each.

    Raises
    ------
    TypeError
        If it came in another way.
    """
    if isinstance(data, list) and all(isinstance(frame, np.ndarray) for frame in data):
        return data
    raise TypeError(f"data: got {type(data).__name__}, expected raw frames")
