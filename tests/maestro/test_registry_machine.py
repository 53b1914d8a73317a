"""The pool manager's state machine: everything that apps may do, in any order, 10^5 steps of it.

Apps, which make legal calls and now and then die, remember what they were promised; after every
step it is checked that they still have it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import ClassVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from maestro import messages as m
from maestro.apps.lifecycle import TURNS
from maestro.errors import DataLostError, InconsistentError
from maestro.registry import members
from maestro.registry.needs import find
from maestro.registry.versions import Stage
from tests.maestro.pools import F8, HALVES, Pool

#: Names that may be offered as groups; the others have data.
GROUPS = ("g", "h")
#: Who may be said to need whom: some of it would be a cycle.
NEEDS = {"t": ("u",), "u": ("t",), "v": ("t", "u", "g"), "g": (), "h": ()}
APPS = 4
LIMIT = 100  # bytes of a node: room for three parts


class Moves:
    """What to do next, as drawn: one byte for every choice.

    Many times as fast as to let hypothesis make each of them.
    """

    def __init__(self, drawn):
        self.left = list(reversed(drawn))

    def one_of(self, *options):
        return options[(self.left.pop() if self.left else 0) % len(options)]


class Machine(RuleBasedStateMachine):
    """Apps that make legal calls in any order, die at any moment, and nodes that come and go."""

    did: ClassVar = Counter()
    COPIES = (1,)
    MOVES = (
        *("join", "seal", "seal", "seal_group", "offer", "offer", "demand", "demand"),
        *("require", "retract", "withdraw", "withdraw", "receive", "receive", "expire"),
        *("dispose", "go", "node_lost", "lodge", "subscribe", "ack", "ack", "tick"),
    )

    def __init__(self):
        super().__init__()
        self.pool = self.start()
        self.registry = self.pool.registry
        self.subscriptions = self.registry.bulletin.subscriptions
        self.now = 0.0
        self.numbers = itertools.count()
        self.steps = 0
        self.states = {}  # handle -> state, as its app sees it
        self.apps = {}  # handle -> app
        self.members = {}  # group's handle -> handles, its own last
        self.open = {}  # request -> (handle, call)
        self.back = {}  # handle -> state to which a refused call leads back
        self.fetching = {}  # handle -> versions that it was given, with their parts
        self.ahead = set()  # handles that are fetching before they demand
        self.here = set()  # and those that have
        self.granted = []  # handles whose offer has just been granted
        self.subscribed = {}  # subscription -> app
        self.told = {}  # subscription -> serials to acknowledge
        self.abort_next = False

    @rule(drawn=st.binary(min_size=90, max_size=90))
    def act(self, drawn):
        self.moves = Moves(drawn)
        while self.moves.left:
            move = self.moves.one_of(*self.MOVES)
            getattr(self, move)()
            self.steps += 1
            self.did[move] += 1
            self.promises()

    def start(self):
        return Pool(nodes=2, limit=LIMIT)

    def layout(self, name):
        """How the apps hold the CDO of a name."""
        return HALVES

    # What apps do

    def join(self):
        if len(self.registry.apps) < APPS:
            self.pool.join(f"app-{next(self.numbers)}")

    def some_app(self):
        return self.moves.one_of(*sorted(self.registry.apps)) if self.registry.apps else None

    def seal(self):
        app = self.some_app()
        if app is None or len(self.states) > 12:
            return
        name = self.moves.one_of("t", "u", "v")
        rank = self.moves.one_of(None, None, 0, 1)
        depends = self.moves.one_of((), (), NEEDS[name])
        handle = f"h{next(self.numbers)}"
        before = self.picture()
        layout = self.layout(name)
        words = {"rank": rank, "dtype": F8, "distribution": layout, "depends": depends}
        words["push"] = self.moves.one_of(False, False, True)
        answer = self.answer(m.Seal, app, handle, name=name, **words)
        if self.refused(answer, before):
            assert isinstance(answer.error, InconsistentError)
            assert cyclic(self.registry, name, depends)
        elif answer is not None:
            assert not cyclic(self.registry, name, ())
            self.states[handle], self.apps[handle] = "sealed", app

    def seal_group(self):
        app = self.some_app()
        if app is None or len(self.states) > 12:
            return
        name = self.moves.one_of(*GROUPS)
        rank = self.moves.one_of(None, None, 0, 1)
        of = self.moves.one_of((), ("t",), ("t", "u"), ("u", "v"), ("g",), ("h", "v"))
        nothing = {"rank": None, "dtype": None, "distribution": None}
        seals = [
            m.Seal(
                0,
                app,
                f"h{next(self.numbers)}",
                name=each,
                group=each in GROUPS,
                **(
                    nothing
                    if each in GROUPS
                    else {"rank": rank, "dtype": F8, "distribution": self.layout(each)}
                ),
            )
            for each in of
        ]
        handle = f"h{next(self.numbers)}"
        members = tuple(each.handle for each in seals)
        seals.append(m.Seal(0, app, handle, name=name, group=True, members=members, **nothing))
        before = self.picture()
        answer = self.answer(m.Seals, app, seals=tuple(seals))
        if self.refused(answer, before):
            assert cyclic(self.registry, name, of)
        elif answer is not None:
            self.states[handle], self.apps[handle] = "sealed", app
            self.members[handle] = [*members, handle]
            self.apps.update(dict.fromkeys(members, app))

    def offer(self):
        handle = self.turn("offer")
        if handle is None:
            return
        self.abort_next = self.moves.one_of(False, False, False, True)
        wait = self.moves.one_of(False, True)
        before = self.picture()
        if handle in self.members:
            offers = tuple(self.pool.offers(self.apps[handle], handle, self.layouts(handle)))
            answer = self.make(m.OfferGroup, handle, "offer", offers=offers, wait=wait)
        else:
            layout = self.layout(self.registry.handles[handle].name)
            words = {"dtype": F8, "distribution": layout, "wait": wait}
            words["copies"] = self.moves.one_of(*self.COPIES)
            lease = self.registry.leases.get(self.apps[handle])
            words["placed"] = self.moves.one_of(None, (), lease or (), (0, "node-0"))
            answer = self.make(m.Offer, handle, "offer", **words)
        self.refused(answer, before)

    def layouts(self, handle):
        names = {key: self.registry.handles[key].name for key in self.members[handle]}
        return {key: self.layout(name) for key, name in names.items()}

    def require(self):
        self.simple("require")

    def retract(self):
        self.simple("retract")

    def demand(self):
        self.simple("demand")

    def withdraw(self):
        self.simple("withdraw")

    def simple(self, call):
        handle = self.turn(call)
        if call == "demand" and handle in self.here:
            self.here.remove(handle)
            self.states[handle] = "demanded"
        elif handle is not None and handle not in self.fetching:
            before = self.picture()
            words = {}
            if call == "demand" and (handle, "move") not in self.open.values():
                words["along"] = self.moves.one_of(True, True, False)
            answer = self.make(getattr(m, call.capitalize()), handle, call, **words)
            if call == "require" and self.moves.one_of(False, True):
                self.move(handle)
            if not (isinstance(answer, m.Refuse) and isinstance(answer.error, DataLostError)):
                self.refused(answer, before)  # that something was lost is said once

    def move(self, handle):
        """An eager app fetches as soon as it can, before it demands."""
        moving = [h for h, call in self.open.values() if call == "move"]
        required = self.states.get(handle) == "required"
        if required and handle not in {*self.fetching, *self.here, *moving}:
            request = self.pool.call(m.Demand, self.apps[handle], handle)
            self.open[request] = (handle, "move")
            self.settle()

    def receive(self):
        if self.fetching:
            handle = self.moves.one_of(*sorted(self.fetching))
            served = self.moves.one_of(True, True, False)
            del self.fetching[handle]
            stay = False
            if handle in self.ahead:
                self.ahead.remove(handle)
                self.here |= {handle} if served else set()
            elif served and self.back[handle] == "required" and self.moves.one_of(False, True):
                stay, self.states[handle] = True, "required"
            elif not served:
                self.states[handle] = self.back[handle]
            self.pool.ask(m.Received, self.apps[handle], handle, served=served, stay=stay)
            self.settle()

    def expire(self):
        timed = sorted(r for r, (_, call) in self.open.items() if call not in ("locate", "move"))
        if timed:
            request = self.moves.one_of(*timed)
            self.send(m.Expired(request, self.open[request][0], 1.0))
            assert isinstance(self.pool.answers[request], m.Refuse)
            self.settle()

    def dispose(self):
        handle = self.turn("dispose")
        if handle is not None and handle not in self.fetching:
            self.make(m.Dispose, handle, "dispose")

    def go(self):
        app, died = self.some_app(), self.moves.one_of(False, True)
        if app is None or self.moves.one_of(True, False):
            return
        gone = [handle for handle, owner in self.apps.items() if owner == app]
        for handle in gone:
            self.forget(handle)
        for subscription in [s for s, owner in self.subscribed.items() if owner == app]:
            del self.subscribed[subscription], self.told[subscription]
        members.AT_ONCE = self.moves.one_of(1, 256)
        self.send(m.AppLost(app) if died else m.Leave(next(self.pool.requests), app))
        while app in self.registry.departures:  # one handle at a time
            assert self.registry.deadline is not None
            self.pool.check()
            self.send(m.Tick())
        for request, (handle, _) in self.open.items():
            assert handle not in gone or request in self.pool.answers, "left unanswered"
        self.settle()

    def node_lost(self):
        node = self.moves.one_of("node-0", "node-1")
        if self.moves.one_of(True, False):
            return
        self.pool.held = {key for key in self.pool.held if key[0] != node}
        for handle, parts in list(self.fetching.items()):
            if any(part[0] == node for part in parts):  # it finds out, and says so later
                self.fetching[handle] = set()
        self.send(m.NodeLost(node))
        self.settle()
        self.send(m.NodeJoined(node, LIMIT))
        self.settle()

    def lodge(self):
        """A node puts a part up in a store, and those who are fetching it go there."""
        parts = sorted(key for key in self.pool.held if key[0] in self.registry.ledger.nodes)
        if not parts:
            return
        part = node, version, rank = self.moves.one_of(*parts)
        place = f"part:file:///inn#{next(self.numbers)}"
        there = {part: (place, version, rank)}
        self.pool.held = {there.get(key, key) for key in self.pool.held}
        for handle, parts in self.fetching.items():
            self.fetching[handle] = {there.get(key, key) for key in parts}
        self.send(m.Lodged(node, version, rank, place))

    # Subscribers

    def subscribe(self):
        app = self.some_app()
        if app is None or len(self.subscribed) > 2:
            return
        subscription = f"s{next(self.numbers)}"
        when = self.moves.one_of("before", "after")
        name = self.moves.one_of("t", "g", "v")
        self.pool.ask(
            m.Subscribe,
            app,
            subscription=subscription,
            selector=f'(.maestro.core.cdo.name = "{name}")',
            kinds=self.moves.one_of(["offer"], ["withdraw"], ["demand", "require"], ["seal"]),
            ack=True,
            when=when,
            own=True,
            since=None,
        )
        self.subscribed[subscription], self.told[subscription] = app, []
        self.settle()

    def ack(self):
        if not self.subscribed:
            return
        subscription = self.moves.one_of(*sorted(self.subscribed))
        self.told[subscription] += [e.serial for e in self.subscriptions.poll(subscription)]
        many = self.moves.one_of(1, 2, 100)
        serials, self.told[subscription] = (
            self.told[subscription][:many],
            self.told[subscription][many:],
        )
        self.pool.ask(
            m.Ack, self.subscribed[subscription], subscription=subscription, serials=serials
        )
        self.settle()

    def tick(self):
        """Time goes by, for some calls too much of it."""
        self.now += 20.0
        self.send(m.Tick())
        self.settle()

    # Calls and their answers

    def turn(self, call):
        """A handle whose turn it is."""
        able = sorted(h for h, state in self.states.items() if state in TURNS[call][0])
        return self.moves.one_of(*able) if able else None

    def send(self, message):
        self.pool.now = self.now
        self.pool.send(message)

    def answer(self, kind, app, *args, **fields):
        """Make a call which is answered at once, unless somebody holds it: then it is given up."""
        self.pool.now = self.now
        request = self.pool.call(kind, app, *args, **fields)
        if request not in self.pool.answers:
            self.send(m.Expired(request, "", 1.0))
            assert "a subscriber holds it" in str(self.pool.answers[request].error)
            return None
        return self.pool.answers[request]

    def make(self, kind, handle, call, **fields):
        self.pool.now = self.now
        self.back[handle] = self.states[handle]
        self.states[handle] = f"in {call}"
        request = self.pool.call(kind, self.apps[handle], handle, **fields)
        self.open[request] = (handle, call)
        self.settle()
        return self.pool.answers.get(request)

    def picture(self):
        """What the manager knows; every third time, for it takes as long as all the rest.

        Counted anew by every machine: the same moves are to be checked in the same way again.
        """
        return snapshot(self.registry) if self.steps % 3 == 0 else None

    def refused(self, answer, before):
        if isinstance(answer, m.Refuse) and before is not None:
            assert snapshot(self.registry) == before, "a refused call changes nothing"
        return isinstance(answer, m.Refuse)

    def settle(self):
        """Let apps see the answers that have come."""
        while ready := [request for request in self.open if request in self.pool.answers]:
            for request in ready:
                handle, call = self.open.pop(request)
                if handle in self.states:
                    self.see(handle, call, self.pool.answers[request])
            while self.granted:
                self.bring(self.granted.pop())
        for events in self.pool.told.pop(m.PUSHED, ()):
            for handle in events.decode().split():
                known = self.registry.handles[handle]
                assert known.required
                assert any(v.push for name in known.wants for v in self.versions(name))
                self.move(handle)

    def versions(self, name):
        return self.registry.cdos[name].versions()

    def see(self, handle, call, answer):
        if call == "move":
            if self.states[handle] == "required" and isinstance(answer, m.Reply):
                self.ahead.add(handle)
                self.give(handle, answer)
            return
        if isinstance(answer, m.Refuse):
            self.states[handle] = self.back[handle]
            return
        self.states[handle] = TURNS[call][1]
        if call == "dispose":
            self.forget(handle)
        if call == "retract":
            self.here.discard(handle)
        if call == "demand":
            self.give(handle, answer)
        if call == "offer":
            self.granted.append(handle)

    def give(self, handle, answer):
        """What a demand is told: all of it, and where it is."""
        self.fetching[handle] = set()
        for found in (answer.value, *answer.value.get("along", {}).values()):
            parts = self.parts_of(found)
            assert parts <= self.pool.held, "what is handed out is there"
            assert found["group"] or parts
            self.fetching[handle] |= parts
        own = self.registry.handles[handle]
        names = {own.name, *answer.value.get("along", {})}
        assert set(own.wants) <= names, "with all that it wants"
        for found in (answer.value, *answer.value.get("along", {}).values()):
            if own.along:
                assert set(found["needs"]) <= names, "and that goes with it"
            else:
                assert names <= {own.name, *own.wants}

    def parts_of(self, found):
        """Where a demand is sent, copies included."""
        held = {rank: found["instead"].get(rank, rank) for rank in range(len(found["nodes"]))}
        places = {rank: [node] for rank, node in enumerate(found["nodes"]) if node}
        for rank, nodes in found["copies"].items():
            places[rank] += nodes
        return {(n, found["version"], held[r]) for r, nodes in places.items() for n in nodes}

    def bring(self, handle):
        app, awaited = self.apps[handle], self.moves.one_of(False, True)
        if self.abort_next:
            self.pool.ask(m.Abort, app, handle)
        else:
            self.pool.ask(m.Stored, app, handle, awaited=awaited)
        if self.abort_next:
            self.states[handle] = self.back[handle]

    def forget(self, handle):
        self.states.pop(handle, None)
        self.fetching.pop(handle, None)
        self.ahead.discard(handle)
        self.here.discard(handle)

    # What they were promised

    @invariant()
    def promises(self):
        self.pool.check()
        for handle, parts in self.fetching.items():
            assert parts <= self.pool.held, f"{handle} is still fetching that"
        for handle, state in self.states.items():
            if state == "required" and handle not in {*self.fetching, *self.here}:
                known = self.registry.handles[handle]
                assert known.required
                assert known.lost or not any(self.slipped(handle, name) for name in known.wants)
            if state == "offered":
                self.check_offered(handle)
        for request, (handle, call) in self.open.items():
            self.check_waiting(request, handle, call)

    def slipped(self, handle, name):
        """Whether a name that is required is neither kept for a handle nor awaited by it."""
        cdo = self.registry.cdos[name]
        return handle not in cdo.pending and cdo.required_by(handle) is None

    def check_offered(self, handle):
        """What was offered and not withdrawn is in the pool: a group with all of its members."""
        for key in self.members.get(handle, [handle]):
            cdo = self.registry.cdos[self.registry.handles[key].name]
            assert cdo.offered_by(key) is not None
        versions = [self.version(key) for key in self.members.get(handle, [handle])]
        lost = [each for each in versions if each.stage is Stage.OVER]
        if handle in self.members and not lost:
            together = versions[-1].needed.values()
            for each in versions[:-1]:
                assert each.name not in versions[-1].needs or any(each is v for v in together)

    def version(self, key):
        return self.registry.cdos[self.registry.handles[key].name].offered_by(key)

    def check_waiting(self, request, handle, call):
        """Nobody waits without a reason."""
        if request in self.registry.bulletin._waits:
            return  # a subscriber holds it
        if call == "offer":
            assert request in self.registry.queue
        elif call in ("demand", "move"):
            found, missing = find(self.registry, handle, along=self.registry.handles[handle].along)
            missing += [name for name, version in found.items() if version.missing_parts]
            # More may have turned out to be missing since, of what has come.
            assert set(self.registry.demands[request].missing) <= set(missing)
        elif call == "locate":
            assert request in self.registry.seeks
        else:
            assert call == "withdraw", f"{call} was not answered"
            if handle in self.members:
                batch = self.registry.batches[request]
                company = batch.offered[handle].company
            else:
                cdo = self.registry.cdos[self.registry.handles[handle].name]
                (version,) = [v for v in cdo.versions() if request in v.withdrawing]
                company = version.company
            assert any(self.wanted(each, company) for each in company)

    def wanted(self, version, company):
        pending = version.stage is Stage.FORMING and self.registry.cdos[version.name].pending
        holders = [each for each in version.holders.values() if each not in company]
        return version.requirements or version.unacknowledged or holders or pending

    def teardown(self):
        """When everybody has gone, nothing is left."""
        members.AT_ONCE = 256
        for app in sorted(self.registry.apps):
            self.pool.ask(m.Leave, app)
        registry = self.registry
        left = registry.cdos, registry.handles, registry.apps, self.pool.held
        assert not any(left), left
        assert not any((registry.demands, registry.batches, registry.queue, registry.seeks))
        self.pool.check()


def cyclic(registry, name, depends):
    """Whether a name would need itself, if it needed these, too: by walking all ways."""
    needs = {}
    for cdo in registry.cdos.values():
        needs.setdefault(cdo.name, set()).update(
            *(handle.depends for handle in cdo.handles.values()),
            *(version.needs for version in cdo.versions()),
        )
    needs.setdefault(name, set()).update(depends)

    def reaches(at, seen):
        return any(
            each == name or (each not in seen and reaches(each, {*seen, each}))
            for each in needs.get(at, ())
        )

    return reaches(name, {name})


def snapshot(registry):
    """All that a refused call must not change, in plain values: not what events tell of it."""
    return {
        "apps": (dict(registry.joins), registry.joined),
        "handles": {key: of_handle(known) for key, known in registry.handles.items()},
        "cdos": {name: of_cdo(cdo) for name, cdo in registry.cdos.items()},
        "queue": list(registry.queue),
        "demands": {r: (each.handle, *each.missing) for r, each in registry.demands.items()},
        "batches": {
            request: {key: version.serial for key, version in batch.offered.items()}
            for request, batch in registry.batches.items()
        },
        "serial": registry.serial,
        "ledger": (str(registry.ledger), registry.ledger.freed),
    }


def of_handle(known):
    changing = known.dtype, known.distribution, known.required, known.lost, known.owner
    return *changing, sorted(known.demands)


def of_cdo(cdo):
    current = cdo.current and cdo.current.serial
    known = sorted(cdo.pending), sorted(cdo.waiting), sorted(cdo.awaited)
    return current, sorted(cdo.handles), known, [of_version(each) for each in cdo.versions()]


def of_version(version):
    return (
        *(version.serial, version.stage, version.needs),
        {rank: tuple(vars(slot).values()) for rank, slot in version.slots.items()},
        *(sorted(version.requirements), sorted(version.unacknowledged), dict(version.withdrawing)),
        *(version.attributes, version.defaults, [batch.request for batch in version.batches]),
        {name: needed.serial for name, needed in version.needed.items()},
        sorted(version.holders),
    )


TestMachine = Machine.TestCase
# To shrink what is wrong would take longer than to read it.
TestMachine.settings = settings(
    max_examples=145,
    stateful_step_count=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def test_it_was_driven_far():
    """10^5 steps, each kind of them often."""
    assert sum(Machine.did.values()) >= 100_000
    assert min(Machine.did.values()) >= 1000
