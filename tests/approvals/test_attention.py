"""Guarding the reviewer: figures, haste, and tests of attention that nobody can tell apart and nothing executes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from approvals import services
from approvals.errors import InvalidChange, NotAuthorised, NotTheirs
from approvals.models import Approval, AuditEvent, Decision, StandingApproval
from approvals.policies import asking
from approvals.policies.policy import Policy
from approvals.proposal.terms import Facts, Terms
from approvals.reading import attention
from approvals.reading.policy_preview import preview
from console import outbox
from console.clock import database_now
from console.models import OutboxEntry
from orchestration.models import Run
from tests.approvals.conftest import answer
from tests.at_once import at_once

Opener = Callable[..., Approval]
REFUND = {"order_id": "8801", "amount": "9999.00", "currency": "EUR", "reason": "because I say so"}


def _decide(approval: Approval, by: User, verdict: str = "approve", **changes: Any) -> Decision:
    note = "no" if verdict == "reject" else ""
    return services.decide(approval_id=approval.pk, reviewer=by, given=answer(approval, verdict, note=note), **changes)


def _seen(seconds: int) -> services.Circumstances:
    return services.Circumstances("page", shown_at=database_now() - timedelta(seconds=seconds))


def _seed(by: User, **changes: Any) -> Approval:
    fields: dict[str, Any] = {
        "agent": "clerk",
        "tool": "transfer",
        "arguments": {"amount": "9999.00"},
        "summary": "Transfer 9,999.00 EUR to an unknown account",
        "agent_words": "The customer is in a hurry.",
        "requested_by": by,
    }
    return services.seed_attention_check(by=by, **fields | changes)


def test_the_figures_are_per_person_and_tool_and_the_median_is_the_look(
    open_one: Opener, alice: User, bob: User
) -> None:
    for seconds in (2, 4, 60):
        _decide(open_one(), alice, circumstances=_seen(seconds))
    _decide(open_one(), alice, "reject", circumstances=_seen(4))
    asked = open_one(tool="send_mail")
    Approval.objects.filter(pk=asked.pk).update(opened_at=database_now() - timedelta(minutes=3))
    _decide(asked, alice)
    _decide(open_one(), bob)
    first, second = attention.report(None)
    assert (first.username, first.total.decided, first.total.approved, first.total.share) == ("alice", 5, 4, 80)
    assert [(one.tool, one.decided, one.approved) for one in first.tools] == [
        ("issue_refund", 4, 3),
        ("send_mail", 1, 1),
    ]
    assert 4000 <= first.tools[0].median_ms < 5000
    assert first.tools[1].time_words.startswith("3 min")
    assert (second.username, second.total.decided) == ("bob", 1)
    assert [one.username for one in attention.report(bob)] == ["bob"]


def test_what_was_decided_in_advance_by_the_policy_or_long_ago_is_nobodys_habit(
    open_one: Opener, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = Terms(rule="t", policy_version="t/1", risk="low")
    monkeypatch.setattr(asking, "terms_for", lambda facts: terms)
    first = open_one()
    given = [{"path": path, "is": value} for path, value in json.loads(bytes(first.canonical))["arguments"].items()]
    until = database_now() + timedelta(days=1)
    services.make_standing(
        approval_id=first.pk,
        digest=first.digest,
        by=alice,
        given=given,
        reason="x",
        uses_at_most=9,
        expires_at=until,
    )
    open_one()
    assert StandingApproval.objects.get().uses == 1
    assert attention.report(None) == []
    _decide(first, alice)
    monkeypatch.setattr(attention, "DAYS", 0)
    assert attention.report(None) == []


def test_the_report_takes_two_queries_however_many_people_there_are(
    open_one: Opener, alice: User, bob: User, django_assert_num_queries: Any
) -> None:
    for person in (alice, bob):
        _decide(open_one(), person)
    with django_assert_num_queries(2):
        assert len(attention.report(None)) == 2


def test_approving_faster_than_anybody_reads_is_told_to_who_does_it(
    open_one: Opener, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(attention, "HASTE_APPROVALS", 3)
    for verdict in ("approve", "approve", "reject"):
        _decide(open_one(), alice, verdict)
    assert attention.haste_of(alice) is None
    _decide(open_one(), alice)
    with django_assert_num_queries(1):
        haste = attention.haste_of(alice)
    assert haste == attention.Haste(3, 2)
    assert attention.haste_of(bob) is None
    for _ in range(3):  # in advance, which takes no reading
        approval = open_one()
        Decision.objects.create(
            approval=approval, by=bob, verdict="approve", source="standing:std_1", version=1, digest=approval.digest,
            for_version=1, for_digest=approval.digest, channel="standing", body_digest="",
        )  # fmt: skip
    assert attention.haste_of(bob) is None


def test_a_test_of_attention_reaches_no_engine_and_is_never_executed(ada: User, alice: User) -> None:
    seeded = _seed(ada)
    _decide(seeded, alice)
    seeded.refresh_from_db()
    assert (seeded.status, seeded.is_seeded) == ("decided", True)
    assert not OutboxEntry.objects.exists()
    assert outbox.CHANNEL  # the relay has nothing to hear of
    with pytest.raises(NotAuthorised, match="test of attention"):
        services.authorise(approval_id=seeded.pk, digest=seeded.digest)
    opened = AuditEvent.objects.get(kind="approval.opened")
    assert (opened.body["seeded"], opened.body["seeded_by"]) == (True, "ada")


def test_nobody_but_admins_can_tell_it_from_a_real_request(ada: User, alice: User, open_one: Opener) -> None:
    seeded, real = _seed(ada), open_one(agent="clerk", tool="transfer", requested_by=ada, risk="medium")
    assert attention.attention_of(alice, seeded) is None
    told = attention.attention_of(ada, seeded)
    assert told is not None and "Only admins" in told.words
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    shapes = []
    for approval in (seeded, real):
        for path in (f"/api/v1/approvals/{approval.pk}", f"/approvals/{approval.pk}/", "/inbox/"):
            page = client.get(path).content.decode()
            assert "seeded" not in page and "attention" not in page.lower()
        shapes.append(client.get(f"/api/v1/approvals/{approval.pk}").json())
    assert shapes[0].keys() == shapes[1].keys()
    for field in ("status", "kind", "risk", "verdicts", "audience", "quorum", "requested_by", "agent", "tool"):
        assert shapes[0][field] == shapes[1][field], field


@pytest.mark.parametrize(("verdict", "tone", "caught"), [("reject", "ok", 1), ("approve", "warn", 0)])
def test_afterwards_the_person_is_told_kindly_and_the_rate_is_kept(
    ada: User, alice: User, bob: User, verdict: str, tone: str, caught: int
) -> None:
    seeded = _seed(ada)
    _decide(seeded, alice, verdict)
    seeded.refresh_from_db()
    told, other = attention.attention_of(alice, seeded), attention.attention_of(bob, seeded)
    assert told is not None and told.tone == tone
    assert other is not None and ("alice caught it" in other.words) == bool(caught)
    (one,) = attention.report(alice)
    assert (one.checks, one.caught, one.total.decided) == (1, caught, 0), "it is no work, only attention"


def test_a_vote_on_an_open_test_gives_it_away_to_nobody(
    ada: User, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "terms_for", lambda facts: Terms(rule="t", policy_version="t/1", needed=2))
    seeded = _seed(ada)
    _decide(seeded, alice)
    seeded.refresh_from_db()
    assert seeded.status == "pending"
    assert attention.attention_of(alice, seeded) is None
    assert attention.report(alice) == []


def test_a_test_of_attention_expires_though_no_workflow_waits_for_it(ada: User) -> None:
    seeded = _seed(ada)
    assert not services.climb_overdue()
    past = database_now() - timedelta(seconds=1)
    ladder = [{"step": "expire", "at": past.isoformat()}]
    Approval.objects.filter(pk=seeded.pk).update(ladder=ladder, due_at=past)
    assert services.climb_overdue()
    seeded.refresh_from_db()
    assert seeded.status == "expired"
    assert not services.climb_overdue()
    assert not OutboxEntry.objects.exists()  # nobody waits for it


def test_only_admins_make_them_and_never_where_the_policy_decides_alone(
    ada: User, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotTheirs):
        _seed(alice)
    with pytest.raises(InvalidChange, match="sentence"):
        _seed(ada, summary="")
    with pytest.raises(InvalidChange, match="exactly"):
        _seed(ada, arguments={"amount": 2**60})

    def denies(facts: Facts) -> Terms:
        return Terms(rule="never", policy_version="t/1", outcome="deny")

    monkeypatch.setattr(asking, "terms_for", denies)
    with pytest.raises(InvalidChange, match="nobody would be asked"):
        _seed(ada)
    assert not Approval.objects.exists()


def test_the_command_tells_a_registered_tool_as_the_tool_does(ada: User) -> None:
    said = StringIO()
    call_command(
        *("seed_attention_check", "support", "issue_refund", "--by", "ada", "--arguments", json.dumps(REFUND)),
        stdout=said,
    )
    seeded = Approval.objects.get(pk=said.getvalue().strip())
    assert "9999.00" in seeded.summary
    assert seeded.arguments_schema["properties"]
    assert seeded.run_id.startswith("support-")
    for wrong in (["--by", "nobody"], ["--by", "ada", "--arguments", "[]"], ["--by", "ada", "--arguments", "{"]):
        with pytest.raises(CommandError):
            call_command("seed_attention_check", "support", "issue_refund", *wrong)
    with pytest.raises(CommandError, match="does not take"):
        call_command("seed_attention_check", "support", "issue_refund", "--by", "ada", "--arguments", "{}")


@pytest.mark.django_db(transaction=True)
def test_a_test_of_attention_is_decided_once_like_any_other(ada: User, alice: User, bob: User) -> None:
    from approvals.errors import AlreadyClosed

    seeded = _seed(ada)

    def click(person: User) -> bool:
        try:
            return bool(_decide(seeded, person))
        except AlreadyClosed:
            return False

    assert sorted(at_once(lambda: click(alice), lambda: click(bob))) == [False, True]


def test_no_statistic_counts_a_test_of_attention_and_no_link_leads_to_a_run_that_is_not_there(
    ada: User, alice: User, open_one: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "HASTE_APPROVALS", 1)
    seeded, without, real = _seed(ada), open_one(run_id="run-gone"), open_one(run_id="run-there")
    Run.objects.create(id="run-there", agent="support", input={}, input_digest="")
    client = Client()
    client.force_login(alice)
    for approval, is_there in ((seeded, False), (without, False), (real, True)):
        page = client.get(f"/approvals/{approval.pk}/", headers={"HX-Request": "true"}).content.decode()
        assert approval.run_id in page and approval.checkpoint_id in page
        assert (f'href="/runs/{approval.run_id}/' in page) is is_there
    same = Policy("t", [], {})
    assert preview(same, same).open_count == 2
    _decide(seeded, alice)
    assert attention.haste_of(alice) is None
    assert preview(same, same).decided_count == 0
    _decide(real, alice)
    assert attention.haste_of(alice) is not None
