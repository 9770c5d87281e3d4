"""Different people, not accounts: quorum, four eyes, and that both are asked again before the effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from approvals import services
from approvals.errors import AlreadyClosed, MayNotDecide, NotAuthorised, StaleTerms
from approvals.models import AccountPerson, Approval, AuditEvent, Decision, Delegation, ProposalVersion
from approvals.pages.request.card import card_for
from approvals.proposal import terms as terms_module
from approvals.proposal.terms import Terms
from approvals.reading import for_runs, reach, requests
from approvals.services import Circumstances
from console.clock import DatabaseNow, database_now
from tests.api_caller import Caller
from tests.approvals.conftest import REFUND, answer
from tests.page_client import signed_in

Opener = Callable[..., Approval]


def decide(approval: Approval, reviewer: User, verdict: str = "approve", **changes: Any) -> Decision:
    approval = Approval.objects.get(pk=approval.pk)
    reviewer = User.objects.get(pk=reviewer.pk)
    given = answer(approval, verdict, **changes)
    return services.decide(approval_id=approval.pk, reviewer=reviewer, given=given)


def status_of(approval: Approval) -> str:
    return Approval.objects.get(pk=approval.pk).status


def second_account(of: User, **fields: Any) -> User:
    twin = User.objects.create(username=f"{of.username}-2", **fields)
    twin.groups.add(Group.objects.get(name="reviewer"))
    return twin


def delegate(principal: User, to: User, **changes: Any) -> Delegation:
    now = database_now()
    window = {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=1), "made_by": principal}
    return Delegation.objects.create(principal=principal, delegate=to, **window | changes)


def test_two_people_must_agree_and_the_second_decides(open_one: Opener, terms: Any, alice: User, bob: User) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice)
    assert status_of(approval) == "pending"
    with pytest.raises(MayNotDecide) as told:
        decide(approval, alice)
    assert told.value.rule == "one-vote"
    with pytest.raises(NotAuthorised):
        services.authorise(approval_id=approval.pk, digest=approval.digest)
    decide(approval, bob)
    assert status_of(approval) == "decided"
    assert services.authorise(approval_id=approval.pk, digest=approval.digest).decided_by == "bob"
    assert list(AuditEvent.objects.order_by("seq").values_list("kind", flat=True)) == [
        "approval.opened",
        "approval.voted",
        "approval.decided",
    ]


def test_one_rejection_is_enough(open_one: Opener, terms: Any, alice: User, bob: User) -> None:
    terms(needed=3)
    approval = open_one()
    decide(approval, alice)
    decide(approval, bob, "reject", note="no")
    assert status_of(approval) == "decided"
    with pytest.raises(NotAuthorised, match="reject"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


@pytest.mark.parametrize("verdicts", [("approve", "reject"), ("reject", "approve")])
def test_whether_it_happened_is_open_until_enough_people_say_the_same(
    verdicts: tuple[str, str], open_one: Opener, terms: Any, alice: User, bob: User, ada: User
) -> None:
    terms(needed=2, groups=("reviewer", "admin"), verdicts=("approve", "reject"))
    question = open_one(kind="outcome")
    missing = "1 more person must say the same"
    different = f"They say different things, so it stays open: {missing}"
    for person, verdict, words in zip((alice, bob), verdicts, (missing, different), strict=True):
        decide(question, person, verdict)
        assert status_of(question) == "pending"
        shown = requests.whole_request(ada, question.pk)
        card = card_for(ada, shown)
        assert (card.missing_words, card.votes_words) == (words, "1 of 2 say the same")
        page = signed_in(ada).get(f"/approvals/{question.pk}/").content.decode()
        assert words in page and "1 of 2 say the same" in page and "one rejection is enough" not in page
        assert Caller(ada).get(f"approvals/{question.pk}").json()["quorum"] == {"needed": 2, "given": 1}
    with pytest.raises(NotAuthorised, match="pending"):
        services.authorise(approval_id=question.pk, digest=question.digest)
    assert "says that it happened" in page and "says that it did not happen" in page
    assert reach.stranded([question]) == {}
    decide(question, ada, "reject")
    assert status_of(question) == "decided"
    answered = services.authorise(approval_id=question.pk, digest=question.digest)
    assert (answered.verdict, answered.decided_by) == ("reject", "ada")


def test_who_has_agreed_may_not_take_it_back_by_rejecting(open_one: Opener, terms: Any, alice: User) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice)
    with pytest.raises(MayNotDecide):
        decide(approval, alice, "reject", note="changed my mind")


def test_a_delegate_gives_no_vote_that_was_given_already(open_one: Opener, terms: Any, alice: User, ada: User) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice)
    delegate(alice, ada)
    with pytest.raises(MayNotDecide) as told:
        decide(approval, ada)
    assert told.value.rule == "one-vote"


def test_an_edit_makes_the_earlier_votes_void(open_one: Opener, terms: Any, alice: User, bob: User) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice)
    decide(approval, bob, "edit", edited_arguments=REFUND | {"amount": "40.00"})
    assert status_of(approval) == "pending"  # bob speaks for version 2, alice spoke for version 1
    decide(approval, alice)
    assert status_of(approval) == "decided"


def test_where_the_editor_must_not_approve_somebody_else_has_to(
    open_one: Opener, terms: Any, alice: User, bob: User
) -> None:
    terms(needed=1, four_eyes=("requester", "editor"))
    approval = open_one()
    decide(approval, alice, "edit", edited_arguments=REFUND | {"amount": "40.00"})
    assert status_of(approval) == "pending"
    shown = requests.whole_request(bob, approval.pk)
    assert card_for(bob, shown).agreed == [], "who changed it does not count"
    with pytest.raises(MayNotDecide) as told:
        decide(approval, alice)
    assert told.value.rule == "four-eyes"
    decide(approval, bob)
    assert status_of(approval) == "decided"


@pytest.mark.parametrize("how", ["mail", "link"])
def test_a_second_account_is_no_second_person(how: str, open_one: Opener, terms: Any, alice: User) -> None:
    terms(needed=2)
    if how == "mail":
        User.objects.filter(pk=alice.pk).update(email="alice@example.org")
        twin = second_account(alice, email="Alice@Example.org")
    else:
        twin = second_account(alice)
        for account in (alice, twin):
            AccountPerson.objects.create(user=account, person="alice")
    asked_by_twin, shared = open_one(requested_by=twin), open_one()
    with pytest.raises(MayNotDecide) as told:
        decide(asked_by_twin, alice)
    assert told.value.rule == "four-eyes"
    decide(shared, alice)
    with pytest.raises(MayNotDecide) as told:
        decide(shared, twin)
    assert told.value.rule == "one-vote"


def test_the_agents_owner_does_not_decide_where_the_terms_say_so(open_one: Opener, terms: Any, alice: User) -> None:
    terms(four_eyes=("owner",))
    with pytest.raises(MayNotDecide, match="own this agent"):
        decide(open_one(agent_owners=("alice",)), alice)


def test_a_named_person_decides_without_the_role(open_one: Opener, terms: Any, alice: User, eve: User) -> None:
    terms(groups=(), people=("eve",))
    approval = open_one()
    with pytest.raises(MayNotDecide, match="eve"):
        decide(approval, alice)
    decide(approval, eve)
    assert status_of(approval) == "decided"


def test_a_delegate_decides_for_somebody_and_both_are_named(
    open_one: Opener, terms: Any, alice: User, ada: User
) -> None:
    approval = open_one()
    delegate(alice, ada)
    decision = decide(approval, ada)
    assert (decision.by.username, decision.on_behalf_of.username) == ("ada", "alice")  # type: ignore[union-attr]
    body = AuditEvent.objects.get(kind="approval.decided").body
    assert body["on_behalf_of"] == "alice"


def test_a_delegate_is_no_second_vote_and_no_way_around_four_eyes(
    open_one: Opener, terms: Any, alice: User, bob: User, ada: User
) -> None:
    terms(needed=2)
    delegate(alice, ada)
    approval = open_one()
    decide(approval, ada)
    with pytest.raises(MayNotDecide) as told:
        decide(approval, alice)  # her vote was given by ada
    assert told.value.rule == "one-vote"
    for requester in (alice, ada):
        with pytest.raises(MayNotDecide) as told:
            decide(open_one(requested_by=requester), ada)
        assert told.value.rule == "four-eyes"


@pytest.mark.parametrize("ended", ["over", "not yet", "revoked", "principal gone", "principal without role"])
def test_outside_its_window_a_delegation_gives_nothing(
    ended: str, open_one: Opener, terms: Any, alice: User, ada: User
) -> None:
    now = database_now()
    changes = {
        "over": {"ends_at": now - timedelta(seconds=1)},
        "not yet": {"starts_at": now + timedelta(minutes=1)},
        "revoked": {"revoked_at": now},
    }
    delegate(alice, ada, **changes.get(ended, {}))
    if ended == "principal gone":
        User.objects.filter(pk=alice.pk).update(is_active=False)
    if ended == "principal without role":
        alice.groups.clear()
    with pytest.raises(MayNotDecide) as told:
        decide(open_one(), ada)
    assert told.value.rule == "audience"


def test_a_vote_of_somebody_who_lost_the_right_does_not_count(
    open_one: Opener, terms: Any, alice: User, bob: User, ada: User
) -> None:
    terms(needed=2, groups=("reviewer", "admin"))
    approval = open_one()
    decide(approval, alice)
    alice.groups.clear()
    decide(approval, bob)
    assert status_of(approval) == "pending"
    decide(approval, ada)
    assert status_of(approval) == "decided"
    User.objects.filter(pk=bob.pk).update(is_active=False)
    with pytest.raises(NotAuthorised, match="different people"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


def test_a_delegates_vote_counts_while_the_delegate_may_decide(
    open_one: Opener, terms: Any, alice: User, bob: User, ada: User
) -> None:
    terms(needed=2)
    approval = open_one()
    delegate(alice, ada)
    decide(approval, ada)
    ada.groups.set([Group.objects.get_or_create(name="operator")[0]])
    decide(approval, bob)
    assert status_of(approval) == "pending"


@pytest.mark.parametrize("gone", ["alice", "ada"])
def test_no_vote_counts_that_a_disabled_account_gave_or_gave_in_the_name_of(
    gone: str, open_one: Opener, terms: Any, alice: User, bob: User, ada: User
) -> None:
    terms(needed=2, groups=(), people=("alice", "bob"))  # by name, for roles fall away with the account
    approval = open_one()
    delegate(alice, ada)
    decide(approval, ada)
    User.objects.filter(username=gone).update(is_active=False)
    decide(approval, bob)
    assert status_of(approval) == "pending"


def test_votes_for_the_same_bytes_under_other_terms_do_not_count(
    open_one: Opener, terms: Any, alice: User, bob: User
) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice)
    terms(needed=2, may_bulk=False)
    with pytest.raises(StaleTerms):
        decide(approval, bob)
    decide(approval, bob)
    assert status_of(approval) == "pending"  # alice has agreed to other terms
    decide(approval, alice)
    assert status_of(approval) == "decided"


def test_a_request_stands_wholly_under_its_new_terms(open_one: Opener, terms: Any, alice: User) -> None:
    terms()
    approval = open_one(risk="low")
    new = {"groups": ("admin",), "people": ("bob",), "needed": 2, "verdicts": ("approve", "reject"), "risk": "high"}
    terms(policy_version="test/2", **new)
    with pytest.raises(StaleTerms) as told:
        decide(approval, alice)
    for name in new:
        assert terms_module.WORDS[name] in str(told.value)
    approval.refresh_from_db()
    assert (approval.audience, approval.people) == (["admin"], ["bob"])
    assert (approval.needed, approval.verdicts, approval.risk) == (2, ["approve", "reject"], "high")
    assert (approval.policy_version, approval.given_terms.policy_version) == ("test/2", "test/2")


def test_terms_that_changed_are_shown_before_anybody_decides_under_them(
    open_one: Opener, terms: Any, alice: User, bob: User
) -> None:
    terms()
    approval = open_one()
    terms(needed=2)
    with pytest.raises(StaleTerms, match="how many people must agree") as told:
        decide(approval, alice)
    assert told.value.current_version == 2
    approval.refresh_from_db()
    assert (approval.status, approval.version, approval.needed) == ("pending", 2, 2)
    reason = ProposalVersion.objects.get(version=2)
    assert (reason.reason, reason.digest) == ("terms", approval.digest)
    decide(approval, alice)
    decide(approval, bob)
    assert services.authorise(approval_id=approval.pk, digest=approval.digest).verdict == "approve"


def test_whom_the_ladder_has_added_stays_when_the_terms_change(
    open_one: Opener, terms: Any, alice: User, ada: User
) -> None:
    terms()
    approval = open_one()
    Approval.objects.filter(pk=approval.pk).update(audience=["admin", "reviewer"], steps_climbed=2)
    terms(may_bulk=False)
    with pytest.raises(StaleTerms):
        decide(approval, alice)
    assert Approval.objects.get(pk=approval.pk).audience == ["admin", "reviewer"]
    decide(approval, ada)
    assert status_of(approval) == "decided"


def test_an_unknown_tool_stays_unknown_whenever_the_policy_is_asked(open_one: Opener, alice: User, ada: User) -> None:
    approval = open_one(tool_is_known=False)
    with pytest.raises(MayNotDecide):
        decide(approval, alice)
    decide(approval, ada)
    assert services.authorise(approval_id=approval.pk, digest=approval.digest).decided_by == "ada"


def test_a_new_policy_that_says_the_same_changes_nothing(open_one: Opener, terms: Any, alice: User) -> None:
    terms()
    approval = open_one()
    terms(rule="renamed", policy_version="test/2", expire_after=60)
    decide(approval, alice)
    assert status_of(approval) == "decided"


def test_terms_that_became_a_denial_close_the_request(open_one: Opener, terms: Any, alice: User) -> None:
    terms()
    approval = open_one()
    terms(outcome="deny")
    with pytest.raises(StaleTerms):
        decide(approval, alice)
    with pytest.raises(AlreadyClosed, match="the policy"):
        decide(approval, alice)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"outcome": "deny"}, "never done"),
        ({"needed": 2}, "2 different people"),
        ({"groups": ("admin",)}, "may decide this now"),
        ({"four_eyes": ("owner",)}, "may decide this now"),
        ({"verdicts": ("reject",)}, "does not allow this verdict"),
    ],
)
def test_a_policy_that_changed_after_the_decision_stops_the_effect(
    changes: dict[str, Any], reason: str, open_one: Opener, terms: Any, alice: User
) -> None:
    terms()
    approval = open_one(agent_owners=("alice",))
    decide(approval, alice)
    terms(**changes)
    with pytest.raises(NotAuthorised, match=reason):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


def test_who_decided_last_must_still_be_allowed_to_even_where_fewer_are_enough_now(
    open_one: Opener, terms: Any, alice: User, bob: User
) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice)
    decide(approval, bob)
    terms(needed=1)
    bob.groups.clear()
    with pytest.raises(NotAuthorised, match="bob may no longer decide"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


def test_a_change_stays_one_when_the_terms_change_under_it(
    open_one: Opener, terms: Any, alice: User, bob: User
) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice, "edit", edited_arguments=REFUND | {"amount": "40.00"})
    terms(needed=2, may_bulk=False)
    with pytest.raises(StaleTerms):
        decide(approval, bob)
    for person in (alice, bob):
        decide(approval, person)
    approval.refresh_from_db()
    assert (approval.status, approval.version) == ("decided", 3)
    services.authorise(approval_id=approval.pk, digest=approval.digest)
    terms(needed=2, may_bulk=False, verdicts=("approve", "reject"))
    with pytest.raises(NotAuthorised, match="does not allow this verdict"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


def test_whoever_escalation_would_add_is_not_enough_without_it(open_one: Opener, terms: Any, ada: User) -> None:
    terms(groups=("admin",))
    approval = open_one()
    decide(approval, ada)
    terms(groups=("reviewer",), escalate_to=("admin",))
    with pytest.raises(NotAuthorised, match="may decide this now"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


def test_a_delegates_vote_for_whom_four_eyes_exclude_now_stops_the_effect(
    open_one: Opener, terms: Any, alice: User, ada: User
) -> None:
    terms()
    approval = open_one(agent_owners=("alice",))
    delegate(alice, ada)
    decide(approval, ada)
    terms(four_eyes=("owner",))
    with pytest.raises(NotAuthorised, match="may decide this now"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


@pytest.mark.parametrize("lost", ["role", "account"])
def test_whether_it_happened_is_taken_from_nobody_who_may_no_longer_say_it(
    lost: str, open_one: Opener, terms: Any, alice: User, ada: User
) -> None:
    terms(groups=(), people=("alice",) if lost == "role" else ("ada",))
    approval = open_one(kind="outcome")
    if lost == "role":
        delegate(alice, ada)
    decide(approval, ada)
    services.authorise(approval_id=approval.pk, digest=approval.digest)
    if lost == "role":
        ada.groups.clear()
    else:
        User.objects.filter(pk=ada.pk).update(is_active=False)
    with pytest.raises(NotAuthorised, match="no longer"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


def test_what_needed_nobody_and_now_needs_people_does_not_run(open_one: Opener, terms: Any) -> None:
    terms(outcome="allow")
    approval = open_one()
    terms()
    with pytest.raises(NotAuthorised, match="people must decide"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


def test_a_recent_sign_in_is_asked_for_and_a_token_cannot_give_it(open_one: Opener, terms: Any, alice: User) -> None:
    terms(fresh_sign_in_minutes=5)
    approval = open_one()
    for signed_in_at in (None, database_now() - timedelta(minutes=6)):
        with pytest.raises(MayNotDecide) as told:
            given = answer(approval)
            services.decide(
                approval_id=approval.pk,
                reviewer=alice,
                given=given,
                circumstances=Circumstances(signed_in_at=signed_in_at),
            )
        assert told.value.rule == "recent-sign-in"
    just_now = database_now() - timedelta(minutes=4)
    services.decide(
        approval_id=approval.pk,
        reviewer=alice,
        given=answer(approval),
        circumstances=Circumstances(signed_in_at=just_now),
    )
    assert status_of(approval) == "decided"


def test_a_page_must_have_been_looked_at_before_it_approves(open_one: Opener, terms: Any, alice: User) -> None:
    terms(dwell_seconds=10)
    approval = open_one(risk="medium")
    for channel, shown_at in (("page", None), ("page", database_now() - timedelta(seconds=9)), ("bulk", None)):
        with pytest.raises(MayNotDecide) as told:
            given = answer(approval)
            services.decide(
                approval_id=approval.pk,
                reviewer=alice,
                given=given,
                circumstances=Circumstances(channel, shown_at=shown_at),
            )
        assert told.value.rule == "dwell"
    less = answer(approval, "edit", edited_arguments=REFUND | {"amount": "40.00"})
    with pytest.raises(MayNotDecide, match="10 seconds"):  # which approves too
        services.decide(approval_id=approval.pk, reviewer=alice, given=less, circumstances=Circumstances("page"))
    unread = open_one()
    services.decide(
        approval_id=unread.pk,
        reviewer=alice,
        given=answer(unread, "reject", note="no"),
        circumstances=Circumstances("page"),
    )
    shown_at = database_now() - timedelta(seconds=11)
    decision = services.decide(
        approval_id=approval.pk,
        reviewer=alice,
        given=answer(approval),
        circumstances=Circumstances("page", shown_at=shown_at),
    )
    assert decision.dwell_ms is not None and decision.dwell_ms >= 11_000


def test_high_risk_and_what_the_rule_keeps_apart_is_not_decided_in_bulk(
    open_one: Opener, terms: Any, alice: User
) -> None:
    for risk, may_bulk in (("high", True), ("low", False)):
        terms(may_bulk=may_bulk)
        approval = open_one(risk=risk)
        with pytest.raises(MayNotDecide) as told:
            services.decide(
                approval_id=approval.pk, reviewer=alice, given=answer(approval), circumstances=Circumstances("bulk")
            )
        assert told.value.rule == "no-bulk"
    terms()
    low = open_one(risk="low")
    services.decide(approval_id=low.pk, reviewer=alice, given=answer(low), circumstances=Circumstances("bulk"))


def test_a_test_of_attention_is_never_executed(open_one: Opener, alice: User) -> None:
    approval = open_one()
    Approval.objects.filter(pk=approval.pk).update(is_seeded=True)
    decide(approval, alice)
    with pytest.raises(NotAuthorised, match="attention"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


def test_a_vote_that_is_not_enough_has_no_receipt_yet(open_one: Opener, terms: Any, alice: User) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice)
    shown = requests.whole_request(alice, approval.pk)
    card = card_for(alice, shown)
    assert card.receipt == [] and card.agreed == ["alice"] and card.missing == 1


def test_every_part_of_the_terms_that_can_change_has_words() -> None:
    facts = [one for one in fields(Terms) if one.name not in terms_module._NOT_OF_SUBSTANCE]
    assert {one.name for one in facts} == set(terms_module.WORDS)


def test_an_answer_needs_as_many_people_as_an_approval(open_one: Opener, terms: Any, alice: User, bob: User) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice, "respond", answer="no need")
    assert status_of(approval) == "pending"
    with pytest.raises(MayNotDecide) as told:
        decide(approval, alice, "respond", answer="no need")
    assert told.value.rule == "one-vote"
    (waiting,) = for_runs.settled([approval.pk])
    assert waiting.ending is None, "one person stood in for the tool"
    decide(approval, bob, "respond", answer="no need")
    (settled,) = for_runs.settled([approval.pk])
    assert settled.ending is not None
    assert (settled.ending.verdict, settled.ending.answer) == ("respond", "no need")


@pytest.mark.parametrize("other", ["No need", "no need ", {"text": "no need"}, ["no need"]])
def test_different_answers_do_not_add_up(open_one: Opener, terms: Any, alice: User, bob: User, other: Any) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice, "respond", answer="no need")
    decide(approval, bob, "respond", answer=other)
    assert status_of(approval) == "pending"


def test_an_answer_and_an_approval_do_not_add_up(open_one: Opener, terms: Any, alice: User, bob: User) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice, "respond", answer="no need")
    decide(approval, bob)
    assert status_of(approval) == "pending"
    with pytest.raises(NotAuthorised):
        services.authorise(approval_id=approval.pk, digest=approval.digest)


def test_what_closed_it_counts_not_what_somebody_said_before(
    open_one: Opener, terms: Any, alice: User, bob: User, ada: User
) -> None:
    terms(needed=2, groups=("reviewer", "admin"))
    approval = open_one(call_id="call-1")
    decide(approval, alice, "respond", answer="no need")
    decide(approval, bob)
    decide(approval, ada)
    assert status_of(approval) == "decided"
    assert [one.pk for one in for_runs.approved_of_run(approval.run_id)] == [approval.pk], "it is to be done"
    assert for_runs.call_approvals_of(approval.run_id) == {"call-1": (approval.pk, approval.digest)}
    services.note_receipt(approval_ids=[approval.pk], step="resumed")
    approval.refresh_from_db()
    assert approval.took_effect_at is None, "it has been taken up, not done"
    Approval.objects.filter(pk=approval.pk).update(is_tracked=False, took_effect_at=DatabaseNow())
    assert [one.pk for one in for_runs.taken_up_outside_the_ledger()] == [approval.pk]


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0, False), ([1], [True])])
def test_answers_are_compared_as_json_not_as_python(
    open_one: Opener, terms: Any, alice: User, bob: User, one: Any, other: Any
) -> None:
    terms(needed=2)
    approval = open_one()
    decide(approval, alice, "respond", answer=one)
    decide(approval, bob, "respond", answer=other)
    assert status_of(approval) == "pending"


def test_a_second_account_gives_no_second_answer(open_one: Opener, terms: Any, alice: User) -> None:
    terms(needed=2)
    User.objects.filter(pk=alice.pk).update(email="alice@example.org")
    approval = open_one()
    decide(approval, alice, "respond", answer="no need")
    with pytest.raises(MayNotDecide) as told:
        decide(approval, second_account(alice, email="Alice@example.org"), "respond", answer="no need")
    assert told.value.rule == "one-vote"


def test_an_edit_makes_an_earlier_answer_void(open_one: Opener, terms: Any, alice: User, bob: User, ada: User) -> None:
    terms(needed=2, groups=("reviewer", "admin"))
    approval = open_one()
    decide(approval, alice, "respond", answer="no need")
    decide(approval, bob, "edit", edited_arguments=REFUND | {"amount": "40.00"})
    decide(approval, ada, "respond", answer="no need")
    assert status_of(approval) == "pending", "alice answered another proposal"
    decide(approval, alice, "respond", answer="no need")
    assert status_of(approval) == "decided"


def test_whose_right_an_editor_used_has_changed_it_too(
    open_one: Opener, terms: Any, alice: User, bob: User, ada: User
) -> None:
    terms(needed=1, four_eyes=("requester", "editor"))
    approval = open_one()
    delegate(alice, ada)
    decide(approval, ada, "edit", edited_arguments=REFUND | {"amount": "40.00"})
    terms(needed=1, four_eyes=("requester", "editor"), dwell_seconds=0, may_bulk=False)
    with pytest.raises(StaleTerms):  # another version, on which nobody has voted yet
        decide(approval, bob)
    for editor in (alice, ada):
        with pytest.raises(MayNotDecide) as told:
            decide(approval, editor)
        assert told.value.rule in ("four-eyes", "audience")
    decide(approval, bob)
    assert status_of(approval) == "decided"
