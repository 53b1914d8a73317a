"""What is in the pool, to those who ask."""

from __future__ import annotations

from maestro import messages as m
from maestro.registry.state import State

__all__ = ["list_nodes", "list_pool"]


def list_pool(state: State, call: m.List) -> None:
    """Answer with the CDOs in the pool, the apps and the nodes."""
    pooled = [cdo.current for cdo in state.cdos.values() if cdo.current and cdo.pooled]
    value = {
        "cdos": [{"name": v.name, "apps": sorted(v.apps), **v.describe()} for v in pooled],
        "apps": [
            {"app": app, "workflow": joined.workflow, "component": joined.component}
            for app, joined in state.apps.items()
        ],
        "nodes": _nodes(state),
        "traffic": state.traffic.rows(),
    }
    state.reply(call, value)


def list_nodes(state: State, call: m.Nodes) -> None:
    """Answer with the nodes."""
    state.reply(call, _nodes(state))


def _nodes(state: State) -> dict[str, dict[str, int]]:
    return {
        address: {"limit": node.limit, "used": node.used}
        for address, node in state.ledger.nodes.items()
    }
