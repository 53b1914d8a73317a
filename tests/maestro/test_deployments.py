"""Where the plugins come from: apps, preloads, both; late workers, foreign workers, TLS."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import threading
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster, Worker
from distributed.security import Security

import maestro
from layouts import Block, Distribution
from maestro.manager import Manager, ManagerPlugin
from maestro.programs.deployment import manager, serve_nodes
from tests.maestro.conftest import check
from tests.maestro.waiting import until

FREE = "127.0.0.1:0"
ARRAY = np.arange(1 << 20, dtype="f8").reshape(1 << 10, 1 << 10)
ROWS = Distribution(ARRAY.shape, (4, 1))
COLUMNS = Distribution(ARRAY.shape, (1, 3), (Block(), Block()), "F")


def exchange(address):
    """Bytes from rows to columns between two apps; returns the report."""
    with maestro.connect(address) as one, maestro.connect(address) as other:
        one.offer("x", ROWS.split(ARRAY), ROWS)
        want = other.declare("x", COLUMNS)
        for part, wanted in zip(want.demand(timeout=300), COLUMNS.split(ARRAY), strict=True):
            assert part.tobytes() == wanted.tobytes()
        want.dispose()
        check(one)
        return want.report


def exchange_chunks(address):
    """Chunks of as many bytes from rows to columns, where they are."""
    with maestro.connect(address) as app:
        app.offer("chunks", da.ones(ARRAY.shape, chunks=(ARRAY.shape[0] // 4, -1)))
        array = app.declare("chunks", COLUMNS).demand_dask(timeout=300)
        assert array.nbytes == ARRAY.nbytes
        assert app.client.compute(array.sum()).result() == array.size


@contextmanager
def command(*words):
    """A program started by command line, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=300)


@contextmanager
def deployment(tmp_path, preloaded, by=lambda address: address):
    """``dask scheduler`` and two ``dask worker`` as a user starts them; gives the address.

    If they are preloaded, then the scheduler and one of the workers.
    """
    contact = tmp_path / "scheduler.json"
    preload = ("--preload", "maestro.preload") * preloaded
    scheduler = [
        "dask",
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--dashboard-address",
        FREE,
    ]
    worker = ["dask", "worker", "--nthreads", "1", "--no-dashboard"]
    with command(*scheduler, "--scheduler-file", str(contact), *preload):
        until(lambda: contact.exists() and contact.read_text().endswith("}"))
        address = by(json.loads(contact.read_text())["address"])
        with (
            command(*worker, address, "--no-nanny", *preload),
            command(*worker, address, "--nanny"),
            Client(address, set_as_default=False) as client,
        ):
            client.wait_for_workers(2, timeout=300)
            yield address


def check_preloaded(address):
    """A preloaded manager knows its nodes before any app comes."""
    with Client(address, set_as_default=False) as client:
        until(lambda: len(client.run_on_scheduler(_nodes)) == 2)
        frozen, ready = client.run_on_scheduler(_settled)
        assert frozen > 10_000, "collections leave alone what is there from the start"
        assert ready, "the first selector is read without loading anything"


def test_command_line_deployments(tmp_path):
    """Without a word of maestro; those with it are the next test's."""
    with deployment(tmp_path, preloaded=False) as address:
        assert len({transfer.node for transfer in exchange(address).transfers}) == 2


class Counter:
    """A TCP relay that counts what goes through it, either way."""

    def __init__(self):
        self.bytes = 0
        self.target = None
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.tasks = set()

    def relay(self, address):
        """Start relaying to an address; return where."""
        host, port = address.removeprefix("tcp://").split(":")
        self.target = host, int(port)
        start = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.server = asyncio.run_coroutine_threadsafe(start, self.loop).result()
        return f"tcp://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(1 << 16):
                self.bytes += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def close(self):
        async def end():
            self.server.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def test_no_array_byte_goes_through_the_scheduler(tmp_path):
    """All of the scheduler's traffic, with apps and workers alike, is counted on its way."""
    counter = Counter()
    try:
        with deployment(tmp_path, preloaded=True, by=counter.relay) as address:
            check_preloaded(address)
            exchange(address)  # set-up and heartbeats are not what is measured
            before = counter.bytes
            report = exchange(address)
            control = counter.bytes - before
            before = counter.bytes
            exchange_chunks(address)
            tasks = counter.bytes - before
    finally:
        counter.close()
    assert report.bytes == ARRAY.nbytes
    assert len({transfer.node for transfer in report.transfers}) == 2
    # An offer and a demand are some dozen calls and two clients' greetings: no more for 8 MiB.
    assert control < 200_000
    assert tasks < 400_000  # and some dozen tasks


def test_installing_again_changes_nothing():
    with LocalCluster(n_workers=1, processes=False, dashboard_address=FREE) as cluster:
        with maestro.connect(cluster) as app, Client(cluster, set_as_default=False) as client:
            app.offer("x", ARRAY)
            manager = cluster.scheduler.extensions["maestro"]
            for _ in range(3):
                client.register_plugin(ManagerPlugin())
                with maestro.connect(cluster) as other:
                    assert np.array_equal(other.demand("x"), ARRAY)
            assert cluster.scheduler.extensions["maestro"] is manager
            assert app.pool.keys() == {"x"}


