"""Who tells open pages how the parts are when the relay, which usually does, is no more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from channels.db import database_sync_to_async

from console import health, ports
from console.clock import database_now
from console.live.parts_watch import PartsWatch
from console.models import PartHeartbeat
from tests.console.test_health import fine
from tests.fake_ports import all_answering

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.asyncio]


@pytest.fixture(autouse=True)
def engines() -> Iterator[dict[str, Any]]:
    checks: dict[str, Any] = {"temporal": fine, "prefect": fine}
    with all_answering(ports.health_checks, checks):
        yield checks


def _silent(part: str) -> None:
    PartHeartbeat.objects.filter(part=part).update(last_seen_at=database_now() - timedelta(minutes=1))


def _all_beat() -> None:
    for part in health.OUR_PROCESSES:
        health.beat(part, "at work")


async def test_while_a_relay_lives_a_web_process_asks_nobody_and_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    await database_sync_to_async(_all_beat)()
    monkeypatch.setattr(health, "report", lambda *_: pytest.fail("the relay asks for all"))
    told: list[str] = []
    await PartsWatch(told.append).look()
    assert told == []


async def test_the_relays_own_end_is_told_once_and_then_what_changes(engines: dict[str, Any]) -> None:
    await database_sync_to_async(_all_beat)()
    told: list[str] = []
    watch = PartsWatch(told.append)
    await watch.look()
    await database_sync_to_async(_silent)("relay")
    for _ in range(2):
        await watch.look()
    assert told == ["health", "system"]
    await database_sync_to_async(_silent)("worker")
    await watch.look()
    assert told == ["health", "system"] * 2
    await database_sync_to_async(health.beat)("relay", "back")
    await watch.look()
    assert told == ["health", "system"] * 2, "the relay tells of itself"
