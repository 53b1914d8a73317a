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
    SchemaError,
    SelectorError,
)
from maestro.events import Event
from maestro.pool import Entry, Pool
from maestro.report import Report, Transfer
from maestro.selectors import Selector
from maestro.subscription import Subscription

__all__ = [
    "AlreadyOfferedError",
    "App",
    "Attributes",
    "Cdo",
    "DataLostError",
    "Entry",
    "Event",
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
    "SchemaError",
    "Selector",
    "SelectorError",
    "Subscription",
    "Transfer",
    "connect",
]
