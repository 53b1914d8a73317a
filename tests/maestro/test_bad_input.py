"""Every wrong call raises an error that names the CDO or argument, and harms nothing."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from distributed import LocalCluster

import maestro
from layouts import Block, Distribution
from maestro import messages as m
from maestro.errors import from_wire, to_wire
from maestro.spelling import dtype_from_wire, dtype_to_wire
from tests.maestro.stranger import stranger
from tests.maestro.waiting import in_thread, until

HALVES = Distribution((8,), (2,))
ARRAY = np.arange(8.0)


@pytest.fixture
def unharmed(app):
    """The pool holds one CDO, before and after, and still works."""
    app.offer("x", HALVES.split(ARRAY), HALVES, attributes={"step": 1})
    before = app._link.client.run_on_scheduler(_registry)
    yield app
    assert app._link.client.run_on_scheduler(_registry) == before
    assert np.array_equal(app.demand("x"), ARRAY)


def _registry(dask_scheduler):
    registry = dask_scheduler.extensions["maestro"].registry
    return [
        (name, len(cdo.handles), len(cdo.pending), [str(v.stage) for v in cdo.versions()])
        for name, cdo in registry.cdos.items()
    ]


def wrong(app, error, message, declare, call=None):
    """The error comes from declaring, or from a call on what was declared."""

    def run():
        cdo = app.declare(**declare)
        call(cdo)

    with pytest.raises(error, match=message) as caught:
        run()
    assert isinstance(caught.value, maestro.MaestroError | TypeError)


@pytest.mark.parametrize(
    ("error", "message", "declare", "call"),
    [
        (
            maestro.InconsistentError,
            r"CDO 'y': the part of rank 1 has shape \(3,\), expected \(4,\)",
            {"name": "y", "distribution": HALVES},
            lambda cdo: cdo.offer([np.zeros(4), np.zeros(3)]),
        ),
        (
            maestro.InconsistentError,
            r"CDO 'y': the part of rank 1 has shape \(8,\), expected \(4,\)",
            {"name": "y", "distribution": HALVES, "rank": 1},
            lambda cdo: cdo.offer(ARRAY),
        ),
        (
            maestro.InconsistentError,
            "CDO 'y': the part of rank 0 has dtype float64, expected int32",
            {"name": "y", "distribution": HALVES, "dtype": "i4"},
            lambda cdo: cdo.offer([np.zeros(4), np.zeros(4)]),
        ),
        (
            maestro.InconsistentError,
            "CDO 'y': the part of rank 1 has dtype float32, expected float64",
            {"name": "y", "distribution": HALVES},
            lambda cdo: cdo.offer([np.zeros(4), np.zeros(4, "f4")]),
        ),
        (
            maestro.InconsistentError,
            "CDO 'y': 3 parts were given, expected a list of 2 parts",
            {"name": "y", "distribution": HALVES},
            lambda cdo: cdo.offer([np.zeros(4)] * 3),
        ),
        (
            maestro.InconsistentError,
            r"CDO 'y': one array was given, expected a list of 2 parts; .*split",
            {"name": "y", "distribution": HALVES},
            lambda cdo: cdo.offer(ARRAY),
        ),
        (
            maestro.InconsistentError,
            r"CDO 'y': no data was given, expected the part of rank 1, of shape \(4,\)",
            {"name": "y", "distribution": HALVES, "rank": 1},
            lambda cdo: cdo.offer(),
        ),
        (
            TypeError,
            "CDO 'y': dtype object holds Python objects",
            {"name": "y"},
            lambda cdo: cdo.offer(np.array([object()])),
        ),
        (
            maestro.AlreadyOfferedError,
            "CDO 'x': it is offered already, by test-.*expected it to be withdrawn first",
            {"name": "x"},
            lambda cdo: cdo.offer(ARRAY),
        ),
        (
            maestro.AlreadyOfferedError,
            "CDO 'x': rank 1 is offered already, by test-",
            {"name": "x", "distribution": HALVES, "rank": 1},
            lambda cdo: cdo.offer(np.zeros(4)),
        ),
        (
            maestro.InconsistentError,
            r"CDO 'x': shape \(9,\) was given, expected \(8,\) as app 'test-.*' says",
            {"name": "x", "distribution": Distribution((9,))},
            lambda cdo: cdo.demand(),
        ),
        (
            maestro.InconsistentError,
            "CDO 'x': dtype float32 was given, expected float64 as app 'test-.*' says",
            {"name": "x", "dtype": "f4"},
            lambda cdo: cdo.require(),
        ),
        (
            maestro.InconsistentError,
            "CDO 'x': attribute 'step' 2 was given, expected 1 as app 'test-.*' says",
            {"name": "x", "attributes": {"step": 2}},
            lambda cdo: cdo.seal(),
        ),
        (
            maestro.RankError,
            r"CDO 'y': rank: got 2, expected 0 to 1 \(2 ranks\)",
            {"name": "y", "distribution": HALVES, "rank": 2},
            None,
        ),
        (
            maestro.RankError,
            "CDO 'y': rank: got -1",
            {"name": "y", "distribution": HALVES, "rank": -1},
            None,
        ),
        (maestro.RankError, "CDO 'y': rank 0 was given, exp", {"name": "y", "rank": 0}, None),
        (TypeError, "name: got '', expected a string", {"name": ""}, None),
        (TypeError, "name: got 5, expected a string", {"name": 5}, None),
        (TypeError, "CDO 'y': distribution: got 'C'", {"name": "y", "distribution": "C"}, None),
        (
            TypeError,
            "CDO 'y': attribute 'a': got <object",
            {"name": "y", "attributes": {"a": object()}},
            None,
        ),
        (TypeError, "CDO 'y': attribute key 5", {"name": "y", "attributes": {5: 5}}, None),
    ],
)  # fmt: skip
def test_what_disagrees_is_refused(unharmed, error, message, declare, call):
    wrong(unharmed, error, message, declare, call)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        (["withdraw"], "withdraw was called while the handle is declared, expected offered"),
        (["retract"], "retract was called while the handle is declared, expected required"),
        (["seal", "seal"], "seal was called while the handle is sealed, expected declared"),
        (["require", "require"], "require was called while the handle is required"),
        (["require", "offer"], "offer was called while the handle is required"),
        (["require", "dispose"], "dispose was called while the handle is required.*retract"),
        (["demand", "withdraw"], "withdraw was called while the handle is demanded"),
        (["dispose", "demand"], "demand was called while the handle is disposed"),
        (["dispose", "dispose"], "dispose was called while the handle is disposed"),
    ],
)
def test_a_call_out_of_its_turn(unharmed, calls, message):
    cdo = unharmed.declare("x")
    *before, last = calls
    for call in before:
        getattr(cdo, call)()
    state = cdo.state
    with pytest.raises(maestro.LifecycleError, match=f"CDO 'x': {message}"):
        getattr(cdo, last)()
    assert cdo.state == state
    for call in {"required": ["retract"]}.get(state, []) + ["dispose"] * (state != "disposed"):
        getattr(cdo, call)()


def test_what_failed_can_be_tried_again(app):
    cdo = app.declare("y", HALVES, "f8", attributes={"step": 1})
    with pytest.raises(maestro.PoolTimeoutError):
        cdo.demand(timeout=0.01)
    with pytest.raises(maestro.InconsistentError):
        cdo.offer([np.zeros(4)])
    assert cdo.state == "declared"
    cdo.attributes["step"] = 2
    app.declare("y", attributes={"step": 2}).seal()
    cdo.offer(HALVES.split(ARRAY))
    assert app.pool["y"].attributes == {"step": 2}
    assert np.array_equal(app.demand("y"), ARRAY)


def test_offer_and_dispose_before_withdraw(app):
    have = app.offer("y", ARRAY)
    for call in (lambda: have.offer(ARRAY), have.dispose, have.demand, have.require):
        with pytest.raises(
            maestro.LifecycleError, match=r"CDO 'y': .* while the handle is offered"
        ):
            call()
    with pytest.raises(maestro.LifecycleError, match="withdraw it first"):
        have.dispose()
    have.withdraw()


def test_attributes_are_fixed_by_the_seal(unharmed):
    cdo = unharmed.declare("x", attributes={"a": 1})
    cdo.attributes["b"] = np.float64(2.5)
    cdo.seal()
    for change in (
        lambda: cdo.attributes.update(a=2),
        lambda: cdo.attributes.pop("a"),
        lambda: cdo.attributes.clear(),
    ):
        with pytest.raises(
            maestro.LifecycleError, match=r"CDO 'x': attribute '.' was changed after"
        ):
            change()
    assert cdo.attributes == {"a": 1, "b": 2.5}
    cdo.dispose()


def test_a_demand_whose_time_runs_out_names_the_missing_ranks(app):
    thirds = Distribution((9,), (3,))
    for rank in (0, 2):
        app.declare("y", thirds, rank=rank).offer(np.zeros(3))
    with pytest.raises(
        maestro.PoolTimeoutError, match=r"'y': .* 0.05 s: ranks \[1\] of 3 are missing"
    ):
        app.demand("y", timeout=0.05)
    with pytest.raises(TimeoutError, match=r"'z': not there after 0.05 s: nobody offers it"):
        app.demand("z", timeout=0.05)
    assert "y" not in app.pool
    app.declare("y", thirds, rank=1).offer(np.ones(3))
    assert app.demand("y").tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0]


def test_a_rank_offered_twice_before_the_rest_is_there(app):
    app.declare("y", HALVES, rank=0).offer(np.zeros(4))
    with pytest.raises(maestro.AlreadyOfferedError, match="'y': rank 0 is offered already"):
        app.declare("y", HALVES, rank=0).offer(np.ones(4))
    app.declare("y", HALVES, rank=1).offer(np.zeros(4))
    assert app.demand("y").tolist() == [0] * 8


def test_ranks_over_different_distributions(app):
    app.declare("y", HALVES, rank=0).offer(np.zeros(4))
    with pytest.raises(maestro.InconsistentError, match=r"'y': offered as .* over 4 ranks.*over 2"):
        app.declare("y", Distribution((8,), (4,)), rank=1).offer(np.zeros(2))


def test_more_than_the_nodes_may_hold_is_refused_before_it_is_sent(app):
    huge = np.broadcast_to(np.zeros(1), (1 << 20, 1 << 20))
    with pytest.raises(
        maestro.PoolFullError, match=r"'y': no room for 1 parts of 8796093022208 bytes"
    ):
        app.offer("y", huge)
    with pytest.raises(MemoryError):
        app.offer("y", huge)
    assert len(app.pool) == 0


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:1", "127.0.0.1:1", "nonsense://x", "tcp://", "no host at all"]
)
def test_an_address_where_no_scheduler_is(address):
    with pytest.raises(
        maestro.PoolNotFoundError, match=f"no Dask scheduler at {address}"
    ) as caught:
        maestro.connect(address, timeout=0.3)
    assert isinstance(caught.value, ConnectionError)


def test_an_address_of_something_else():
    with LocalCluster(
        n_workers=1, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp://"
    ) as c:
        (worker,) = c.workers.values()
        with pytest.raises(maestro.PoolNotFoundError, match="no Dask scheduler at"):
            maestro.connect(worker.address, timeout=1)


@pytest.mark.parametrize("pool", [5, object(), b"tcp://127.0.0.1:1"])
def test_nothing_to_connect_to(pool):
    with pytest.raises(TypeError, match=r"pool: got .*, expected nothing, a scheduler's address"):
        maestro.connect(pool)


def test_a_pool_that_goes_away_under_an_app():
    cluster = LocalCluster(
        n_workers=1, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp://"
    )
    with cluster:
        app = maestro.connect(cluster.scheduler_address)
        app.offer("x", ARRAY)
        wait = in_thread(app.demand, "y")
        until(lambda: cluster.scheduler.extensions["maestro"].registry.cdos.get("y"))
    with pytest.raises(maestro.PoolLostError):
        wait()
    with pytest.raises(maestro.PoolLostError):
        app.demand("x", timeout=1)
    app.leave()


# What does not follow the protocol

ABOUT = ("timeout", "first")
OFFER = {
    "call": "offer",
    "handle": "h",
    "dtype": "f8",
    "distribution": {"shape": [2]},
    "near": {},
    "wait": False,
    "copies": 1,
    "placed": None,
}
SEAL = {
    "call": "seal",
    "handle": "h",
    "name": "n",
    "rank": 1,
    "dtype": "'<f8'",
    "distribution": HALVES.to_dict(),
    "attributes": {},
    "defaults": {},
    "depends": [],
    "group": False,
    "members": [],
    "push": False,
}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"call": "steal"}, "call: got 'steal', expected one of join, leave"),
        ({"call": "join"}, "call 'join': got the fields .'app'., expected"),
        ({"call": ["list"]}, "call: got .*list.*, expected one of join, leave"),
        ({"call": "list", "extra": 1}, "got the fields .'app', 'extra'., expected .'app'."),
        (OFFER, "call 'offer': malformed node"),
        (
            {**OFFER, "dtype": None, "distribution": None, "near": {"0": "x"}},
            "call 'offer': near: got .*, expected addresses",
        ),
        ({**OFFER, "dtype": "'<f8'", "distribution": None, "copies": 0}, "copies: got 0, expected"),
        (
            {**OFFER, "dtype": None, "distribution": None, "placed": (1,)},
            "placed: got \\(1,\\), expe",
        ),
        ({"call": "list", "first": {"handle": "h"}}, "first: got .*, expected 'word'"),
        ({"call": "list", "first": {"word": "steal"}}, "call: got 'steal', expected one of"),
        ({"call": "list", "first": [1]}, "first: got .1,., expected 'word' and fields"),
        ({"call": "list", "first": {"word": "list", 1: 1}}, "got the fields .'1', 'app'., exp"),
        (
            {"call": "demand", "handle": ["h"], "along": True, "waited": 0.0},
            "call 'demand': handle: got .*, expected str",
        ),
        (
            {"call": "demand", "handle": "h", "along": True, "waited": 0.0, "timeout": "soon"},
            "timeout: got 'soon', expected",
        ),
        ({**SEAL, "rank": 2}, "call 'seal': rank: got 2, expected one of 2"),
        ({**SEAL, "distribution": None}, "call 'seal': rank: got 1, expected one of 0"),
        ({**SEAL, "attributes": [1]}, "call 'seal': attributes: got .*, expected dict"),
        ({**SEAL, "dtype": "os.system('x')"}, "call 'seal': malformed node"),
        ({**SEAL, "distribution": {"shape": [-1]}}, "call 'seal': 'axes'"),
    ],
)
def test_messages_that_do_not_follow_the_protocol(app, message, error):
    fields = {key: value for key, value in message.items() if key not in ("call", *ABOUT)}
    about = {key: message.get(key) for key in ABOUT}

    async def send():
        async with stranger(app.client) as say:
            return await say(message["call"], fields, **about)

    value, found = app.client.sync(send)
    assert value is None
    assert found["type"] == "ProtocolError"
    with pytest.raises(maestro.ProtocolError, match=error):
        raise from_wire(found)


@pytest.mark.parametrize(
    ("opening", "error"),
    [
        ({"protocol": 0}, f"the app speaks version 0, expected {m.PROTOCOL}"),
        ({"protocol": None}, "the app speaks version None"),
        ({"app": 3}, "app: got 3, expected its name"),
    ],
)
def test_lines_that_are_not_opened(app, opening, error):
    async def send():
        comm = await app.client.rpc.connect(app.address)
        try:
            words = {"op": "maestro_line", "app": "a", "protocol": m.PROTOCOL, **opening}
            await comm.write(words)
            return await comm.read()
        finally:
            comm.abort()

    with pytest.raises(maestro.ProtocolError, match=error):
        raise from_wire(app.client.sync(send)["error"])


@pytest.mark.parametrize(
    "message",
    [
        *(b"\xc1", msgpack.packb(3), msgpack.packb({"op": "x"}), "text", {}),
        *(msgpack.packb([0, "list", {}, None]), msgpack.packb(["0", "list", {}, None, None])),
        *(msgpack.packb([0, "list", [], None, None]), msgpack.packb({(): {}}), [1], None),
        *(msgpack.packb([{}] * 5), b"\x91" * 5000),
    ],
)
def test_what_is_no_word_closes_the_line(app, message):
    async def send():
        async with stranger(app.client) as say:
            await say.wire.comm.write(message)
            with pytest.raises(OSError, match="closed"):
                await say.wire.read()

    app.client.sync(send)
    assert app.pool.nodes


def test_errors_travel_by_name():
    error = from_wire(to_wire(maestro.DataLostError("gone")))
    assert type(error) is maestro.DataLostError
    assert str(error) == "gone"
    assert type(from_wire({"type": "FromTheFuture", "text": "what"})) is maestro.MaestroError
    assert type(from_wire({"type": "SystemExit", "text": "what"})) is maestro.MaestroError


def test_dtypes_travel_in_words():
    for dtype in ("f8", ">i2", "M8[ns]", [("a", "u1"), ("b", ">f8", (2, 3))], "V7", "S0", "g"):
        wanted = np.dtype(dtype)
        assert dtype_from_wire(dtype_to_wire(wanted, "x")) == wanted
    padded = np.dtype([("a", "u1"), ("b", "f8")], align=True)
    assert dtype_from_wire(dtype_to_wire(padded, "x")) == padded


@pytest.mark.parametrize("timeout", [-1, "5", np.nan])
def test_a_time_that_is_none(unharmed, timeout):
    with pytest.raises(ValueError, match=r"timeout: got .* expected seconds, 0 or more, or None"):
        unharmed.demand("nothing", timeout=timeout)


def test_data_demanded_where_none_is_offered(app):
    app.offer("barrier")
    want = app.declare("barrier", HALVES)
    with pytest.raises(maestro.InconsistentError, match=r"'barrier': it is offered without data"):
        want.demand()
    assert app.demand("barrier") is None


def test_block_is_a_kind_not_a_number(app):
    with pytest.raises(TypeError, match=r"axes\[0\]: got 4"):
        Distribution((8,), (2,), (4,))
    assert Distribution((8,), (2,), (Block(),)) == HALVES


@pytest.mark.parametrize("what", ["declare", "group"])
def test_names_that_are_none(unharmed, what):
    """Half of a surrogate pair can be told in Python alone: not to a terminal, nor to a store."""
    for name in ("", None, 3):
        with pytest.raises(TypeError, match=r"name: got .* expected a string that is not empty"):
            getattr(unharmed, what)(name)
    with pytest.raises(
        maestro.InconsistentError, match=r"name: got 't2m\\ud800', .* at 3 is half of a surrogate"
    ):
        getattr(unharmed, what)("t2m\ud800")
    getattr(unharmed, what)("température 🌡").dispose()
