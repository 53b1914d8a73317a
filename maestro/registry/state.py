"""What a pool manager knows, and the steps that all of its calls share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from maestro import messages as m
from maestro.errors import LifecycleError, MaestroError, PoolLostError
from maestro.registry.bulletin import Bulletin
from maestro.registry.catalogue import Cdo, Handle
from maestro.registry.placement import Ledger
from maestro.registry.subscriptions import Subscriptions
from maestro.registry.traffic import Traffic
from maestro.registry.versions import Batch, Version

__all__ = ["Asked", "Demand", "Estate", "State", "Waiting"]


@dataclass
class Demand:
    """A demand that waits."""

    handle: str
    missing: list[str]  # names
    waited: float  # seconds before it


@dataclass
class Waiting:
    """An offer that waits for room.

    Attributes
    ----------
    sizes : dict of int to int
        Bytes of its parts, of all members for a group.
    overtaken : int
        How many offers that came later have found room meanwhile.
    """

    call: m.Offer | m.OfferGroup
    sizes: dict[int, int]
    overtaken: int = 0


@dataclass
class Asked:
    """A node that was asked to take over an estate, and has not answered.

    Attributes
    ----------
    heir : str
        Its address.
    reserved : int
        Bytes that are reserved there.
    until : float
        When it is passed over: the next one is asked. It may still answer.
    """

    heir: str
    reserved: int
    until: float


@dataclass
class Estate:
    """What a node that is gone has left on its host.

    Attributes
    ----------
    number : int
        Its own.
    node : str
        Address of the node; another may have it by now.
    homes : list of (str, str)
        The directories in which it is, and what proves that one sees them.
    until : float
        When it is too late to take it over.
    parts : dict of (int, int) to Version
        What of it is still wanted, by version and rank.
    asked : dict of int to Asked
        Who may be taking it over, by the number under which they were asked to.
    strangers : set of str
        Nodes that do not see it.
    next : float
        When to ask again.
    taken : bool
        Whether a node has taken it over.
    """

    number: int
    node: str
    homes: list[tuple[str, str]]
    until: float
    parts: dict[tuple[int, int], Version] = field(default_factory=dict)
    asked: dict[int, Asked] = field(default_factory=dict)
    strangers: set[str] = field(default_factory=set)
    next: float = 0.0
    taken: bool = False


@dataclass
class Departure:
    """An app that is gone, and is forgotten handle by handle.

    Attributes
    ----------
    died : bool
        Whether it went without a word.
    call : Leave or None
        Its last one, to be answered in the end.
    handles : deque of str
        Those that are not forgotten yet.
    """

    app: str
    died: bool
    call: m.Leave | None
    handles: deque[str]


class State:
    """All apps, nodes, handles and versions of a pool.

    Attributes
    ----------
    apps : dict of str to Join
        Who is connected.
    joins : dict of str to int
        Each app's place in the order of joins.
    joined : int
        How many have joined so far.
    departures : dict of str to Departure
        Apps that are being forgotten; no call of theirs is taken any more.
    handles : dict of str to Handle
        All handles that are sealed.
    cdos : dict of str to Cdo
        All names that are known.
    serial : int
        The next version's.
    live : dict of int to Version
        Those that are not over, by serial.
    ledger : Ledger
        The nodes and their bytes.
    queue : dict of int to Waiting
        Offers that wait for room, by request, in the order in which they came.
    demands : dict of int to Demand
        Demands that wait for what is not there, by request.
    seeks : dict of int to str
        Demands under way that wait for lost parts, by request; their handles.
    estates : dict of int to Estate
        What nodes that are gone have left.
    leases : dict of str to (int, str)
        By app, the serial of a version to come and the node where its only part may be stored
        before the app has offered it.
    patience : float
        Seconds for which somebody is looked for who takes it over.
    lost, asked : int
        How many nodes are gone, and how often another was asked to take over what they have left.
    batches : dict of int to Batch
        Withdrawals of groups that wait, by request.
    traffic : Traffic
        What demands moved so far.
    bulletin : Bulletin
        Events, subscribers, and what waits for them.
    freed : list of Version
        What was to leave when what needs it does, which has happened now.
    out : list of Instruction
        What is to be done about the message that is being handled.
    """

    def __init__(self, subscriptions: Subscriptions | None = None, patience: float = 0.0) -> None:
        self.apps: dict[str, m.Join] = {}
        self.joins: dict[str, int] = {}
        self.joined = 0
        self.departures: dict[str, Departure] = {}
        self.leases: dict[str, tuple[int, str]] = {}
        self.handles: dict[str, Handle] = {}
        self.cdos: dict[str, Cdo] = {}
        self.serial = 0
        self.live: dict[int, Version] = {}
        self.ledger = Ledger()
        self.queue: dict[int, Waiting] = {}
        self.seeks: dict[int, str] = {}
        self.estates: dict[int, Estate] = {}
        self.patience = patience
        self.lost = 0
        self.asked = 0
        self.demands: dict[int, Demand] = {}
        self.batches: dict[int, Batch] = {}
        self.traffic = Traffic()
        self.bulletin = Bulletin(subscriptions or Subscriptions())
        self.freed: list[Version] = []
        self.out: list[m.Instruction] = []

    def reply(self, call: m.Call, value: Any = None) -> None:
        """Answer a call."""
        self.out.append(m.Reply(call.request, value))

    def refuse(self, request: int, error: MaestroError) -> None:
        """Answer a request with an error."""
        self.out.append(m.Refuse(request, error))

    def check_caller(self, call: m.Call) -> None:
        """Raise PoolLostError if a call is of nobody who is connected."""
        if call.app not in self.apps or call.app in self.departures:
            raise PoolLostError(f"app {call.app!r} is not connected to this pool")

    def together(self, key: str) -> Iterator[tuple[str, Handle, Cdo]]:
        """A handle, for a group after those of all of its members."""
        handle = self.handles[key]
        for member in handle.members:
            yield from self.together(member)
        yield key, handle, self.cdos[handle.name]

    def find(self, call: Any) -> tuple[Handle, Cdo]:
        """The handle that a call is about, and its CDO."""
        handle = self.handles.get(call.handle)
        if handle is None or handle.app != call.app:
            raise LifecycleError(f"handle {call.handle!r} is unknown: it was not sealed")
        return handle, self.cdos[handle.name]

    def offering(self, cdo: Cdo, key: str) -> Version:
        """The version that a handle has offered and not withdrawn."""
        version = cdo.offered_by(key)
        if version is None:
            raise LifecycleError(f"CDO {cdo.name!r}: it is not offered by this handle")
        return version
