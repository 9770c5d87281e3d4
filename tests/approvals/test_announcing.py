"""Whatever changes a request is announced to open pages with the change's own commit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User

from approvals import services
from approvals.errors import StaleTerms
from approvals.models import Approval
from console.database import conninfo
from console.live.announce import CHANNEL
from tests.approvals.conftest import answer
from tests.approvals.test_ladder import age

Opener = Callable[..., Approval]


@pytest.fixture
def heard(transactional_db: None) -> Iterator[Callable[[], set[str]]]:
    """Return the topics that were announced since the last call."""
    with psycopg.connect(conninfo("signalbox test"), autocommit=True) as ear:
        ear.execute(f"LISTEN {CHANNEL}")

        def topics() -> set[str]:
            ear.execute("SELECT 1")  # what was sent before comes with the answer
            return {json.loads(one.payload)["topic"] for one in ear.notifies(timeout=0)}

        yield topics


@pytest.mark.parametrize("what", ["votes", "decides", "terms", "remind", "expire", "withdraw"])
def test_pages_hear_of_every_change_with_its_commit(
    what: str, heard: Callable[[], set[str]], open_one: Opener, terms: Any, alice: User
) -> None:
    terms(needed=2 if what == "votes" else 1)
    heard()  # of people and their roles
    approval = open_one()
    assert heard() == {"inbox", "runs", f"approval:{approval.pk}", "run:run-1"}
    if what in ("votes", "decides"):
        services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    elif what == "terms":
        terms(may_bulk=False)
        with pytest.raises(StaleTerms):
            services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    elif what == "withdraw":
        services.withdraw(run_id="run-1", reason="the run failed", actor="worker")
    else:
        age(approval, 25 if what == "remind" else 73)
        services.climb([approval.pk])
    assert heard() == {"inbox", f"approval:{approval.pk}", "run:run-1"}
