from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from django.contrib.auth.models import Group, User
from django.db import connections
from ulid import ULID

from approvals import services as approvals
from approvals.models import Approval
from approvals.policies import asking
from approvals.proposal.canonical import canonicalise, digest_of
from approvals.services import Answer, Proposal
from orchestration import temporal_gateway
from orchestration.models import Run
from stack import temporal as temporal_module
from stack.temporal import Temporal
from tests import session_postgres
from tests.fakes import FakeWorld

T = TypeVar("T")
EVENTS_AT_MOST = 60  # in a history before the server suggests a new one

INPUT = {"order_id": "8801", "message": "The parcel arrived broken."}
REFUND = {"order_id": "8801", "amount": "50.00", "currency": "EUR", "reason": "Damaged goods"}
EMAIL = {"to": "mara@customers.example", "subject": "Your order 8801", "body": "We have paid you back."}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the real server by its fixture, so that replays run without one."""
    for item in items:
        if "temporal" in getattr(item, "fixturenames", ()) and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engines)


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()


def make_run(**changes: Any) -> Run:
    """Record a run; its id is new, for the checkpoint tables are not emptied between tests."""
    fields: dict[str, Any] = {
        "id": f"support-{str(ULID()).lower()}",
        "agent": "support",
        "input": INPUT,
        "input_digest": "0" * 64,
    }
    return Run.objects.create(**fields | changes)


def reviewer(name: str = "alice") -> User:
    user, _ = User.objects.get_or_create(username=name)
    user.groups.add(Group.objects.get_or_create(name="reviewer")[0])
    return user


@pytest.fixture
def eyes_on_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every rule keep the agent's owner out."""
    usual = asking.terms_for
    monkeypatch.setattr(asking, "terms_for", lambda facts: replace(usual(facts), four_eyes=("owner",)))


def open_for(run: Run, tool: str = "issue_refund", arguments: Any = None, **changes: Any) -> Approval:
    """Open an approval of the run."""
    canonical = canonicalise(tool, arguments or (EMAIL if tool == "send_email" else REFUND))
    fields: dict[str, Any] = {
        "external_id": f"{run.pk}:{ULID()}",
        "kind": "action",
        "canonical": canonical,
        "digest": digest_of(canonical),
        "summary": "A refund",
        "agent_words": "",
        "arguments_schema": {},
        "risk": "high",
        "agent": run.agent,
        "run_id": run.pk,
        "interrupt_id": str(ULID()),
        "checkpoint_id": "",
        "requested_by_id": None,
    }
    return approvals.open_approval(Proposal(**fields | changes))


def decide(approval: Approval | str, verdict: str = "approve", note: str = "", by: User | None = None) -> Approval:
    """Let a reviewer decide exactly what is there."""
    found = Approval.objects.get(pk=approval if isinstance(approval, str) else approval.pk)
    given = Answer(verdict, found.version, found.digest, note or ("no" if verdict == "reject" else ""))
    approvals.decide(approval_id=found.pk, reviewer=by or reviewer(), given=given)
    found.refresh_from_db()
    return found


def go(work: Coroutine[Any, Any, T]) -> T:
    """Run async work from a test, and give back the database connections that its context opened."""

    async def tidily() -> T:
        try:
            return await work
        finally:
            connections.close_all()

    return asyncio.run(tidily())


@pytest.fixture(scope="session")
def temporal() -> Iterator[Temporal]:
    """One real server for the whole session; its histories are short, so that runs are continued early."""
    with pytest.MonkeyPatch.context() as patched:
        usual = temporal_module.dynamic_configuration
        patched.setattr(
            temporal_module,
            "dynamic_configuration",
            lambda time_skipping: usual(time_skipping) | {"limit.historyCount.suggestContinueAsNew": EVENTS_AT_MOST},
        )
        server = Temporal(session_postgres.HOME / "temporal for runs", time_skipping=True)
        server.start()
    with pytest.MonkeyPatch.context() as patched:  # what else starts meanwhile has the usual configuration
        patched.setattr(temporal_gateway, "_CALL", timedelta(seconds=60))  # it may be slow, and is not away
        yield server
    server.stop()
