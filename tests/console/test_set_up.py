"""What is set up for the first time is told on the page, by whoever does it, for as long as it is done."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from console import health, ports, set_up
from console.environment import environment
from console.ports import HealthCheck
from stack.console_parts import Shop
from stack.runner import Runner
from tests.console.test_health import all_beat, away, fine
from tests.fake_ports import all_answering
from tests.waiting import PATIENCE, eventually


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(environment(), "home", tmp_path)
    monkeypatch.setattr(health, "_noticed", (float("-inf"), []))
    checks: dict[str, HealthCheck] = {"temporal": away, "prefect": fine}
    with all_answering(ports.health_checks, checks):
        yield tmp_path


@pytest.mark.django_db
def test_a_server_that_is_being_built_is_told_with_how_far_it_is(home: Path, client: Client, olga: User) -> None:
    all_beat()
    set_up.say(home, "temporal", "still building: 620 of about 1,754 packages, 84 s")
    client.force_login(olga)
    page = unescape(client.get("/system/").content.decode())
    assert "Temporal is set up for the first time: still building: 620 of about 1,754 packages, 84 s." in page
    assert health.CONSEQUENCES["temporal"] not in page
    set_up.done(home, "temporal")
    health._noticed = (float("-inf"), [])
    assert health.CONSEQUENCES["temporal"] in unescape(client.get("/system/").content.decode())


def test_what_a_killed_start_has_left_counts_for_nothing(home: Path) -> None:
    set_up.say(home, "temporal", "building")
    path = home / "set-up" / "temporal"
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    assert set_up.words(home, "temporal") == ""


def test_a_part_that_prepares_says_so_until_it_is_done(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_told, may_end = threading.Event(), threading.Event()

    def prepare(self: Shop, say: object, cancelled: object) -> None:
        assert callable(say)
        say("a third of it")
        is_told.set()
        may_end.wait(PATIENCE)

    monkeypatch.setattr(Shop, "prepare", prepare)
    life = Runner(Shop(home, dict, 1), needs=(), say=lambda *_: None, changed=lambda: None)
    life.start()
    assert is_told.wait(PATIENCE)
    assert set_up.words(home, "shop") == "a third of it"
    may_end.set()
    eventually(lambda: not set_up.words(home, "shop"), "nothing is being set up any more")
    life.end()
    life.join(PATIENCE)
