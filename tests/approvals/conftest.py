from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals import services
from approvals.models import Approval
from approvals.policies import asking
from approvals.proposal.canonical import canonicalise, digest_of
from approvals.proposal.terms import Facts, Terms
from approvals.services import Answer, Proposal

REFUND = {"order_id": "8801", "amount": "89.40", "currency": "EUR", "reason": "broken"}


@pytest.fixture
def open_one(db: None) -> Callable[..., Approval]:
    """Open approvals; each call opens another one unless it names its `external_id`."""
    numbers = count(1)  # several threads may open at once

    def open_one(*, arguments: Any = None, requested_by: User | None = None, **changes: Any) -> Approval:
        opened = next(numbers)
        canonical = canonicalise(changes.pop("tool", "issue_refund"), arguments or REFUND)
        fields: dict[str, Any] = {
            "external_id": f"run-1:{opened}",
            "kind": "action",
            "canonical": canonical,
            "digest": digest_of(canonical),
            "summary": "Refund 89.40 EUR to order 8801",
            "agent_words": "The parcel was broken.",
            "arguments_schema": {},
            "risk": "high",
            "agent": "support",
            "run_id": "run-1",
            "interrupt_id": f"interrupt-{opened}",
            "checkpoint_id": "c1",
            "requested_by_id": requested_by.pk if requested_by else None,
        }
        return services.open_approval(Proposal(**fields | changes))

    return open_one


@pytest.fixture
def terms(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the policy give terms of one's own to every proposal; may be called again to change it."""

    def give(by: Callable[[Facts], dict[str, Any]] | None = None, **changes: Any) -> None:
        def terms_for(facts: Facts) -> Terms:
            asked = {"rule": "test", "policy_version": "test/1", "risk": facts.risk} | changes
            return Terms(**asked | (by(facts) if by else {}))

        monkeypatch.setattr(asking, "terms_for", terms_for)

    return give


def answer(approval: Approval, verdict: str = "approve", **changes: Any) -> Answer:
    """Return an answer to exactly what is shown."""
    fields: dict[str, Any] = {"verdict": verdict, "version": approval.version, "digest": approval.digest}
    return Answer(**fields | changes)
