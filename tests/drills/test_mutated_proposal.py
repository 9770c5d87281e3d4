"""Can the judge of the drill fail? Records that differ by one digit must be seen."""

from __future__ import annotations

from typing import Any

import pytest

from approvals.proposal.canonical import canonicalise, digest_of
from drills.mutated_proposal import differences, forged, other_tool, refund_digest, sha256, written

REFUND: dict[str, Any] = {"order_id": "12", "amount": "16.00", "currency": "EUR", "reason": "Späte Lieferung: “§ 4”"}
SHOP = {**REFUND, "order_id": 12, "id": 1, "created_at": "2026-11-24"}
APPROVED = digest_of(canonicalise("issue_refund", REFUND))
EFFECT = {"digest": APPROVED}
DECISION = {"for_digest": APPROVED, "verdict": "approve"}


def test_its_own_digest_is_the_products() -> None:
    assert written("issue_refund", REFUND) == canonicalise("issue_refund", REFUND)
    assert refund_digest(SHOP) == sha256(written("issue_refund", REFUND)) == APPROVED


def test_what_ran_as_approved_has_nothing_wrong() -> None:
    assert differences(APPROVED, [SHOP], [EFFECT], [DECISION]) == []


@pytest.mark.parametrize(
    ("refunds", "effects", "decisions"),
    [
        ([{**SHOP, "amount": "16.01"}], [EFFECT], [DECISION]),
        ([{**SHOP, "order_id": 13}], [EFFECT], [DECISION]),
        ([{**SHOP, "reason": "Another"}], [EFFECT], [DECISION]),
        ([SHOP, SHOP], [EFFECT], [DECISION]),
        ([], [EFFECT], [DECISION]),
        ([SHOP], [], [DECISION]),
        ([SHOP], [{"digest": "0" * 64}], [DECISION]),
        ([SHOP], [EFFECT], []),
        ([SHOP], [EFFECT], [{**DECISION, "for_digest": "0" * 64}]),
    ],
)
def test_every_difference_is_seen(refunds: list[Any], effects: list[Any], decisions: list[Any]) -> None:
    assert differences(APPROVED, refunds, effects, decisions)


def test_a_forgery_is_one() -> None:
    canonical = written("issue_refund", REFUND)
    assert len({sha256(one) for one in (canonical, forged(canonical), other_tool(canonical))}) == 3
    assert len(forged(canonical)) == len(canonical)
