"""The running pool: programs offer named arrays and demand them in the layout they want.

See `connect`.
"""

import _maestro_pool  # noqa: F401  (refuses foreign packages of our names)

from maestro.app import App, connect
from maestro.attributes import Attributes
from maestro.cdo import Cdo
from maestro.errors import (
    AlreadyOfferedError,
    DataLostError,
    InconsistentError,
    LifecycleError,
    MaestroError,
    PoolFullError,
    PoolLostError,
    PoolNotFoundError,
    PoolTimeoutError,
    ProtocolError,
    RankError,
)
from maestro.pool import Entry, Pool
from maestro.report import Report, Transfer

__all__ = [
    "AlreadyOfferedError",
    "App",
    "Attributes",
    "Cdo",
    "DataLostError",
    "Entry",
    "InconsistentError",
    "LifecycleError",
    "MaestroError",
    "Pool",
    "PoolFullError",
    "PoolLostError",
    "PoolNotFoundError",
    "PoolTimeoutError",
    "ProtocolError",
    "RankError",
    "Report",
    "Transfer",
    "connect",
]
