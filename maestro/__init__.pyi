from . import contact, errors, events, schemas, selectors
from .apps.app import App, connect
from .apps.cdo import Cdo
from .apps.group import Group
from .apps.subscription import Subscription
from .apps.telemetry import Telemetry
from .attributes import Attributes
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
from .pool import Entry, Pool
from .programs.archiver import Archiver
from .programs.librarian import Librarian
from .report import Report, Transfer
from .selectors import Selector
from .triggers.matches import Match
from .triggers.trigger import Trigger

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
