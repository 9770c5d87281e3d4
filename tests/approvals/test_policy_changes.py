"""Changing the policy: proposed by one admin, confirmed by another person, previewed before both."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from approvals import services
from approvals.errors import StaleTerms, StaleVersion
from approvals.models import Approval, AuditEvent, PolicyVersion
from approvals.people.permissions import agreeing_persons, may_decide
from approvals.policies import asking, shipped
from approvals.policies.asking import active_policy, terms_for
from approvals.policies.errors import (
    AlreadySettled,
    AnotherIsProposed,
    InvalidPolicy,
    NoSuchVersion,
    NotYours,
    PolicyError,
    StalePolicy,
)
from approvals.policies.policy import Policy
from approvals.policies.words import card_of, compare
from approvals.proposal.terms import Facts, Terms
from approvals.reading.policy_preview import preview
from approvals.reading.reach import stranded
from approvals.record import audit
from approvals.services import renewing
from approvals.services.changing_policy import checked, confirm, digest_of, propose, refuse
from console.clock import database_now
from console.models import OutboxEntry
from tests.approvals.conftest import REFUND, answer
from tests.at_once import at_once
from tests.effort import effort

Opener = Callable[..., Approval]
TWO: list[dict[str, Any]] = [{"name": "refunds", "match": {"tools": ["issue_refund"]}, "needed": 2}, *shipped.RULES]
FACTS = Facts("agent", "support", "issue_refund", "action", "high", REFUND)


def admin(name: str, **fields: Any) -> User:
    user = User.objects.create(username=name, **fields)
    user.groups.add(Group.objects.get_or_create(name="admin")[0])
    return user


@pytest.fixture
def ivo(ada: User) -> User:
    """A second admin."""
    return admin("ivo")


def put(by: User, rules: Any = None, **changes: Any) -> PolicyVersion:
    fields: dict[str, Any] = {"calendars": {}, "note": "because", "based_on": 0}
    return propose(rules=TWO if rules is None else rules, by=by, **fields | changes)


def kinds() -> list[str]:
    return list(AuditEvent.objects.filter(subject__startswith="policy:").order_by("seq").values_list("kind", flat=True))


def test_the_only_admin_changes_the_policy_and_the_record_says_so(ada: User) -> None:
    made = put(ada)
    assert (made.state, made.settled_by) == ("active", ada)
    assert terms_for(FACTS).needed == 2
    assert kinds() == ["policy.proposed", "policy.activated"]
    event = AuditEvent.objects.get(kind="policy.activated")
    assert event.body["why"] == "only one admin exists" and event.body["digest"] == digest_of(made)
    second = put(ada, shipped.RULES, based_on=1)
    assert (second.version, PolicyVersion.objects.get(version=1).state) == (2, "replaced")
    assert kinds()[2:] == ["policy.proposed", "policy.replaced", "policy.activated"]
    assert audit.verify().ok


def test_the_calendars_of_the_active_version_hold(ada: User) -> None:
    office = {"timezone": "UTC", "hours": {"mon": [["09:00", "17:00"]]}}
    rules = [{"name": "in the office", "calendar": "office", "expire_after": "72h"}]
    put(ada, rules, calendars={"office": office})
    terms = terms_for(FACTS)
    assert (terms.rule, terms.hours["hours"]["mon"]) == ("in the office", [["09:00", "17:00"]])


def test_a_superuser_is_an_admin_who_confirms(ada: User) -> None:
    root = User.objects.create(username="root", is_superuser=True)
    assert put(ada).state == "proposed"
    assert confirm(version=1, by=root).state == "active"


def test_where_two_admins_exist_the_second_confirms(ada: User, ivo: User) -> None:
    made = put(ada)
    assert made.state == "proposed" and terms_for(FACTS).needed == 1
    with pytest.raises(NotYours):
        confirm(version=1, by=ada)
    assert confirm(version=1, by=ivo).settled_by == ivo
    assert terms_for(FACTS).needed == 2
    assert kinds() == ["policy.proposed", "policy.activated"]


def test_a_second_account_is_no_second_admin(ada: User) -> None:
    User.objects.filter(pk=ada.pk).update(email="ada@example.org")
    twin = admin("ada-too", email="ADA@example.org")
    admin("gone", is_active=False)
    assert put(ada).state == "active"
    ivo = admin("ivo")
    put(ada, shipped.RULES, based_on=1)
    with pytest.raises(NotYours):
        confirm(version=2, by=twin)
    assert confirm(version=2, by=ivo).state == "active"


def test_a_refusal_needs_a_reason_and_ends_the_proposal(ada: User, ivo: User) -> None:
    put(ada)
    with pytest.raises(InvalidPolicy):
        refuse(version=1, by=ivo, reason="  ")
    assert refuse(version=1, by=ivo, reason="too strict").state == "refused"
    with pytest.raises(AlreadySettled) as told:
        confirm(version=1, by=admin("una"))
    assert "refused by ivo" in str(told.value)
    assert AuditEvent.objects.get(kind="policy.refused").body["reason"] == "too strict"
    assert terms_for(FACTS).policy_version == "shipped/2"
    put(ada)
    assert refuse(version=2, by=ada, reason="taken back").state == "refused"


def test_one_proposal_at_a_time_made_from_what_is_active(ada: User, ivo: User) -> None:
    put(ada)
    with pytest.raises(AnotherIsProposed):
        put(ivo)
    confirm(version=1, by=ivo)
    with pytest.raises(StalePolicy):
        put(ivo)
    with pytest.raises(StalePolicy):
        put(ivo, shipped.RULES, based_on=0)
    with pytest.raises(InvalidPolicy, match="Nothing was changed"):
        put(ivo, TWO, based_on=1)
    with pytest.raises(NoSuchVersion):
        confirm(version=9, by=ivo)


def test_the_second_click_gets_the_same_answer(ada: User, ivo: User) -> None:
    assert put(ada).version == put(ada).version == 1
    confirm(version=1, by=ivo)
    assert confirm(version=1, by=ivo).state == "active"
    put(ada, shipped.RULES, based_on=1)
    refuse(version=2, by=ivo, reason="no")
    assert refuse(version=2, by=ivo, reason="no").state == "refused"
    assert kinds() == ["policy.proposed", "policy.activated", "policy.proposed", "policy.refused"]


def test_only_admins_change_the_policy(ada: User, alice: User) -> None:
    for change in (put, partial(confirm, version=1), partial(refuse, version=1, reason="x")):
        with pytest.raises(NotYours):
            change(by=alice)
    assert not PolicyVersion.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("verbs", ["confirm confirm", "confirm refuse", "propose propose"])
def test_of_two_changes_at_once_one_wins_and_the_other_is_told(verbs: str, ada: User, ivo: User) -> None:
    if "propose" not in verbs:
        put(ada)
    admin("una")
    told: list[str] = []

    def do(verb: str, name: str) -> None:
        by = User.objects.get(username=name)
        try:
            if verb == "propose":
                put(by)
            elif verb == "confirm":
                confirm(version=1, by=by)
            else:
                refuse(version=1, by=by, reason="no")
            told.append("won")
        except PolicyError as exc:
            told.append(type(exc).__name__)

    one, other = verbs.split()
    at_once(partial(do, one, "ivo"), partial(do, other, "una"))
    assert sorted(told) == sorted(["won", "AnotherIsProposed" if "propose" in verbs else "AlreadySettled"])
    assert PolicyVersion.objects.count() == 1
    assert audit.verify().ok


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        ([], "rules"),
        ({}, "rules"),
        ([{"name": "x"}] * 2, "rules.1.name"),
        ([{"name": "x", "condition": "args.a >"}], "rules.0.condition"),
        ([{"name": "x"}, {"name": "y", "groups": ["nobody"]}], "rules.1.groups"),
        ([{"name": "x", "people": ["stranger"]}], "rules.0.people"),
        ([{"name": "x", "calendar": "nowhere"}], "rules.0.calendar"),
        ([{"name": "x", "match": {"tools": []}}], "rules.0.match.tools"),
        ([{"name": "x", "expire_after": "1h"}], "rules.0.expire_after"),
        ([{"name": "x", "groups": [], "people": ["twin", "twin-too"], "needed": 2}], "rules.0.needed"),
        ([{"name": f"r{n}"} for n in range(101)], "rules"),
    ],
)
def test_what_cannot_be_used_is_refused_where_it_is_wrong(rules: Any, path: str, ada: User) -> None:
    for name in ("twin", "twin-too"):
        User.objects.create(username=name, email="twin@example.org")
    with pytest.raises(InvalidPolicy) as told:
        put(ada, rules)
    assert [error["path"] for error in told.value.errors] == [path]


def test_more_than_256_kib_together_are_refused(ada: User) -> None:
    days = [f"{year}-{month:02}-{day:02}" for year in (2027, 2028) for month in range(1, 13) for day in range(1, 17)]
    calendar = {"timezone": "UTC", "hours": {"mon": [["09:00", "17:00"]]}, "holidays": days}
    with pytest.raises(InvalidPolicy, match="262,144 bytes"):
        put(ada, calendars={f"calendar {number}": calendar for number in range(60)})
    put(ada, calendars={f"calendar {number}": calendar for number in range(40)})


def test_a_proposal_that_names_somebody_who_left_is_not_confirmed(ada: User, ivo: User, alice: User) -> None:
    put(ada, [{"name": "x", "people": ["alice"]}])
    User.objects.filter(pk=alice.pk).update(is_active=False)
    with pytest.raises(InvalidPolicy):
        confirm(version=1, by=ivo)


# Open requests under a new version

BY_NAME: list[dict[str, Any]] = [
    {"name": "refunds", "groups": [], "people": ["alice", "bob"], "needed": "all", "escalate_to": []}
]


def named(*people: str) -> list[dict[str, Any]]:
    return [BY_NAME[0] | {"people": list(people)}]


def test_a_request_that_nobody_can_decide_is_freed_by_another_policy(
    open_one: Opener, ada: User, alice: User, bob: User
) -> None:
    put(ada, BY_NAME)
    approval = open_one()
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    User.objects.filter(pk=bob.pk).update(is_active=False)
    carol = User.objects.create(username="carol")
    carol.groups.add(Group.objects.get(name="reviewer"))
    put(ada, named("alice", "carol"), based_on=1)
    assert not may_decide(carol, approval).allowed and stranded([approval])
    assert services.renew_under_active_policy(set())
    assert not services.renew_under_active_policy(set())
    approval.refresh_from_db()
    assert (approval.people, approval.version, approval.policy_version) == (["alice", "carol"], 2, "2")
    assert not stranded([approval])
    for person in (alice, carol):
        services.decide(approval_id=approval.pk, reviewer=person, given=answer(approval))
    approval.refresh_from_db()
    assert approval.status == "decided"
    assert AuditEvent.objects.filter(kind="approval.terms_changed").count() == 1
    assert audit.verify().ok


def test_who_had_the_page_open_is_told_what_the_policy_changed(open_one: Opener, ada: User, alice: User) -> None:
    seen = open_one()
    put(ada, TWO)
    services.renew_under_active_policy(set())
    put(ada, named("alice"), based_on=1)
    services.renew_under_active_policy(set())
    with pytest.raises(StaleTerms, match=r"\(how many people must agree, who may decide, who may") as told:
        services.decide(approval_id=seen.pk, reviewer=alice, given=answer(seen))
    assert told.value.current_version == 3
    with pytest.raises(StaleVersion) as other:
        services.decide(approval_id=seen.pk, reviewer=alice, given=answer(seen, digest="0" * 64))
    assert not isinstance(other.value, StaleTerms)


def test_a_policy_that_says_the_same_of_a_request_leaves_its_version_and_votes(
    open_one: Opener, ada: User, alice: User, bob: User
) -> None:
    put(ada, BY_NAME)
    approval = open_one()
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    put(ada, [BY_NAME[0] | {"name": "money back", "escalate_to": ["operator"], "remind_after": "1h"}], based_on=1)
    assert services.renew_under_active_policy(set())
    assert not services.renew_under_active_policy(set()), "each is looked at once"
    ladder = approval.ladder
    approval.refresh_from_db()
    assert (approval.version, approval.policy_version, approval.ladder) == (1, "2", ladder)
    assert (approval.given_terms.rule, approval.given_terms.escalate_to) == ("money back", ("operator",))
    services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
    approval.refresh_from_db()
    assert approval.status == "decided"


def test_what_expires_first_is_put_under_the_new_policy_first(
    open_one: Opener, ada: User, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, soon, sooner = (open_one(due_at=database_now() + timedelta(hours=hours)) for hours in (9, 5, 1))
    decided = open_one()
    services.decide(approval_id=decided.pk, reviewer=alice, given=answer(decided))
    put(ada)
    monkeypatch.setattr(renewing, "AT_ONCE", 2)
    for expected in ({soon, sooner}, {soon, sooner, late}):
        assert services.renew_under_active_policy(set())
        assert set(Approval.objects.filter(policy_version="1")) == expected


def test_a_request_that_cannot_be_renewed_holds_up_no_other(
    open_one: Opener, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = open_one(due_at=database_now() + timedelta(hours=1)), open_one()
    put(ada)
    terms_now = asking.terms_now

    def breaks(approval: Approval) -> Terms:
        if approval.pk == broken.pk:
            raise ZeroDivisionError
        return terms_now(approval)

    monkeypatch.setattr(asking, "terms_now", breaks)
    monkeypatch.setattr(renewing, "AT_ONCE", 1)
    failed: set[str] = set()
    assert services.renew_under_active_policy(failed) and failed == {broken.pk}
    assert services.renew_under_active_policy(failed)
    assert not services.renew_under_active_policy(failed)
    sound.refresh_from_db()
    assert (sound.version, sound.policy_version) == (2, "1")


def test_a_policy_that_breaks_for_a_request_is_asked_once(
    open_one: Opener, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval = open_one()
    put(ada)

    def breaks(policy: Policy, facts: Facts) -> Terms:
        raise ZeroDivisionError

    monkeypatch.setattr(Policy, "terms_for", breaks)
    assert services.renew_under_active_policy(set())
    assert not services.renew_under_active_policy(set())
    approval.refresh_from_db()
    assert (approval.audience, approval.policy_version) == (["admin"], "1")


@pytest.mark.parametrize(("outcome", "verdict"), [("allow", "approve"), ("deny", "reject")])
def test_a_policy_that_asks_nobody_any_more_closes_what_is_open_and_tells_the_run(
    outcome: str, verdict: str, open_one: Opener, ada: User
) -> None:
    approval = open_one()
    put(ada, [{"name": "refunds", "outcome": outcome}])
    services.renew_under_active_policy(set())
    decision = approval.decisions.get()
    assert (decision.verdict, decision.source) == (verdict, "policy:refunds@1")
    assert OutboxEntry.objects.get(kind="decided").payload["decision_id"] == decision.pk


# The preview


def compiled(rules: Any) -> Policy:
    return Policy("next", *checked(rules, {}))


def test_the_preview_says_what_would_change(open_one: Opener, alice: User, bob: User) -> None:
    small, large, rejected = (open_one(arguments=REFUND | {"amount": amount}) for amount in ("5.00", "500.00", "7.00"))
    for approval, by in ((small, alice), (large, bob)):
        services.decide(approval_id=approval.pk, reviewer=by, given=answer(approval))
    services.decide(approval_id=rejected.pk, reviewer=bob, given=answer(rejected, "reject", note="no"))
    waiting = open_one(arguments=REFUND | {"amount": "900.00"})
    open_one(arguments=REFUND | {"amount": "10.00"}, tool="send_email")
    rules = [
        {"name": "large", "match": {"tools": ["issue_refund"]}, "condition": "above(args.amount, 100)", "needed": 2},
        {"name": "small", "match": {"tools": ["issue_refund"]}, "outcome": "allow"},
        *shipped.RULES,
    ]
    seen = preview(active_policy(), compiled(rules))
    assert (seen.open_count, seen.decided_count, seen.is_capped) == (2, 3, False)
    assert [(change.words, change.count) for change in seen.open_changes] == [("needs two instead of one", 1)]
    assert seen.open_changes[0].rows[0].approval_id == waiting.pk
    assert {change.words: change.count for change in seen.decided_changes} == {
        "needs nobody": 2,
        "needs two instead of one": 1,
    }
    assert [row.approval_id for row in seen.not_allowed] == [large.pk]
    assert "Approved by bob; two" in seen.not_allowed[0].reason


def test_the_preview_counts_people_as_a_decision_does(open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one(requested_by=User.objects.create(username="carl"), agent_owners=("alice",))
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    for rules in (
        [{"name": "r", "groups": ["admin"]}],
        [{"name": "r", "groups": [], "people": ["alice"]}],
        [{"name": "r", "needed": 2}],
        [{"name": "r", "four_eyes": ["requester", "owner"]}],
    ):
        policy = compiled(rules)
        terms = policy.terms_for(FACTS)
        enough = len(agreeing_persons(approval, terms)) >= terms.needed
        assert enough == (not preview(active_policy(), policy).not_allowed), rules


def test_a_preview_of_a_thousand_is_quick_and_takes_few_queries(open_one: Opener, alice: User) -> None:
    approval = open_one()
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    decided, pending = Approval.objects.get(pk=approval.pk), open_one()
    for row, count in ((decided, 500), (pending, 500)):
        copies = []
        for number in range(count):
            row.pk, row.external_id = f"apr_{row.status}_{number}", f"{row.status}:{number}"
            row.interrupt_place = number + 1
            copies.append(
                Approval(**{f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields if not f.generated})
            )
        Approval.objects.bulk_create(copies)
    policy = compiled([{"name": "r", "needed": 2, "condition": "above(args.amount, 1)"}, *shipped.RULES])
    with CaptureQueriesContext(connection) as queries:
        seen = preview(active_policy(), policy)
    assert (seen.open_changed, seen.decided_changed) == (501, 501)
    assert effort(lambda: preview(active_policy(), policy), rounds=1) < 600
    assert len(queries) <= 9


# In words


def test_a_rule_read_aloud() -> None:
    card = card_of(
        {
            "name": "large refunds",
            "match": {"tools": ["issue_refund"]},
            "condition": 'above(args.amount, "100.00")',
            "needed": 2,
            "four_eyes": ["requester", "owner"],
            "expire_after": "3d",
            "verdicts": ["approve", "reject"],
        },
        1,
    )
    assert card.about == "issue_refund of every agent"
    assert card.gives == "Two of the reviewers, never who asked for it nor the agent's owner, within 3d."
    assert "takes approve or reject only" in card.details
    broken = card_of({"name": "x", "needed": 0}, 1)
    assert broken.outcome == "broken" and "needed" in broken.gives


def test_how_two_policies_differ() -> None:
    before: list[Any] = [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}]
    after: list[Any] = [{"name": "b"}, {"name": "a", "needed": 2}, {"name": "d"}, {"name": "e"}]
    found = {one.name: one for one in compare(before, after)}
    assert {name: one.kind for name, one in found.items()} == {"a": "changed", "c": "removed", "e": "added"}
    assert found["a"].fields == (("needed", "1", "2"),)
    assert (found["e"].card, found["c"].card, found["a"].card) == (card_of(after[3], 4), card_of(before[2], 3), None)
    assert [one.kind for one in compare(before, [before[1], before[0], *before[2:]])] == ["moved"]
