from . import contact, errors, events, schemas, selectors
from .app import App, connect
from .attributes import Attributes
from .cdo import Cdo
from .errors import (
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
    StoreError,
    StoreExistsError,
)
from .events import Event
from .group import Group
from .matches import Match
from .pool import Entry, Pool
from .programs.archiver import Archiver
from .programs.librarian import Librarian
from .report import Report, Transfer
from .selectors import Selector
from .subscription import Subscription
from .telemetry import Telemetry
from .trigger import Trigger

__all__ = [
    "AlreadyOfferedError",
    "App",
    "Archiver",
    "Attributes",
    "Cdo",
    "DataLostError",
    "Entry",
    "Event",
    "Group",
    "InconsistentError",
    "Librarian",
    "LifecycleError",
    "MaestroError",
    "Match",
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
    "StoreError",
    "StoreExistsError",
    "Subscription",
    "Telemetry",
    "Transfer",
    "Trigger",
    "connect",
    "contact",
    "errors",
    "events",
    "schemas",
    "selectors",
]