def test_two_apps_that_install_at_the_same_moment():
    async def main():
        options = {"processes": False, "dashboard_address": FREE, "asynchronous": True}
        async with LocalCluster(n_workers=1, **options) as cluster:
            address = cluster.scheduler_address
            apps = await asyncio.gather(*(maestro.connect(address) for _ in range(4)))
            await apps[0].offer("x", ARRAY)
            for app in apps:
                assert np.array_equal(await app.demand("x"), ARRAY)
            for app in apps:
                await app.leave()

    asyncio.run(main())


def test_workers_that_arrive_late_become_nodes():
    with LocalCluster(n_workers=0, processes=False, dashboard_address=FREE) as cluster:
        with maestro.connect(cluster) as app:
            with pytest.raises(
                maestro.PoolFullError, match=r"'x'.*no node has joined: start a Dask"
            ):
                app.offer("x", ARRAY)
            cluster.scale(2)
            until(lambda: len(app.pool.nodes) == 2)
            app.offer("x", ROWS.split(ARRAY), ROWS)
            assert len(set(app.pool["x"].nodes)) == 2


def test_workers_that_come_and_go_while_the_manager_starts(monkeypatch):
    ready = Manager.ready

    async def while_others_come_and_go(manager):
        await ready(manager)
        await manager.scheduler.remove_worker(first, stimulus_id="test")
        cluster.scale(2)
        while not manager.scheduler.workers.keys() - {first}:
            await asyncio.sleep(0.005)

    monkeypatch.setattr(Manager, "ready", while_others_come_and_go)
    with LocalCluster(n_workers=1, processes=False, dashboard_address=FREE) as cluster:
        (first,) = cluster.scheduler.workers
        with maestro.connect(cluster) as app:
            until(lambda: first not in app.pool.nodes and app.pool.nodes)
            assert np.array_equal(app.demand(app.offer("x", ARRAY).name), ARRAY)


def test_a_worker_that_goes_takes_its_parts_with_it():
    with (
        dask.config.set({"maestro.node.heir": "0.1 s"}),
        LocalCluster(n_workers=1, processes=False, dashboard_address=FREE) as cluster,
    ):
        with maestro.connect(cluster) as app:
            want = app.declare("x")
            want.require()
            app.offer("x", ARRAY)
            cluster.scale(0)
            until(lambda: not app.pool.nodes)
            with pytest.raises(
                maestro.DataLostError, match=r"'x': ranks \[0\] were lost with node"
            ):
                want.demand(timeout=300)
            assert "x" not in app.pool


class Foreign(Worker):
    """A worker whose machine has no maestro: it can't unpickle what it is sent."""

    async def plugin_add(self, plugin, name=None, catch_errors=True):
        if name == ManagerPlugin.name:
            raise ModuleNotFoundError("No module named 'maestro'")
        return await super().plugin_add(plugin, name, catch_errors)


def test_a_worker_without_maestro_is_no_node_and_harms_nobody():
    async def main():
        options = {"processes": False, "dashboard_address": FREE, "asynchronous": True}
        async with LocalCluster(n_workers=1, **options) as cluster:
            async with Foreign(cluster.scheduler_address) as foreign:
                async with maestro.connect(cluster) as app:
                    await app.offer("x", ROWS.split(ARRAY), ROWS)
                    pool = await app.pool
                    assert foreign.address not in pool.nodes
                    assert len(pool.nodes) == 1
                    assert np.array_equal(await app.demand("x"), ARRAY)

    asyncio.run(main())


def test_tls():
    security = Security.temporary()
    with LocalCluster(
        n_workers=1, processes=False, dashboard_address=FREE, security=security, protocol="tls://"
    ) as cluster:
        assert cluster.scheduler_address.startswith("tls://")
        with maestro.connect(cluster.scheduler_address, security=security) as app:
            app.offer("x", ARRAY)
            assert np.array_equal(app.demand("x"), ARRAY)
        with pytest.raises(maestro.PoolNotFoundError, match="tls://"):
            maestro.connect(cluster.scheduler_address, timeout=0.5)


def test_tls_for_an_embedded_pool():
    with maestro.connect(security=Security.temporary()) as app:
        assert app.address.startswith("tls://")
        app.offer("x", ARRAY)
        assert np.array_equal(app.demand("x"), ARRAY)


def _settled():
    return gc.get_freeze_count(), "lark" in sys.modules and "re2" in sys.modules


def _nodes(dask_scheduler):
    return list(dask_scheduler.extensions["maestro"].registry.ledger.nodes)


def test_nodes_that_are_told_to_end_while_they_start(monkeypatch):
    """Their worker is there already, and who looks after it has not heard of that yet."""
    monkeypatch.setattr("distributed.nanny.WorkerProcess._init_msg_interval", 1.0)

    async def end_at_once():
        async with manager(dashboard_address="127.0.0.1:0") as scheduler:
            serving = asyncio.create_task(serve_nodes(scheduler.address))
            while not scheduler.workers:
                await asyncio.sleep(0.01)
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert not scheduler.workers

    asyncio.run(end_at_once())
