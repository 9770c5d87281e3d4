"""Approved in advance: exactly like what was read, so often, so long, and below everything that forbids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from approvals import services
from approvals.errors import InvalidChange, MayNotDecide, NotAuthorised, NotTheirs, StaleVersion
from approvals.models import AccountPerson, Approval, AuditEvent, Decision, StandingApproval
from approvals.people import standing_conditions
from approvals.policies import asking
from approvals.proposal.terms import Facts, Terms
from approvals.reading.requests import agreed_names, with_parts
from approvals.record import audit
from console.clock import database_now
from console.models import OutboxEntry
from console.text.json_paths import leaves_of
from tests.api_caller import Caller
from tests.approvals.conftest import REFUND, answer
from tests.at_once import at_once

Opener = Callable[..., Approval]
EXACTLY = [{"path": path, "is": value} for path, value in REFUND.items()]
BOUNDED = [
    {"path": "order_id", "one_of": ["8801", "8802"]},
    {"path": "amount", "at_most": "100.00"},
    {"path": "currency", "is": "EUR"},
    {"path": "reason", "is": "broken"},
]


class Policy:
    """What the policy says, for a test to change."""

    def __init__(self) -> None:
        self.terms = Terms(rule="t", policy_version="t/1", risk="low", groups=("reviewer",))

    def __call__(self, facts: Facts) -> Terms:
        return self.terms

    def says(self, **changes: Any) -> None:
        self.terms = replace(self.terms, **changes)


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Policy:
    policy = Policy()
    monkeypatch.setattr(asking, "terms_for", policy)
    return policy


def _make(approval: Approval, by: User, **changes: Any) -> StandingApproval:
    fields: dict[str, Any] = {
        "digest": approval.digest,
        "given": EXACTLY,
        "reason": "Small refunds of this customer are always right.",
        "uses_at_most": 3,
        "expires_at": database_now() + timedelta(days=7),
    }
    return services.make_standing(approval_id=approval.pk, by=by, **fields | changes)


def test_what_is_exactly_alike_is_approved_at_once_with_its_source(
    open_one: Opener, alice: User, bob: User, policy: Policy
) -> None:
    first = open_one()
    standing = _make(first, alice)
    first.refresh_from_db()
    assert first.status == "pending", "the request itself is decided by a person"
    second = open_one(requested_by=bob)
    second.refresh_from_db()
    decision = second.decisions.get()
    assert (second.status, decision.by, decision.source, decision.channel, decision.verdict) == (
        *("decided", alice, f"standing:{standing.pk}", "standing", "approve"),
    )
    standing.refresh_from_db()
    assert standing.uses == 1
    assert OutboxEntry.objects.get(kind="decided").payload["decision_id"] == decision.pk
    kinds = AuditEvent.objects.filter(subject__in=(standing.pk, second.pk)).order_by("seq")
    assert [event.kind for event in kinds] == [
        *("standing.made", "approval.opened", "standing.used", "approval.decided"),
    ]
    assert kinds.last().body["source"] == decision.source  # type: ignore[union-attr]
    assert services.authorise(approval_id=second.pk, digest=second.digest).decided_by == "alice"
    assert audit.verify().ok


@pytest.mark.parametrize(
    "arguments",
    [
        {"amount": "89.41"},
        {"amount": 89.40},
        {"order_id": "8802"},
        {"order_id": 8801},
        {"extra": "1"},
        {"currency": {"code": "EUR"}},
        {"reason": ["broken"]},
        {"reason": "broken\u200b"},
    ],
)
def test_whatever_differs_or_was_not_foreseen_waits_for_people(
    open_one: Opener, alice: User, policy: Policy, arguments: dict[str, Any]
) -> None:
    _make(open_one(), alice)
    assert open_one(arguments=REFUND | arguments).decisions.count() == 0


def test_a_missing_argument_another_tool_and_another_agent_wait_for_people(
    open_one: Opener, alice: User, policy: Policy
) -> None:
    _make(open_one(), alice)
    fewer = {name: value for name, value in REFUND.items() if name != "reason"}
    others = ({"arguments": fewer}, {"tool": "other"}, {"agent": "x"}, {"source": "program"}, {"kind": "outcome"})
    for changes in others:
        assert open_one(**changes).decisions.count() == 0
    assert open_one(tool_is_known=False).decisions.count() == 0


def test_bounds_and_choices_hold_to_the_last_digit(open_one: Opener, alice: User, policy: Policy) -> None:
    _make(open_one(), alice, given=BOUNDED, uses_at_most=100)
    allowed: list[dict[str, Any]] = [
        {"amount": "100.00"},
        {"amount": "0"},
        {"amount": "100"},
        {"amount": 99},
        {"order_id": "8802"},
    ]
    for changes in allowed:
        assert open_one(arguments=REFUND | changes).decisions.count() == 1, changes
    for amount in ("100.01", "100.000000000000000001", "-5", "1e1", "٣", " 5", "5,00", "NaN", "", 100.5, True, None):
        assert open_one(arguments=REFUND | {"amount": amount}).decisions.count() == 0, amount


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([], ""),
        (EXACTLY[:-1], ""),
        ([*EXACTLY, EXACTLY[0]], ""),
        ([*EXACTLY, {"path": "unknown", "is": 1}], "unknown"),
        ([*EXACTLY[:-1], {"path": "reason", "is": "late"}], "reason"),
        ([*EXACTLY[:-1], {"path": "reason", "at_most": "5"}], "reason"),
        ([*EXACTLY[:-1], {"path": "reason"}], "reason"),
        ([*EXACTLY[:-1], {"path": "reason", "is": "broken", "one_of": ["x"]}], "reason"),
        ([*EXACTLY[:-1], {"path": "reason", "one_of": []}], "reason"),
        ([*EXACTLY[:-1], {"path": "reason", "one_of": ["broken", *map(str, range(20))]}], "reason"),
        ([EXACTLY[0], {"path": "amount", "at_most": "89.39"}, *EXACTLY[2:]], "amount"),
        ([EXACTLY[0], {"path": "amount", "at_most": "lots"}, *EXACTLY[2:]], "amount"),
    ],
)
def test_conditions_that_are_not_whole_or_exclude_the_request_itself_are_refused(
    open_one: Opener, alice: User, policy: Policy, given: list[dict[str, Any]], field: str
) -> None:
    with pytest.raises(InvalidChange) as told:
        _make(open_one(), alice, given=given)
    assert told.value.field == field
    assert not StandingApproval.objects.exists()


def test_a_number_a_text_and_a_truth_value_are_never_the_same() -> None:
    values = [1, 1.0, "1", True, 0, 0.0, False, None, ""]
    for one in values:
        covered = [other for other in values if standing_conditions.cover([{"path": "a", "is": one}], {"a": other})]
        assert [repr(other) for other in covered] == [repr(one)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"uses_at_most": 0}, "uses_at_most"),
        ({"uses_at_most": 1001}, "uses_at_most"),
        ({"expires_at": timedelta(0)}, "expires_at"),
        ({"expires_at": timedelta(days=31)}, "expires_at"),
    ],
)
def test_it_is_counted_and_ends_within_thirty_days(
    open_one: Opener, alice: User, policy: Policy, changes: dict[str, Any], field: str
) -> None:
    if "expires_at" in changes:
        changes = {"expires_at": database_now() + changes["expires_at"]}
    with pytest.raises(InvalidChange) as told:
        _make(open_one(), alice, **changes)
    assert told.value.field == field


@pytest.mark.parametrize(
    "terms",
    [
        {"risk": "high"},
        {"fresh_sign_in_minutes": 5},
        {"dwell_seconds": 3},
        {"needs_fresh_data": True},
        {"verdicts": ("reject",)},
    ],
)
def test_where_somebody_has_to_be_there_nothing_is_made_used_or_executed(
    open_one: Opener, alice: User, policy: Policy, terms: dict[str, Any]
) -> None:
    standing = _make(open_one(), alice)
    used = open_one()
    policy.says(**terms)
    with pytest.raises(NotTheirs):
        _make(open_one(), alice)
    assert open_one().decisions.count() == 0
    with pytest.raises(NotAuthorised):
        services.authorise(approval_id=used.pk, digest=used.digest)
    standing.refresh_from_db()
    assert standing.uses == 1


def test_a_rule_that_denies_stands_above_it(open_one: Opener, alice: User, policy: Policy) -> None:
    _make(open_one(), alice)
    used = open_one()
    policy.says(outcome="deny")
    denied = open_one()
    assert denied.decisions.get().verdict == "reject"
    with pytest.raises(NotAuthorised, match="never done"):
        services.authorise(approval_id=used.pk, digest=used.digest)


def test_it_is_one_vote_of_its_maker_and_two_of_different_people_are_two(
    open_one: Opener, alice: User, bob: User, ada: User, policy: Policy
) -> None:
    policy.says(needed=2, groups=("reviewer", "admin"))
    first = open_one()
    _make(first, alice, uses_at_most=10)
    _make(first, alice, uses_at_most=11)
    one = open_one()
    one.refresh_from_db()
    assert (one.status, [d.by for d in one.decisions.all()]) == ("pending", [alice])
    with pytest.raises(MayNotDecide) as told:
        services.decide(approval_id=one.pk, reviewer=alice, given=answer(one))
    assert told.value.rule == "one-vote"
    services.decide(approval_id=one.pk, reviewer=bob, given=answer(one))
    services.authorise(approval_id=one.pk, digest=one.digest)
    _make(first, ada)
    two = open_one()
    two.refresh_from_db()
    assert (two.status, {d.by for d in two.decisions.all()}) == ("decided", {alice, ada})


def test_its_maker_must_be_allowed_to_decide_when_it_is_made_and_each_time(
    open_one: Opener, alice: User, bob: User, olga: User, policy: Policy
) -> None:
    first = open_one(requested_by=bob)
    for person in (bob, olga):
        with pytest.raises(MayNotDecide):
            _make(first, person)
    _make(first, alice)
    assert open_one(requested_by=alice).decisions.count() == 0
    for account in (alice, bob):
        AccountPerson.objects.update_or_create(user=account, defaults={"person": "one"})
    assert open_one(requested_by=bob).decisions.count() == 0, "a second account of its maker has asked"
    policy.says(four_eyes=())
    assert open_one(requested_by=bob).decisions.count() == 0, "whatever the rule says of four eyes"
    AccountPerson.objects.all().delete()
    policy.says(four_eyes=("requester",))
    policy.says(groups=("admin",))
    assert open_one().decisions.count() == 0
    policy.says(groups=("reviewer",))
    alice.groups.clear()
    assert open_one().decisions.count() == 0
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert open_one().decisions.count() == 0


def test_it_counts_only_as_its_makers_own_right_and_while_they_may_decide_at_all(
    open_one: Opener, alice: User, olga: User, ada: User, policy: Policy
) -> None:
    policy.says(groups=(), people=("alice", "olga"))
    first = open_one()
    _make(first, alice)
    with pytest.raises(MayNotDecide):
        _make(first, olga)  # named, and an operator
    now = database_now()
    window: dict[str, Any] = {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=1), "reason": ""}
    services.delegate(principal=ada, to=alice, by=ada, **window)
    policy.says(people=("ada",))
    assert open_one().decisions.count() == 0, "the right is ada's"
    policy.says(people=("alice",))
    assert open_one().decisions.count() == 1
    alice.groups.clear()
    assert open_one().decisions.count() == 0, "named, and without a role"


def test_where_one_vote_is_enough_only_one_is_used(open_one: Opener, alice: User, bob: User, policy: Policy) -> None:
    first = open_one()
    given = [_make(first, person) for person in (alice, bob)]
    assert open_one().decisions.count() == 1
    for standing in given:
        standing.refresh_from_db()
    assert sorted(standing.uses for standing in given) == [0, 1]


def test_a_test_of_attention_is_never_approved_in_advance(open_one: Opener, alice: User, policy: Policy) -> None:
    _make(open_one(), alice)
    assert open_one(is_seeded=True).decisions.count() == 0


def test_a_delegate_makes_none_for_somebody_else(open_one: Opener, alice: User, ada: User, policy: Policy) -> None:
    policy.says(groups=("admin",))
    now = database_now()
    window: dict[str, Any] = {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=1), "reason": ""}
    services.delegate(principal=ada, to=alice, by=ada, **window)
    approval = open_one()
    with pytest.raises(MayNotDecide):
        _make(approval, alice)


def test_taken_back_between_use_and_execution_it_counts_for_nothing(
    open_one: Opener, alice: User, bob: User, ada: User, policy: Policy
) -> None:
    standing = _make(open_one(), alice)
    used = open_one()
    with pytest.raises(NotTheirs):
        services.revoke_standing(standing_id=standing.pk, by=bob)
    for _ in range(2):
        services.revoke_standing(standing_id=standing.pk, by=ada)
    with pytest.raises(NotAuthorised, match="ada took that back"):
        services.authorise(approval_id=used.pk, digest=used.digest)
    assert open_one().decisions.count() == 0
    assert AuditEvent.objects.filter(kind="standing.revoked").count() == 1


def test_a_revoked_vote_is_no_vote_where_several_are_needed(
    open_one: Opener, alice: User, bob: User, ada: User, policy: Policy
) -> None:
    policy.says(needed=2, groups=("reviewer", "admin"))
    standing = _make(open_one(), alice)
    approval = open_one()
    services.revoke_standing(standing_id=standing.pk, by=alice)
    assert _shown_to_agree(approval) == []
    services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
    approval.refresh_from_db()
    assert approval.status == "pending" and _shown_to_agree(approval) == ["bob"]
    services.decide(approval_id=approval.pk, reviewer=ada, given=answer(approval))
    assert _shown_to_agree(approval) == ["bob", "ada"]
    services.authorise(approval_id=approval.pk, digest=approval.digest)


def _shown_to_agree(approval: Approval) -> list[str]:
    shown = with_parts(Approval.objects.filter(pk=approval.pk)).get()
    return agreed_names(shown, list(shown.decisions.all()))


def test_the_count_shown_is_that_of_the_votes_that_count_and_costs_no_query(
    open_one: Opener, alice: User, bob: User, policy: Policy, django_assert_num_queries: Any
) -> None:
    policy.says(needed=2)
    standing = _make(open_one(), alice)
    approvals = [open_one(arguments=REFUND) for _ in range(3)]
    assert _shown_to_agree(approvals[0]) == ["alice"]
    services.decide(approval_id=approvals[2].pk, reviewer=bob, given=answer(approvals[2]))
    earlier = database_now() - timedelta(minutes=1)
    Approval.objects.filter(pk=approvals[2].pk, status="decided").update(closed_at=earlier)
    services.revoke_standing(standing_id=standing.pk, by=alice)
    assert [_shown_to_agree(approval) for approval in approvals] == [[], [], ["alice", "bob"]]  # that one was decided
    with django_assert_num_queries(3):
        rows = list(with_parts(Approval.objects.filter(pk__in=[approval.pk for approval in approvals])))
        assert sum(len(agreed_names(row, list(row.decisions.all()))) for row in rows) == 2
    told = Caller(bob).get(f"approvals/{approvals[0].pk}").json()
    assert told["quorum"] == {"needed": 2, "given": 0}


def test_after_its_last_use_and_after_its_time_people_are_asked(open_one: Opener, alice: User, policy: Policy) -> None:
    standing = _make(open_one(), alice, uses_at_most=2)
    assert [open_one().decisions.count() for _ in range(3)] == [1, 1, 0]
    StandingApproval.objects.filter(pk=standing.pk).update(uses=0, expires_at=database_now())
    assert open_one().decisions.count() == 0


def test_a_second_click_makes_no_second_one_and_an_old_page_makes_none(
    open_one: Opener, alice: User, policy: Policy
) -> None:
    approval, until = open_one(), database_now() + timedelta(days=1)
    assert _make(approval, alice, expires_at=until) == _make(approval, alice, expires_at=until)
    assert StandingApproval.objects.count() == 1
    with pytest.raises(StaleVersion):
        _make(approval, alice, digest="0" * 64)
    services.revoke_standing(standing_id=StandingApproval.objects.get().pk, by=alice)
    assert _make(approval, alice, expires_at=until).revoked_at is None, "what was taken back can be given anew"


def test_another_end_or_another_reason_makes_another_one(open_one: Opener, alice: User, policy: Policy) -> None:
    approval, ends = open_one(), database_now() + timedelta(days=1)
    first = _make(approval, alice, expires_at=ends)
    second_click = _make(approval, alice, expires_at=ends + timedelta(minutes=2))
    longer = _make(approval, alice, expires_at=ends + timedelta(days=9))
    other = _make(approval, alice, expires_at=ends, reason="The customer is known to us.")
    assert second_click == first
    assert len({first.pk, longer.pk, other.pk}) == 3
    assert (longer.expires_at, other.reason) == (ends + timedelta(days=9), "The customer is known to us.")


def test_the_same_again_after_its_last_use_or_its_time_is_a_new_one(
    open_one: Opener, alice: User, policy: Policy
) -> None:
    approval = open_one()
    used_up = _make(approval, alice, uses_at_most=1)
    assert open_one().decisions.count() == 1
    over = _make(approval, alice, uses_at_most=1)
    StandingApproval.objects.filter(pk=over.pk).update(expires_at=database_now())
    assert len({used_up.pk, over.pk, _make(approval, alice, uses_at_most=1).pk}) == 3
    assert open_one().decisions.count() == 1


def test_nothing_is_approved_in_advance_after_a_rejection_but_after_an_approval(
    open_one: Opener, alice: User, policy: Policy
) -> None:
    approved, rejected = open_one(), open_one(external_id="run-2:1")
    services.decide(approval_id=rejected.pk, reviewer=alice, given=answer(rejected, "reject", note="no"))
    with pytest.raises(NotTheirs):
        _make(rejected, alice)
    services.decide(approval_id=approved.pk, reviewer=alice, given=answer(approved))
    assert _make(approved, alice).made_from == approved


@pytest.mark.parametrize("status", ["expired", "withdrawn"])
def test_nothing_is_approved_in_advance_after_what_nobody_decided(
    status: str, open_one: Opener, alice: User, policy: Policy
) -> None:
    approval = open_one()
    Approval.objects.filter(pk=approval.pk).update(status=status)
    with pytest.raises(NotTheirs, match="never approved"):
        _make(approval, alice)


def test_nothing_made_from_a_test_of_attention_is_ever_used(open_one: Opener, alice: User, policy: Policy) -> None:
    seeded = open_one()
    Approval.objects.filter(pk=seeded.pk).update(is_seeded=True)
    _make(seeded, alice)
    assert open_one().decisions.count() == 0


@pytest.mark.django_db(transaction=True)
def test_no_more_uses_are_taken_at_once_than_were_given(open_one: Opener, alice: User, policy: Policy) -> None:
    standing = _make(open_one(), alice, uses_at_most=5)
    opened = at_once(*[lambda: open_one() for _ in range(12)])
    assert Decision.objects.filter(approval__in=opened, source=f"standing:{standing.pk}").count() == 5
    standing.refresh_from_db()
    assert standing.uses == 5
    assert audit.verify().ok


@pytest.mark.django_db(transaction=True)
def test_uses_revocations_and_turns_with_several_requests_do_not_block_each_other(
    open_one: Opener, alice: User, ada: User, policy: Policy
) -> None:
    from django.db import transaction

    standing = _make(open_one(), alice, uses_at_most=100)

    def turn() -> None:
        with transaction.atomic():
            for _ in range(3):
                open_one()

    def revoke() -> None:
        services.revoke_standing(standing_id=standing.pk, by=ada)

    at_once(turn, turn, revoke, turn, revoke, turn)
    standing.refresh_from_db()
    assert Decision.objects.filter(source=f"standing:{standing.pk}").count() == standing.uses
    assert audit.verify().ok


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "1", "1.0", "a.b", "a", "[0]", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "a.b", "[0]", "0"]), inner),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(st.sampled_from(["a", "b", "a.b", "a[0]", '"a"', ""]), JSON, max_size=3)


@given(one=ARGUMENTS, other=ARGUMENTS)
def test_conditions_that_fix_everything_cover_nothing_but_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    import json

    fixed = [{"path": path, "is": json.loads(exact)} for path, exact in leaves_of(one)]
    standing_conditions.check(fixed, one)
    assert standing_conditions.cover(fixed, one)
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert standing_conditions.cover(fixed, other) == same
