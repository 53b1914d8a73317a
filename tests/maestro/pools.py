"""A registry with apps that talk to it: the pool manager's state machine without a cluster."""

from __future__ import annotations

import itertools

from layouts import Distribution
from maestro import messages as m
from maestro.registry import Registry
from maestro.registry.needs import find
from maestro.registry.versions import Stage

WHOLE = Distribution((8,))
HALVES = Distribution((8,), (2,))
F8 = "'<f8'"


class Pool:
    """A registry with apps that talk to it, and nodes that hold what they are told."""

    def __init__(self, nodes=2, limit=1000, patience=0.0):
        self.registry = Registry(patience=patience)
        self.adopting = []  # what nodes are asked to take over
        self.now = 0.0
        self.requests = itertools.count()
        self.answers = {}  # request -> Reply or Refuse
        self.told = {}  # subscription -> packed events
        self.held = set()  # (node, version, rank) whose bytes a node holds
        for number in range(nodes):
            self.send(m.NodeJoined(f"node-{number}", limit))

    def send(self, message):
        for instruction in self.registry.handle(message, self.now):
            if isinstance(instruction, m.Free):
                for rank in instruction.ranks:
                    self.held.discard((instruction.node, instruction.version, rank))
            elif isinstance(instruction, m.Tell):
                self.told.setdefault(instruction.subscription, []).append(instruction.events)
            elif isinstance(instruction, m.Adopt):
                self.adopting.append(instruction)
            else:
                assert instruction.request not in self.answers, "answered twice"
                self.answers[instruction.request] = instruction
                if isinstance(instruction, m.Reply):
                    self.hold(instruction.value)

    def call(self, kind, app, *args, **kwargs):
        """Make a call; return its request."""
        request = next(self.requests)
        self.send(kind(request, app, *args, **kwargs))
        return request

    def ask(self, kind, app, *args, **kwargs):
        """Make a call that is answered at once; return the value or raise the error."""
        return self.answer(self.call(kind, app, *args, **kwargs))

    def answer(self, request):
        answer = self.answers[request]
        if isinstance(answer, m.Refuse):
            raise answer.error
        return answer.value

    def join(self, app):
        self.ask(m.Join, app, client=app, workflow="w", component="c")

    def leave(self, app):
        """Let an app go, in as many turns as that takes."""
        request = self.call(m.Leave, app)
        while app in self.registry.departures:
            self.send(m.Tick())
        return self.answer(request)

    def seal(
        self,
        app,
        handle,
        name="t",
        rank=None,
        distribution=None,
        dtype=None,
        *,
        depends=(),
        **attributes,
    ):
        words = {"rank": rank, "dtype": dtype, "distribution": distribution, "depends": depends}
        self.ask(m.Seal, app, handle, name=name, attributes=attributes, **words)

    def offer(self, app, handle, distribution=WHOLE, store=True, copies=1):
        words = {"dtype": F8, "distribution": distribution, "copies": copies}
        answer = self.ask(m.Offer, app, handle, **words)
        if store:
            self.ask(m.Stored, app, handle)
        return answer

    def group(self, app, handle, name, members=()):
        """Seal a group, and members: pairs of handle and name, sealed before unless None."""
        seals = [
            m.Seal(0, app, member, name=name, rank=None, dtype=None, distribution=None)
            for member, name in members
            if name is not None
        ]
        own = {"rank": None, "dtype": None, "distribution": None, "group": True}
        members = tuple(member for member, _ in members)
        seals.append(m.Seal(0, app, handle, name=name, members=members, **own))
        self.ask(m.Seals, app, seals=tuple(seals))

    def offers(self, app, handle, layouts=None):
        """The offers of a group's handles: of the layouts given, whole arrays by default."""
        for key, known, _ in list(self.registry.together(handle)):
            layout = (layouts or {}).get(key, WHOLE)
            layout = None if known.group is not None else layout
            yield m.Offer(0, app, key, None if layout is None else F8, layout)

    def offer_group(self, app, handle, layouts=None, store=True):
        offers = tuple(self.offers(app, handle, layouts))
        answers = self.ask(m.OfferGroup, app, handle, offers=offers)
        if store:
            self.ask(m.Stored, app, handle)
        return answers

    def hold(self, answer):
        """Nodes have what an offer or a group is granted; it may be taken back at once."""
        if not isinstance(answer, dict):
            return
        for each in (answer, *answer.values()):
            if isinstance(each, dict) and isinstance(each.get("nodes"), dict) and "copies" in each:
                for places in (each["nodes"], *each["copies"]):
                    for rank, node in places.items():
                        self.held.add((node, each["version"], rank))

    def check(self):
        """What holds at any time."""
        registry = self.registry
        slots = {
            (node, version.serial, rank): slot.size
            for cdo in registry.cdos.values()
            for version in cdo.versions()
            for rank, slot in version.slots.items()
            for node in slot.nodes
        }
        assert set(slots) == self.held, "nodes hold what the registry knows, no more, no less"
        for address, node in registry.ledger.nodes.items():
            used = sum(size for (where, _, _), size in slots.items() if where == address)
            used += registry.ledger.lodged(address)
            asked = [each for e in registry.estates.values() for each in e.asked.values()]
            used += sum(each.reserved for each in asked if each.heir == address)
            assert node.used == used <= node.limit
        serials = [version.serial for cdo in registry.cdos.values() for version in cdo.versions()]
        live = [
            v for cdo in registry.cdos.values() for v in cdo.versions() if v.stage is not Stage.OVER
        ]
        assert registry.live == {version.serial: version for version in live}
        leased = [serial for serial, _ in registry.leases.values()]
        assert len({*serials, *leased}) == len(serials) + len(leased), "no two have one number"
        assert all(serial < registry.serial for serial in (*serials, *leased))
        assert registry.leases.keys() <= registry.apps.keys()
        for cdo in registry.cdos.values():
            stages = [version.stage for version in cdo.versions()]
            assert sum(s in (Stage.FORMING, Stage.POOLED) for s in stages) <= 1
            if cdo.pooled:
                lost = any(v.missing_parts for v in cdo.versions() if v.stage is not Stage.OVER)
                assert lost or not cdo.waiting, "nobody waits for what is there"
                assert not cdo.pending
                assert not cdo.awaited
                assert cdo.current.complete
            assert cdo.pending <= set(registry.handles)
            for request in cdo.waiting:
                assert cdo.name in registry.demands[request].missing
            for holder in cdo.awaited.values():
                assert cdo.name in holder.needs
                assert cdo.name not in holder.needed
            for version in cdo.versions():
                self.check_needs(cdo, version)
                assert version.requirements <= set(registry.handles)
                if version.stage is Stage.OVER:
                    assert not version.withdrawing
                    assert not version.requirements
        assert not registry.freed
        self.check_lost()
        for request, demand in registry.demands.items():
            assert demand.missing, "who waits, waits for something"
            assert request in registry.handles[demand.handle].demands
            for name in demand.missing:
                assert request in registry.cdos[name].waiting
        for batch in registry.batches.values():
            assert any(v.stage is not Stage.OVER for v in batch.versions)
            assert all(batch in v.batches for v in batch.versions)
        for handle, known in registry.handles.items():
            assert known.demands <= set(registry.demands)
            assert registry.cdos[known.name].handles[handle] is known
            assert known.app in registry.apps

    def check_lost(self):
        """Whoever waits for lost parts waits for a node to take them over."""
        registry = self.registry
        for cdo in registry.cdos.values():
            for version in cdo.versions():
                for rank in version.missing_parts if version.stage is not Stage.OVER else ():
                    estate = registry.estates[version.slots[rank].estate]
                    assert estate.parts[version.serial, rank] is version
        for estate in registry.estates.values():
            assert estate.asked or registry.deadline is not None
            assert all(each.heir in registry.ledger.nodes for each in estate.asked.values())
        for key in registry.seeks.values():
            along = registry.handles[key].along
            found, missing = find(registry, key, kept=True, along=along)
            assert not missing
            assert any(version.missing_parts for version in found.values())

    def check_needs(self, cdo, version):
        """What a version needs is there for as long as itself, and knows it."""
        for name, needed in version.needed.items():
            assert name == needed.name
            assert needed.holders[version.serial] is version
            assert needed.stage is not Stage.OVER, "it went before what needs it"
        for holder in version.holders.values():
            assert holder.needed[version.name] is version
            assert holder.stage is not Stage.OVER
        if version.stage is Stage.OVER:
            assert not version.needed
            return
        for name in version.needs:
            if name not in version.needed:
                assert version.serial in self.registry.cdos[name].awaited
        if version.group and version.stage is not Stage.FORMING:
            assert set(version.needed) <= set(version.needs)
