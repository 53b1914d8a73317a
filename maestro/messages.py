"""The words between apps and the pool manager: calls in, instructions out.

Calls are what apps ask and what happens to the pool by itself; instructions are what the state
machine (`maestro.registry`) wants done about it. All are plain values; what comes over the wire is
made a call by `maestro.decoding`.

Nobody changes one. They are not frozen, for to make one would take four times as long: 6 us of the
100 that an offer takes the manager.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from layouts import Distribution
from maestro.errors import MaestroError, ProtocolError

__all__ = [
    "BATCH",
    "CALLS",
    "MOST_AHEAD",
    "PROTOCOL",
    "PUSHED",
    "Abort",
    "Ack",
    "Adopt",
    "Adopted",
    "AppLost",
    "Call",
    "Demand",
    "Dispose",
    "Expired",
    "Free",
    "Instruction",
    "Join",
    "Leave",
    "LeftParts",
    "LineLost",
    "List",
    "Locate",
    "Log",
    "More",
    "NodeJoined",
    "NodeLost",
    "Nodes",
    "Offer",
    "OfferGroup",
    "Poll",
    "Received",
    "Refuse",
    "Reply",
    "Require",
    "Retract",
    "Seal",
    "Seals",
    "Stored",
    "Subscribe",
    "Tell",
    "Tick",
    "Unsubscribe",
    "Withdraw",
    "check_protocol",
]

#: Events in one message, at most: packing more would keep the manager from everything else.
BATCH = 1024

#: Events that a subscriber may be told of before it has taken any, at most.
MOST_AHEAD = 1 << 16

#: Raised with every change that an older app or manager would not understand.
PROTOCOL = 15


def check_protocol(protocol: Any, speaker: str) -> None:
    """Raise ProtocolError unless whoever opens a line speaks this version."""
    if protocol != PROTOCOL:
        raise ProtocolError(
            f"protocol: the {speaker} speaks version {protocol!r}, expected {PROTOCOL}:"
            " install the same maestro-pool for apps, scheduler and workers"
        )


@dataclass(slots=True)
class Call:
    """Something an app asks; answered once, by a Reply or a Refuse of the same request."""

    request: int
    app: str


@dataclass(slots=True)
class Join(Call):
    """An app connects. Replied with nothing."""

    client: str
    workflow: str
    component: str


@dataclass(slots=True)
class Leave(Call):
    """An app goes; what it offered leaves when those who required it are served."""


@dataclass(slots=True)
class List(Call):
    """Replied with what is in the pool, and who is connected."""


@dataclass(slots=True)
class Nodes(Call):
    """Replied with the nodes: their bytes in all and in use."""


@dataclass(slots=True)
class _HandleCall(Call):
    handle: str


@dataclass(slots=True)
class Seal(_HandleCall):
    """Announce a handle: what this app says of the CDO."""

    name: str
    rank: int | None
    dtype: str | None
    distribution: Distribution | None
    attributes: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)  # what its schemas say, if nobody else
    depends: tuple[str, ...] = ()  # names of CDOs that go with it
    group: bool = False
    members: tuple[str, ...] = ()  # handles of a group's members, sealed before it
    push: bool = False  # whether what it offers is moved at once to all who require it

    def __post_init__(self) -> None:
        if self.rank is not None:
            ranks = 0 if self.distribution is None else self.distribution.size
            if not 0 <= self.rank < ranks:
                raise ValueError(f"rank: got {self.rank}, expected one of {ranks}")


@dataclass(slots=True)
class Seals(Call):
    """Announce several handles: all or none."""

    seals: tuple[Seal, ...]


@dataclass(slots=True)
class Offer(_HandleCall):
    """Reserve room. Replied with the version, and the node for each rank of the handle.

    ``near`` says at which node some ranks would rather be, ``wait`` whether to wait for room,
    ``copies`` at how many nodes each part is to be; the reply says where the further ones go.
    ``placed`` are the version and the node of a lease under which its only part is being stored
    already, for the case that it can be there; empty, if it could have been. Then the reply has
    another lease, for the next such offer, as "lease".
    """

    dtype: str | None
    distribution: Distribution | None
    near: dict[int, str] = field(default_factory=dict)
    wait: bool = False
    copies: int = 1
    placed: tuple[int, str] | tuple[()] | None = None

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"copies: got {self.copies}, expected 1 or more")


@dataclass(slots=True)
class OfferGroup(_HandleCall):
    """Reserve room for all members of a group, and the group itself, or for none.

    Replied with the answers to the offers, by handle.
    """

    offers: tuple[Offer, ...]
    wait: bool = False


@dataclass(slots=True)
class Stored(_HandleCall):
    """The parts of an offer, for a group those of all members, are on their nodes.

    Where nobody waits for the answer, and a node was lost meanwhile, it is as if that had happened
    later: who wants the CDO is told. Else the offer is to be made again.
    """

    awaited: bool = True


@dataclass(slots=True)
class Abort(_HandleCall):
    """The parts of an offer could not be brought to their nodes."""


@dataclass(slots=True)
class Withdraw(_HandleCall):
    """Replied once every requirement is served."""


@dataclass(slots=True)
class Require(_HandleCall):
    """Keep the CDO, now or once it comes, until it is demanded or the requirement retracted.

    Replied with what is offered under this name, if anything is; and, as "along", by name, with
    what is offered of that which goes with it.
    """


@dataclass(slots=True)
class Retract(_HandleCall):
    """Take a requirement back."""


@dataclass(slots=True)
class Demand(_HandleCall):
    """Replied once the CDO is in the pool, and what goes with it.

    With its version, layout and where its parts are; and, as "along", by name, with the same of
    what goes with it: what it depends on, or the members of a group. Without ``along`` neither is
    waited for. So many seconds were ``waited`` before it, of which an error tells.
    """

    along: bool = True
    waited: float = 0.0


@dataclass(slots=True)
class Locate(_HandleCall):
    """A part was not where a demand was told. Replied as the demand was, once all are to be had."""


@dataclass(slots=True)
class Received(_HandleCall):
    """A demand has fetched its data, or has not: then what was required before still is.

    As it is where the data was fetched and the requirement is to ``stay``. What this app's demands
    ``moved`` since it last said so is by `maestro.report.MOVED`.
    """

    served: bool = True
    stay: bool = False
    moved: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Dispose(_HandleCall):
    """Forget a handle."""


@dataclass(slots=True)
class Subscribe(Call):
    """Be told of events; see `maestro.registry.subscriptions.Subscriptions.subscribe`."""

    subscription: str
    selector: str | None
    kinds: list[str]
    ack: bool
    when: str
    own: bool
    since: int | None
    durable: str | None = None
    patience: float | None = None


@dataclass(slots=True)
class Unsubscribe(Call):
    """Be told no more."""

    subscription: str


@dataclass(slots=True)
class Poll(Call):
    """Replied with the packed events that there are, ``most`` of them at most."""

    subscription: str
    most: int


@dataclass(slots=True)
class More(Call):
    """So many events more may be told, as they happen."""

    subscription: str
    count: int

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count: got {self.count}, expected 0 or more")


@dataclass(slots=True)
class Ack(Call):
    """Acknowledge events."""

    subscription: str
    serials: list[int]


@dataclass(slots=True)
class Log(Call):
    """Replied with the first serial that is kept, and packed events from ``since`` on."""

    since: int
    most: int

    def __post_init__(self) -> None:
        if self.since is None:  # which it may be in other calls
            raise TypeError("since: got None, expected int")


@dataclass(slots=True)
class Tick:
    """Time goes by: events are told, and what was waited for long enough goes on."""


@dataclass(slots=True)
class AppLost:
    """A client's connection is gone, and with it its apps."""

    client: str


