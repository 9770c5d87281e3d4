"""Relays that are killed around each step of answering a thread of an agent server: it gets one answer, never two.

Real processes of `manage.py run_relay`, and a server that speaks the documented API.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from approvals.models import Approval
from console.clock import DatabaseNow, database_now
from console.environment import PROJECT
from console.models import OutboxEntry
from orchestration.agent_servers import rows
from orchestration.models import ThreadQuestion
from tests import session_postgres
from tests.orchestration.agent_server import AgentServerDouble, ServedThread
from tests.orchestration.conftest import decide
from tests.orchestration.test_agent_servers import one_call
from tests.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]
FAULTS = session_postgres.HOME / "faults"

Begin = Callable[[], "subprocess.Popen[bytes]"]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a relay process; `agent_servers.toml` of the test's folder names its servers."""
    FAULTS.mkdir(exist_ok=True)
    running: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ,
        "DATABASE_URL": session_postgres.SERVER.url(connection.settings_dict["NAME"]),
        "TEMPORAL_ADDRESS": "127.0.0.1:9",  # nobody is there: a thread needs no Temporal of ours
        "SIGNALBOX_AGENT_SERVERS": str(tmp_path / "agent_servers.toml"),
        "SIGNALBOX_FAULTS": "true",
    }

    def started() -> subprocess.Popen[bytes]:
        command = [sys.executable, "manage.py", "run_relay"]
        with (tmp_path / "relays.log").open("ab") as log:
            running.append(subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log))
        return running[-1]

    yield started
    for one in running:
        if one.poll() is None:
            one.terminate()
    for one in running:
        one.wait(PATIENCE)


def serve(where: Path, server: AgentServerDouble) -> None:
    (where / "agent_servers.toml").write_text(f'[acme]\nurl = "{server.url}"\nevery_seconds = 1\n')


def asked(many: int) -> list[Approval]:
    return eventually(
        lambda: found if len(found := list(Approval.objects.filter(status="pending"))) == many else [],
        f"{many} requests",
    )


def is_over(relay: subprocess.Popen[bytes], fired: Path) -> Any:
    return fired.exists() and relay.poll() is not None


def let_time_pass() -> None:
    """Let what the killed relay had claimed be free, as it is after a minute or two. No other one may be at work."""
    ThreadQuestion.objects.filter(state="asked").update(held_until=None, given_at=F("given_at") - rows.MAY_BE_TAKEN_FOR)
    OutboxEntry.objects.filter(delivered_at=None).update(due_at=DatabaseNow())


def all_taken() -> bool:
    return not ThreadQuestion.objects.exclude(state="taken").exists()


def as_they_stand() -> str:
    questions = ThreadQuestion.objects.exclude(state="taken")
    entries = OutboxEntry.objects.filter(delivered_at=None)
    return (
        "every thread took its answer; at "
        f"{database_now()} {list(questions.values('state', 'detail', 'held_until', 'given_at', 'checked_at'))}, "
        f"{list(entries.values('kind', 'attempts', 'due_at', 'last_error'))}"
    )


def steps(approval: Approval) -> list[str]:
    return [step.step for step in approval.receipt.order_by("at", "id")]


@pytest.mark.parametrize(
    ("point", "kind"),
    [
        ("thread.before_answer", "call"),
        ("thread.after_answer", "call"),
        ("thread.after_answer", "stop"),
        ("thread.after_note", "call"),
    ],
)
def test_a_relay_that_is_killed_around_an_answer_gives_it_once(
    point: str, kind: str, begin: Begin, tmp_path: Path
) -> None:
    thread = one_call() if kind == "call" else ServedThread([], next=["deploy"])
    with AgentServerDouble(thread) as server:
        serve(tmp_path, server)
        relay = begin()
        (approval,) = asked(1)
        (FAULTS / f"{point}@{approval.run_id}").write_text("kill")
        decide(approval)
        fired = FAULTS / f"{point}@{approval.run_id}.fired"
        eventually(lambda: is_over(relay, fired), f"the relay is killed at {point}")
        assert len(thread.told) == (point != "thread.before_answer")
        let_time_pass()
        begin()
        eventually(all_taken, as_they_stand)
        eventually(lambda: not OutboxEntry.objects.filter(delivered_at=None).exists(), "nothing is left to deliver")
        assert len(thread.told) == len(thread.runs) == 1
        assert steps(approval) == ["recorded", "signalled", "resumed"]


def test_two_relays_that_find_what_a_killed_one_has_left_answer_each_thread_once(begin: Begin, tmp_path: Path) -> None:
    threads = [one_call() for _ in range(12)]
    with AgentServerDouble(*threads) as server:
        serve(tmp_path, server)
        killed = begin()
        requests = asked(len(threads))
        (FAULTS / "thread.after_answer").write_text("kill")
        for approval in requests:
            decide(approval)
        fired = FAULTS / "thread.after_answer.fired"
        eventually(lambda: is_over(killed, fired), "the relay is killed")
        server.wait_for_what_was_sent()  # the answers that it was just giving
        assert any(one.told for one in threads)
        let_time_pass()
        begin()
        begin()
        eventually(all_taken, as_they_stand)
        assert [(len(one.told), len(one.runs)) for one in threads] == [(1, 1)] * len(threads)
        assert all(steps(approval) == ["recorded", "signalled", "resumed"] for approval in requests)
        fired.unlink()
