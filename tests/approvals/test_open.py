"""Opening an approval: once per interrupt, with exactly the bytes that were hashed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from approvals import services
from approvals.errors import NotAuthorised
from approvals.models import Approval, AuditEvent
from approvals.proposal.canonical import canonicalise, digest_of
from tests.at_once import at_once

Opener = Callable[..., Approval]


def test_an_opened_approval_holds_the_bytes_the_policy_and_the_ladder(open_one: Opener) -> None:
    approval = open_one()
    approval.refresh_from_db()
    assert digest_of(bytes(approval.canonical)) == approval.digest
    assert (approval.tool, approval.status, approval.version) == ("issue_refund", "pending", 1)
    assert (approval.policy_version, approval.audience, approval.verdicts, approval.needed) == (
        *("shipped/2", ["reviewer"], ["approve", "edit", "reject", "respond"], 1),
    )
    assert [rung["step"] for rung in approval.ladder] == ["remind", "escalate", "expire"]
    times = [datetime.fromisoformat(rung["at"]) - approval.opened_at for rung in approval.ladder]
    assert times == [timedelta(hours=24), timedelta(hours=48), timedelta(hours=72)]
    assert approval.due_at == datetime.fromisoformat(approval.ladder[-1]["at"])


def test_the_same_interrupt_opens_one_approval_however_often(open_one: Opener) -> None:
    first = open_one(external_id="run-1:a")
    assert open_one(external_id="run-1:a") == first
    assert Approval.objects.count() == 1
    assert AuditEvent.objects.filter(kind="approval.opened").count() == 1


def test_a_repetition_does_not_touch_what_was_decided(open_one: Opener) -> None:
    first = open_one(external_id="run-1:a")
    Approval.objects.filter(pk=first.pk).update(status="withdrawn")
    again = open_one(external_id="run-1:a")
    assert (again.pk, again.status) == (first.pk, "withdrawn")


def test_bytes_that_do_not_match_their_digest_open_nothing(open_one: Opener) -> None:
    for changes in ({"digest": "0" * 64}, {"canonical": canonicalise("issue_refund", {"amount": "1.00"})}):
        with pytest.raises(NotAuthorised, match="digest"):
            open_one(**changes)
    assert not Approval.objects.exists()
    assert not AuditEvent.objects.exists()


def test_the_tool_is_read_from_the_bytes_and_not_told(open_one: Opener) -> None:
    assert open_one(tool="drop_tables", summary="Refund 1.00 EUR").tool == "drop_tables"


def test_a_long_summary_says_that_it_is_cut_and_long_words_are_kept(open_one: Opener) -> None:
    approval = open_one(summary="s" * 1900, agent_words="w" * 20_000)
    approval.refresh_from_db()
    assert (len(approval.summary), len(approval.agent_words)) == (500, 20_000)
    assert approval.summary.endswith("s… (cut: it has 1,900 characters; the arguments are complete)")
    assert approval.versions.get().summary == approval.summary
    assert open_one(summary="s" * 500).summary == "s" * 500


def test_what_the_policy_decides_at_once_stands_in_the_record_after_its_opening(open_one: Opener, terms: Any) -> None:
    terms(outcome="deny")
    approval = open_one()
    kinds = AuditEvent.objects.filter(subject=approval.pk).order_by("seq").values_list("kind", flat=True)
    assert (approval.status, list(kinds)) == ("decided", ["approval.opened", "approval.decided"])
    assert AuditEvent.objects.get(kind="approval.decided").body["source"] == approval.decisions.get().source


@pytest.mark.django_db(transaction=True)
def test_many_attempts_at_once_open_one(open_one: Opener) -> None:
    opened = at_once(*[lambda: open_one(external_id="run-1:a").pk] * 8)
    assert len(opened) == 8
    assert set(opened) == {Approval.objects.get().pk}
    assert AuditEvent.objects.filter(kind="approval.opened").count() == 1


def test_what_is_authorised_is_read_again_from_the_bytes(open_one: Opener) -> None:
    with pytest.raises(NotAuthorised, match="no approval"):
        services.authorise(approval_id="apr_none", digest="0" * 64)
    approval = open_one()
    with pytest.raises(NotAuthorised, match="pending"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)