@dataclass(slots=True)
class LineLost:
    """An app's line is gone, and with it the app."""

    app: str


@dataclass(slots=True)
class NodeJoined:
    """A node can hold parts up to ``limit`` bytes.

    ``homes`` are the directories in which those of ``map_from`` bytes and more outlive it, and what
    proves that one sees them.
    """

    address: str
    limit: int
    homes: tuple[tuple[str, str], ...] = ()
    map_from: int = 0


@dataclass(slots=True)
class NodeLost:
    """A node is gone."""

    address: str


@dataclass(slots=True)
class Lodged:
    """A node has put a part up in a store, at a location, and is about to forget it."""

    node: str
    version: int
    rank: int
    location: str


@dataclass(slots=True)
class Adopted:
    """What came of an `Adopt`: these parts, by version and rank, are the heir's now.

    Unless ``outcome`` is not "adopted" but "busy", where the other one's process is not gone yet,
    or "elsewhere", where it was on another host.
    """

    number: int
    outcome: str
    parts: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class Expired:
    """The time for a handle's request ran out."""

    request: int
    handle: str
    seconds: float


@dataclass(slots=True)
class Reply:
    """Answer a request."""

    request: int
    value: Any = None


@dataclass(slots=True)
class Refuse:
    """Answer a request with an error."""

    request: int
    error: MaestroError


@dataclass(slots=True)
class Free:
    """Let a node drop parts of a version.

    ``settled`` says that nobody writes to them any more: otherwise who did is gone, or thought to
    be, and their memory must not be used again.
    """

    node: str
    version: int
    ranks: tuple[int, ...]
    settled: bool = True


@dataclass(slots=True)
class Tell:
    """Let an app have a subscription's packed events."""

    app: str
    subscription: str
    events: bytes


@dataclass(frozen=True)
class LeftParts:
    """Parts of one version that a node has left."""

    version: int
    distribution: Distribution
    itemsize: int
    ranks: tuple[int, ...]


@dataclass(slots=True)
class Adopt:
    """Let a node, the heir, take over what another has left on its host; answered by `Adopted`.

    Room for these parts is reserved there. Everything else in these directories is to go.
    """

    number: int
    lost: str
    heir: str
    homes: tuple[tuple[str, str], ...]
    parts: tuple[LeftParts, ...]


Instruction: TypeAlias = Reply | Refuse | Free | Tell | Adopt

#: In place of a subscription: what an app hears of it are handles, each followed by a newline.
PUSHED = "pushed"

#: Calls by their word on the wire.
CALLS: dict[str, type[Call]] = {
    kind.__name__.lower(): kind
    for kind in (
        Join, Leave, List, Nodes, Seal, Seals, Offer, OfferGroup, Stored, Abort,
        Withdraw, Require, Retract, Demand, Locate, Received, Dispose,
        Subscribe, Unsubscribe, Poll, More, Ack, Log,
    )
}  # fmt: skip
