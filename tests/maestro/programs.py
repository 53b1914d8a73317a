"""Programs that tests start as processes of their own: producers and consumers of one rank each."""

from __future__ import annotations

import os
import signal
import time

import dask
import numpy as np

import maestro
from layouts import Distribution


def field(distribution: Distribution):
    """The array that all of these programs exchange."""
    size = int(np.prod(distribution.shape, dtype=int))
    return np.arange(1, size + 1, dtype="f8").reshape(distribution.shape)


def produce(address, layout, rank, name="t2m"):
    """Offer one rank, and withdraw it when all who required it are served."""
    distribution = Distribution.from_dict(layout)
    with maestro.connect(address, component=f"producer-{rank}") as app:
        cdo = app.declare(name, distribution, rank=rank, attributes={"units": "K"})
        app.demand("ready", timeout=300)
        cdo.offer(field(distribution)[np.ix_(*distribution.indices(rank))])
        cdo.withdraw(timeout=300)
        cdo.dispose()


def consume(address, layout, rank, results, name="t2m"):
    """Require and demand one rank, and send what came."""
    distribution = Distribution.from_dict(layout)
    with maestro.connect(address, component=f"consumer-{rank}") as app:
        cdo = app.declare(name, distribution, rank=rank)
        cdo.require()
        results.put((rank, "required", None))
        part = cdo.demand(timeout=300)
        strides = part.strides
        results.put((rank, part.tobytes(), strides))
        cdo.dispose()


def offer_and_hang(address, layout, rank, results, name="t2m"):
    """Offer one rank and do nothing more, until killed."""
    distribution = Distribution.from_dict(layout)
    with maestro.connect(address, component="doomed") as app:
        app.declare(name, distribution, rank=rank).offer(distribution.empty(rank, "f8"))
        results.put("offered")
        signal.pause()


def offer_after_seal_and_die(address, layout, rank, results, name="t2m"):
    """Announce one rank, and die in the middle of the offer: some of it is on its node."""
    from maestro.transport import transfer

    async def die(*args):
        os.kill(os.getpid(), signal.SIGKILL)

    transfer.store = die
    distribution = Distribution.from_dict(layout)
    with maestro.connect(address, component="doomed") as app:
        app.declare(name, distribution, rank=rank).offer(distribution.empty(rank, "f8"))


def require_and_hang(address, results, name="t2m"):
    """Require a CDO and do nothing more, until killed."""
    with maestro.connect(address, component="doomed") as app:
        app.declare(name).require()
        results.put("required")
        signal.pause()


def demand_slowly_and_hang(address, layout, results, name="t2m"):
    """Take the first bytes of a demand, and no more, until killed."""
    from tests.maestro.streams import on_each_message

    def hang(place):
        place()
        results.put("under way")
        time.sleep(600)

    on_each_message(setattr, hang)
    dask.config.set({"maestro.transfer.same-host": False})
    distribution = Distribution.from_dict(layout)
    with maestro.connect(address, component="doomed") as app:
        app.declare(name, distribution).demand()


def offer_slowly_and_hang(address, layout, results, name="t2m"):
    """Bring the first bytes of an offer, and no more, until killed."""
    from maestro.transport import bringing

    bytes_of, sent = bringing.bytes_of, []

    def hang(run, *args):
        sent.append(run)
        if len(sent) == 3:
            results.put("under way")
            time.sleep(600)
        return bytes_of(run, *args)

    bringing.bytes_of = hang
    dask.config.set({"maestro.transfer.same-host": False})
    distribution = Distribution.from_dict(layout)
    with maestro.connect(address, component="doomed") as app:
        app.declare(name, distribution).offer(distribution.split(field(distribution)))


def map_and_hang(address, layout, results, name, call):
    """Offer or demand by mapping, and stop after the first copy, until killed."""
    from maestro.transport import onhost

    move = onhost.move_all if call == "demand" else onhost.kernels.move

    def hang(*args):
        move(*args)
        results.put("under way")
        time.sleep(600)

    distribution = Distribution.from_dict(layout)
    parts = distribution.split(field(distribution))
    if call == "demand":
        onhost.move_all, onhost.NEWS = hang, 1
    else:
        onhost.kernels.move = hang
    with maestro.connect(address, component="doomed") as app:
        cdo = app.declare(name, distribution)
        if call == "demand":
            cdo.demand()
        else:
            cdo.offer(parts)


def write_and_hang(address, layout, results, name="mine"):
    """Write into the pool's memory, offer it and do nothing more, until killed."""
    distribution = Distribution.from_dict(layout)
    with maestro.connect(address, component="doomed") as app:
        cdo = app.declare(name, distribution, "f8")
        parts = cdo.empty()
        for part, wanted in zip(parts, distribution.split(field(distribution)), strict=True):
            part[...] = wanted
        cdo.offer()
        results.put("offered")
        signal.pause()


def archive(address, store, told):
    """An archiver in a process of its own, until it is killed."""
    with (
        maestro.connect(address, component="archiver") as app,
        maestro.Archiver(app, store, resume=True, tell=told.put),
    ):
        told.put("ready")
        signal.pause()
