"""What is shown is by the database's clock, whatever the clock of the process says that draws it."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.template import Context, Template
from django.test import Client
from django.test.utils import CaptureQueriesContext

from console import clock
from console.environment import PROJECT
from console.live.listener import LiveListener, Mailbox

#: whose own clock is asked, and why that is right
OWN_CLOCK = {
    "console/clock.py": "where the database has not said its time yet",
    "orchestration/webhook_gateway.py": "a signature's moment, which its receiver holds against its own clock",
    "console/set_up.py": "against the moment at which this machine wrote a file",
    "approvals/record/heads.py": "kept outside the database, to be held against it",
    "dataplane/assets.py": "for Prefect, whose events of some days it asks for",
    "dataplane/deployments.py": "for Prefect, whose events of a day it asks for",
    "dataplane/flow_service.py": "differences within one process",
    "dataplane/prefect_gateway.py": "for Prefect, by whose clock its runs begin",
    "dataplane/refreshes/follow.py": "against Prefect's moments",
    "dataplane/refreshes/watch.py": "differences within one process, and against Prefect's moments",
}


@pytest.fixture
def three_days_ahead(db: None, monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The database is three days ahead of this process; return its time."""
    monkeypatch.setattr(clock, "_known", None)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION signalbox_now() RETURNS timestamptz LANGUAGE sql STABLE"
            " AS $$SELECT now() + interval '3 days'$$"
        )
    return clock.database_now()


def drawn(text: str, **context: Any) -> str:
    return Template("{% load signalbox %}" + text).render(Context(context))


def test_how_long_ago_and_how_soon_is_told_by_the_databases_clock(three_days_ahead: datetime) -> None:
    assert "4 min ago" in drawn("{% when moment %}", moment=three_days_ahead - timedelta(minutes=4, seconds=20))
    assert "in 4 min" in drawn("{% when moment %}", moment=three_days_ahead + timedelta(minutes=4, seconds=50))
    assert "Due in 4 min" in drawn("{% due moment %}", moment=three_days_ahead + timedelta(minutes=4, seconds=50))
    assert "Due" not in drawn("{% due moment %}", moment=three_days_ahead + timedelta(days=2))


def test_a_page_says_by_the_databases_clock_when_it_was_made(three_days_ahead: datetime, alice: User) -> None:
    client = Client()
    client.force_login(alice)
    text = client.get("/inbox/").content.decode()
    since = float(text.split('data-live-since="', 1)[1].split('"', 1)[0])
    assert 0 <= since - three_days_ahead.timestamp() < 600


def test_the_time_costs_a_page_no_query_and_is_asked_once_for_many(three_days_ahead: datetime) -> None:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        first = clock.shown_now()
        known = clock._known
        moments = [clock.shown_now() for _ in range(100)]
    assert not captured.captured_queries and clock._known is known
    assert first <= moments[0] and moments == sorted(moments)


def test_without_the_database_it_is_counted_on_from_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        def execute(self, query: str) -> Any:
            raise psycopg.OperationalError("gone")

    monkeypatch.setattr(clock, "connection", SimpleNamespace(connection=Away()))
    monkeypatch.setattr(clock, "_known", None)
    assert abs(clock.shown_now() - datetime.now(UTC)) < timedelta(minutes=10)
    clock.learn(datetime(2031, 5, 1, tzinfo=UTC))
    monkeypatch.setattr(clock, "KNOWN_FOR_SECONDS", -1)
    assert clock.shown_now() - datetime(2031, 5, 1, tzinfo=UTC) < timedelta(minutes=10)


def test_what_was_announced_before_a_page_subscribes_is_told_by_the_same_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a web process whose clock is an hour behind missed it, and one an hour ahead was told nothing more."""
    monkeypatch.setattr(clock, "_known", None)
    clock.learn(datetime.now(UTC) + timedelta(hours=1))
    listener, mailbox = LiveListener(), Mailbox()
    listener._listens_since = clock.reckoned().timestamp() - 10
    since = clock.shown_now().timestamp()
    listener.hand_on('{"topic": "inbox"}')
    listener.subscribe(mailbox, ["inbox"], since)
    assert mailbox._topics == {"inbox": None} and not mailbox._resync


def test_no_process_asks_its_own_clock_but_where_that_is_right() -> None:
    found = set()
    for app in ("console", "approvals", "orchestration", "dataplane"):
        for path in (PROJECT / app).rglob("*.py"):
            names = {
                ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
            }
            if names & {"datetime.now", "datetime.utcnow", "timezone.now", "time.time", "date.today"}:
                found.add(str(path.relative_to(PROJECT)))
    assert found == OWN_CLOCK.keys()
