"""Editing and answering: what a reviewer changes or says is checked, versioned and reaches the agent as it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User

from approvals import services
from approvals.errors import InvalidVerdict, MayNotDecide, NotAuthorised, StaleVersion
from approvals.models import Approval, AuditEvent, Decision, PolicyVersion, ProposalVersion
from approvals.proposal.canonical import canonicalise, digest_of
from approvals.reading import for_runs
from approvals.record import audit
from approvals.services import Circumstances
from approvals.services.requesting import ProgramRequest, request_approval
from console.clock import database_now
from console.models import OutboxEntry
from tests.approvals.conftest import REFUND, answer

Opener = Callable[..., Approval]
LESS = REFUND | {"amount": "40.00"}


def decide(approval: Approval, reviewer: User, verdict: str = "approve", **changes: Any) -> Decision:
    approval.refresh_from_db()
    given = answer(approval, verdict, **changes)
    return services.decide(approval_id=approval.pk, reviewer=reviewer, given=given)


def edit(approval: Approval, reviewer: User, **changes: Any) -> Decision:
    return decide(approval, reviewer, "edit", **{"edited_arguments": LESS} | changes)


def test_an_edit_is_a_new_version_with_its_own_bytes_and_sentence(open_one: Opener, alice: User) -> None:
    approval = open_one()
    proposed = approval.digest
    decision = edit(approval, alice)
    approval.refresh_from_db()
    assert (approval.status, approval.version, approval.tool) == ("pending", 2, "issue_refund")
    assert approval.digest == digest_of(canonicalise("issue_refund", LESS)) == digest_of(bytes(approval.canonical))
    assert approval.summary == "Refund 40.00 EUR to order 8801"
    assert (decision.version, decision.digest) == (1, proposed)
    assert (decision.for_version, decision.for_digest) == (2, approval.digest)
    versions = ProposalVersion.objects.order_by("version").values_list(
        "version", "reason", "digest", "made_by__username"
    )
    assert list(versions) == [(1, "proposed", proposed, None), (2, "edited", approval.digest, "alice")]
    body = AuditEvent.objects.get(kind="approval.voted").body
    assert (body["version"], body["digest"]) == (2, approval.digest)
    assert (body["shown_version"], body["shown_digest"]) == (1, proposed)
    assert audit.verify().ok


def test_the_agent_is_told_of_the_edit_under_the_digest_that_it_had_proposed(
    open_one: Opener, alice: User, bob: User
) -> None:
    approval = open_one()
    proposed = approval.digest
    edit(approval, alice, note="half of it")
    decide(approval, bob)
    [settled] = for_runs.settled([approval.pk])
    assert settled.ending is not None
    approval.refresh_from_db()
    assert settled.ending.verdict == "edit"
    assert (settled.ending.proposed_digest, settled.ending.digest) == (proposed, approval.digest)
    assert (settled.ending.arguments, settled.ending.note) == (LESS, "half of it")


def test_the_agent_is_told_of_the_edit_also_when_the_last_one_to_agree_only_approved(
    open_one: Opener, terms: Any, alice: User, bob: User
) -> None:
    terms(needed=2)
    approval = open_one()
    edit(approval, alice)
    decide(approval, bob)
    [settled] = for_runs.settled([approval.pk])
    assert settled.ending is not None
    assert (settled.ending.verdict, settled.ending.arguments) == ("edit", LESS)


def test_only_the_edited_bytes_may_run_and_only_once_another_agreed(open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one()
    proposed = approval.digest
    edit(approval, alice)
    approval.refresh_from_db()
    with pytest.raises(NotAuthorised):
        services.authorise(approval_id=approval.pk, digest=approval.digest)
    decide(approval, bob)
    allowed = services.authorise(approval_id=approval.pk, digest=approval.digest)
    assert (allowed.arguments, allowed.decided_by) == (LESS, "bob")
    with pytest.raises(NotAuthorised):
        services.authorise(approval_id=approval.pk, digest=proposed)


@pytest.mark.parametrize("groups", [(), ("reviewer",)])
def test_a_change_into_what_needs_no_approval_needs_nobody_besides(
    groups: tuple[str, ...], open_one: Opener, terms: Any, alice: User
) -> None:
    needs_nobody = {"outcome": "allow", "groups": groups, "needed": 2, "four_eyes": ("requester", "editor")}
    terms(by=lambda facts: needs_nobody if facts.arguments == LESS else {})
    approval = open_one()
    decision = edit(approval, alice)
    approval.refresh_from_db()
    assert (approval.status, approval.version, decision.for_digest) == ("decided", 2, approval.digest)
    assert OutboxEntry.objects.get(kind="decided").payload["decision_id"] == decision.pk
    assert services.authorise(approval_id=approval.pk, digest=approval.digest).arguments == LESS
    terms(four_eyes=("requester", "editor"))
    with pytest.raises(NotAuthorised):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (REFUND, "edited_arguments"),  # nothing changed
        (REFUND | {"amount": "40"}, "edited_arguments.amount"),
        (REFUND | {"amount": 40}, "edited_arguments.amount"),
        ({"order_id": "8801"}, "edited_arguments.amount"),
        (REFUND | {"to_account": "DE99"}, "edited_arguments.to_account"),
        (REFUND | {"reason": "x" * 300_000}, "edited_arguments"),
        (REFUND | {"reason": "a\x00b"}, "edited_arguments.reason"),
        (REFUND | {"reason": "\ud800"}, "edited_arguments.reason"),
    ],
)
def test_an_edit_is_checked_like_the_proposal(
    arguments: dict[str, Any], path: str, open_one: Opener, alice: User
) -> None:
    approval = open_one()
    with pytest.raises(InvalidVerdict) as told:
        edit(approval, alice, edited_arguments=arguments)
    assert told.value.errors[0]["path"] == path
    approval.refresh_from_db()
    assert (approval.status, approval.version, Decision.objects.count()) == ("pending", 1, 0)
    assert ProposalVersion.objects.count() == 1


def test_an_edit_of_a_tool_that_is_not_registered_is_refused(open_one: Opener, alice: User) -> None:
    approval = open_one(tool="wire_money")
    with pytest.raises(InvalidVerdict) as told:
        edit(approval, alice)
    assert "not registered" in told.value.errors[0]["message"]


def test_a_programs_edit_is_checked_by_its_schema(open_one: Opener, alice: User, bob: User) -> None:
    schema = {"type": "object", "properties": {"seats": {"type": "integer", "maximum": 8}}, "required": ["seats"]}
    approval = open_one(source="program", tool="book", arguments={"seats": 2}, arguments_schema=schema)
    with pytest.raises(InvalidVerdict) as told:
        edit(approval, alice, edited_arguments={"seats": 9})
    assert told.value.errors[0]["path"] == "edited_arguments.seats"
    edit(approval, alice, edited_arguments={"seats": 8})
    decide(approval, bob)
    assert services.authorise(approval_id=approval.pk, digest=approval.digest).arguments == {"seats": 8}


def test_who_saw_the_version_before_the_edit_is_told_to_read_again(
    open_one: Opener, terms: Any, alice: User, bob: User
) -> None:
    terms(needed=2)
    approval = open_one()
    shown = answer(approval)
    edit(approval, alice)
    with pytest.raises(StaleVersion) as told:
        services.decide(approval_id=approval.pk, reviewer=bob, given=shown)
    assert told.value.current_version == 2


def test_an_edit_stands_under_the_terms_of_its_own_arguments(
    open_one: Opener, terms: Any, alice: User, bob: User
) -> None:
    terms(by=lambda facts: {"needed": 2, "risk": "high"} if facts.arguments["amount"] > "80" else {"risk": "low"})
    approval = open_one(risk="low")
    assert (approval.needed, approval.risk) == (2, "high")
    edit(approval, alice)
    approval.refresh_from_db()
    assert (approval.status, approval.needed, approval.risk) == ("decided", 1, "low")
    back = open_one(arguments=LESS)
    edit(back, bob, edited_arguments=REFUND)
    back.refresh_from_db()
    assert (back.status, back.needed, back.risk) == ("pending", 2, "high")  # raised: one person is not enough now


@pytest.mark.parametrize(
    ("asks", "rule"), [({"fresh_sign_in_minutes": 5}, "recent-sign-in"), ({"dwell_seconds": 60}, "dwell")]
)
def test_an_edit_needs_the_sign_in_and_the_look_that_its_own_arguments_need(
    asks: dict[str, int], rule: str, open_one: Opener, terms: Any, alice: User
) -> None:
    terms(by=lambda facts: asks if facts.arguments["amount"] == REFUND["amount"] else {})
    approval = open_one(arguments=LESS)
    given = answer(approval, "edit", edited_arguments=REFUND)
    now = database_now()
    long_ago = {"signed_in_at": now - timedelta(hours=9), "shown_at": now - timedelta(seconds=5)}
    with pytest.raises(MayNotDecide) as told:
        services.decide(
            approval_id=approval.pk, reviewer=alice, given=given, circumstances=Circumstances("page", **long_ago)
        )
    assert told.value.rule == rule
    approval.refresh_from_db()
    assert (approval.status, approval.version) == ("pending", 1)
    enough = {"signed_in_at": now, "shown_at": now - timedelta(seconds=61)}
    services.decide(approval_id=approval.pk, reviewer=alice, given=given, circumstances=Circumstances("page", **enough))


def test_an_edit_into_what_the_policy_denies_is_refused(open_one: Opener, terms: Any, alice: User) -> None:
    terms(by=lambda facts: {"outcome": "deny" if facts.arguments["amount"] == "40.00" else "ask"})
    with pytest.raises(InvalidVerdict, match="never allows"):
        edit(open_one(), alice)


def test_an_edit_into_what_takes_no_edit_is_refused_before_anybody_agrees_to_it(
    open_one: Opener, terms: Any, alice: User
) -> None:
    narrow = {"verdicts": ("approve", "reject")}
    terms(by=lambda facts: narrow if facts.arguments["amount"] == LESS["amount"] else {})
    approval = open_one()
    with pytest.raises(InvalidVerdict, match="takes no change"):
        edit(approval, alice)
    approval.refresh_from_db()
    assert (approval.status, approval.version) == ("pending", 1)


def test_an_edit_stands_under_the_rule_that_its_bytes_are_asked_of_again(alice: User, bob: User) -> None:
    rules = [
        {"name": "large", "condition": "args.amount * 2.0 > 100.0", "needed": 2},  # no answer for whole numbers
        {"name": "small"},
    ]
    PolicyVersion.objects.create(version=1, rules=rules, state="active", note="x", made_by=bob)
    asked = ProgramRequest(
        title="Pay",
        tool="pay",
        arguments={"amount": 10.5},
        external_id="1",
        deliver_to={"temporal": {"workflow_id": "w", "signal": "s"}},
        arguments_schema={},
        verdicts=(),
        risk="low",
        agent_words="",
        audience=(),
        due_at=None,
    )
    approval, _ = request_approval(asked=asked, requested_by=bob)
    with pytest.raises(InvalidVerdict, match="fail-safe"):
        edit(approval, alice, edited_arguments={"amount": 30.0})  # its bytes say 30
    approval.refresh_from_db()
    assert (approval.status, approval.terms["rule"]) == ("pending", "small")


def test_an_answer_reaches_the_agent_in_place_of_the_tools_result(open_one: Opener, alice: User) -> None:
    approval = open_one()
    decide(approval, alice, "respond", answer={"refunded": "already", "by": "phone"})
    [settled] = for_runs.settled([approval.pk])
    assert settled.ending is not None
    assert (settled.ending.verdict, settled.ending.answer) == ("respond", {"refunded": "already", "by": "phone"})
    with pytest.raises(NotAuthorised, match="verdict was respond"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


@pytest.mark.parametrize("given", [None, "", "x" * 300_000, float("nan"), ["\x00"], "\ud800"])
def test_an_answer_that_cannot_be_kept_is_refused(given: Any, open_one: Opener, alice: User) -> None:
    with pytest.raises(InvalidVerdict) as told:
        decide(open_one(), alice, "respond", answer=given)
    assert told.value.errors[0]["path"] == "answer"


def test_what_the_policy_allows_or_denies_is_decided_at_once_and_on_the_record(open_one: Opener, terms: Any) -> None:
    terms(by=lambda facts: {"outcome": "deny" if facts.arguments["amount"] == "40.00" else "allow"})
    allowed, denied = open_one(), open_one(arguments=LESS)
    assert [Approval.objects.get(pk=one.pk).status for one in (allowed, denied)] == ["decided", "decided"]
    columns = ("by__username", "verdict", "source", "channel")
    decisions = Decision.objects.order_by("at", "pk").values_list(*columns)
    assert list(decisions) == [
        (None, "approve", "policy:test@test/1", "policy"),
        (None, "reject", "policy:test@test/1", "policy"),
    ]
    assert services.authorise(approval_id=allowed.pk, digest=allowed.digest).decided_by == "the policy"
    with pytest.raises(NotAuthorised):
        services.authorise(approval_id=denied.pk, digest=denied.digest)
    assert AuditEvent.objects.filter(kind="approval.decided").count() == 2
    assert [one.ending and one.ending.verdict for one in for_runs.settled([allowed.pk, denied.pk])] == [
        "approve",
        "reject",
    ]
