"""Temporal broken in ways that only a question finds: a port that accepts says nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from console import temporal_connection
from console.environment import Environment, environment
from console.ports import PartHealth
from orchestration import health, temporal_gateway, worker
from orchestration.checkpoint_gateway import Checkpoints
from orchestration.errors import TemporalRefused
from orchestration.turns.activity import Activities
from orchestration.world import OutsideWorld
from stack.temporal import Temporal
from tests.orchestration.conftest import go
from tests.waiting import PATIENCE, eventually

Told = Callable[..., PartHealth]


@pytest.fixture
def told(temporal: Temporal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """Ask how Temporal is, with these settings of the environment."""
    known: list[Environment] = []

    def ask(**changes: Any) -> PartHealth:
        address = {"temporal_address": temporal.address, "temporal_namespace": temporal.namespace}
        known[:] = [environment().model_copy(update=address | changes)]
        return health.temporal()

    for module in (health, temporal_connection, worker):
        monkeypatch.setattr(module, "environment", lambda: known[0])
    monkeypatch.setattr(health, "DEADLINE_SECONDS", PATIENCE)  # a busy machine is slow, not frozen
    monkeypatch.setattr(temporal_connection, "_DEADLINE_SECONDS", PATIENCE)
    monkeypatch.setattr(temporal_gateway, "_LOOK", timedelta(seconds=PATIENCE))
    monkeypatch.setattr(temporal_connection, "_kept", None)
    yield ask


def test_a_server_that_serves_us_is_ok(told: Told) -> None:
    assert told()["ok"]
    assert told()["ok"]  # over the kept connection, from another loop


def test_a_frozen_server_is_not_ok_and_is_again_when_it_thaws(
    told: Told, temporal: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told()["ok"]
    assert temporal.process is not None
    monkeypatch.setattr(health, "DEADLINE_SECONDS", 3.0)
    temporal.process.send(signal.SIGSTOP)
    try:
        frozen = told()
    finally:
        temporal.process.send(signal.SIGCONT)
    assert not frozen["ok"]
    assert "cannot be reached" in frozen["detail"]
    eventually(lambda: told()["ok"], "the server to answer again after it thawed")


def test_a_namespace_that_is_not_there_is_named(told: Told) -> None:
    wrong = told(temporal_namespace="acme")
    assert not wrong["ok"]
    assert "'acme'" in wrong["detail"]


def test_a_server_that_wants_tls_is_not_ok(told: Told, tmp_path: Path) -> None:
    """The server speaks TLS only: our plain connection is accepted by the port and closed."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    async def ask() -> PartHealth:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.to_thread(told, temporal_address=f"127.0.0.1:{port}")

    assert not asyncio.run(ask())["ok"]


def test_a_worker_is_well_once_the_server_has_seen_its_polls_and_not_before(
    told: Told, temporal: Temporal, transactional_db: None
) -> None:
    async def scene() -> None:
        polling, stop = worker.Polling(), asyncio.Event()
        assert not polling.state()[0]
        client = await temporal_connection.connect()
        watching = asyncio.create_task(polling.watch(client))
        await asyncio.sleep(0)
        checkpoints, world = Checkpoints(), OutsideWorld()
        await checkpoints.open()
        working = asyncio.create_task(worker._work(client, Activities(checkpoints, world), stop))
        try:
            async with asyncio.timeout(PATIENCE):
                while not polling.state()[0]:  # noqa: ASYNC110  nothing tells of it but the state itself
                    await asyncio.sleep(0.05)
        finally:
            stop.set()
            await working
            watching.cancel()
            await checkpoints.close()
            await world.close()

    told()
    go(scene())


def test_a_worker_in_a_namespace_that_is_not_there_says_so(told: Told) -> None:
    told(temporal_namespace="acme")

    async def scene() -> None:
        client = await temporal_connection.connect(namespace_may_be_missing=True)
        with pytest.raises(TemporalRefused, match="no namespace 'acme'"):
            await temporal_gateway.pollers(client, "signalbox")

    go(scene())


def test_a_worker_whose_polls_reach_nobody_is_not_well(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is connected and asks about itself; the server has seen no poll of it."""
    monkeypatch.setattr(worker, "POLLS_WITHIN_SECONDS", 0)
    told()

    async def scene() -> None:
        polling = worker.Polling()
        client = await temporal_connection.connect()
        polling._look(await temporal_gateway.pollers(client, "a queue that nobody asks"), client.identity)
        ok, words = polling.state()
        assert not ok
        assert "its polls have not reached Temporal" in words

    go(scene())
