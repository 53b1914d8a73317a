"""Prometheus metrics of managers and nodes, on the ``/metrics`` that Dask serves itself.

They are worked out when somebody asks. Dask's endpoint gives what its process's registry has; where
a process has several managers or nodes, as an embedded pool has, labels tell them apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from maestro.report import WAYS

if TYPE_CHECKING:
    from maestro.manager import Manager
    from maestro.nodes.node import Node

__all__ = ["COLLECTOR", "Collector"]


class Collector:
    """Tells of the managers and nodes of this process.

    Attributes
    ----------
    managers, nodes : WeakSet
        Those that there are.
    """

    def __init__(self) -> None:
        self.managers: WeakSet[Manager] = WeakSet()
        self.nodes: WeakSet[Node] = WeakSet()

    def describe(self) -> list[Metric]:
        """Nothing before it is asked for: else registering would ask at once."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What there is to say now."""
        found: dict[str, Metric] = {}
        for manager in list(self.managers):
            _tell_of_manager(found, manager)
        for node in list(self.nodes):
            _tell_of_node(found, node)
        yield from found.values()


#: The one of this process, which Dask's endpoint asks.
COLLECTOR = Collector()
REGISTRY.register(COLLECTOR)

#: Metrics: what they are, and the labels beside the address of who says so.
_METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "maestro_manager_apps": ("Apps that are connected.", ()),
    "maestro_manager_cdos": ("Offerings of CDOs, by state.", ("state",)),
    "maestro_manager_subscriptions": ("Subscriptions to events.", ()),
    "maestro_manager_events_total": ("Events that have happened.", ()),
    "maestro_manager_waiting": ("Calls that wait for something, by kind.", ("call",)),
    "maestro_manager_node_used_bytes": ("Bytes promised to parts, by node.", ("node",)),
    "maestro_manager_node_limit_bytes": ("Bytes that parts may take, by node.", ("node",)),
    "maestro_manager_demands_total": ("Demands that were served.", ()),
    "maestro_manager_demand_seconds_total": ("Time that these had data under way.", ()),
    "maestro_manager_demand_waited_seconds_total": ("Time that these waited for offers.", ()),
    "maestro_manager_moved_bytes_total": ("Array bytes moved to apps.", ("transport",)),
    "maestro_node_held_bytes": ("Bytes of the parts that are held.", ()),
    "maestro_node_parts": ("Parts that are held.", ()),
    "maestro_node_limit_bytes": ("Bytes that parts may take.", ()),
    "maestro_node_in_flight_bytes": ("Array bytes in messages under way.", ()),
    "maestro_node_spilled_bytes": ("Bytes of parts on disk.", ()),
}


def _say(found: dict[str, Metric], name: str, address: str, value: float, *labels: str) -> None:
    """Add a sample."""
    if name not in found:
        what, more = _METRICS[name]
        kind: Any = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        found[name] = kind(name, what, labels=("address", *more))
    family: Any = found[name]
    family.add_metric([address, *labels], value)


def _tell_of_manager(found: dict[str, Metric], manager: Manager) -> None:
    state, address = manager.registry, manager.scheduler.address

    def say(name: str, value: float, *labels: str) -> None:
        _say(found, f"maestro_manager_{name}", address, value, *labels)

    stages = Counter(
        version.stage.value for cdo in state.cdos.values() for version in cdo.versions()
    )
    say("apps", len(state.apps))
    for stage in ("forming", "pooled", "leaving"):
        say("cdos", stages[stage], stage)
    say("subscriptions", state.bulletin.subscriptions.count)
    say("events_total", state.bulletin.subscriptions.log.next - 1)
    say("waiting", len(state.demands), "demand")
    say("waiting", len(state.queue), "offer")
    for node, room in state.ledger.nodes.items():
        say("node_used_bytes", room.used, node)
        say("node_limit_bytes", room.limit, node)
    moved = state.traffic.total
    say("demands_total", moved["demands"])
    say("demand_seconds_total", moved["seconds"])
    say("demand_waited_seconds_total", moved["waited"])
    for way in WAYS:
        say("moved_bytes_total", moved[way], way)


def _tell_of_node(found: dict[str, Metric], node: Node) -> None:
    def say(name: str, value: float) -> None:
        _say(found, f"maestro_node_{name}", node.address, value)

    holdings = getattr(node, "holdings", None)
    parts = [] if holdings is None else list(holdings.parts.values())
    spill = None if holdings is None else holdings.spill
    say("held_bytes", sum(part.nbytes for part in parts))
    say("parts", len(parts))
    say("limit_bytes", node.limit)
    say("in_flight_bytes", node.buffers.used)
    say("spilled_bytes", 0 if spill is None else spill.used)
