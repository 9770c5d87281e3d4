"""What the policy says: the first rule that matches, and an admin wherever no rule can be used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from approvals.models import PolicyVersion
from approvals.policies import asking
from approvals.policies.asking import terms_for
from approvals.policies.policy import Policy
from approvals.policies.rules import Rule, seconds_of
from approvals.proposal.terms import FAIL_SAFE, Facts, Terms
from tests.effort import effort

REFUND = Facts("agent", "support", "issue_refund", "action", "high", {"amount": "89.40", "currency": "EUR"})
OUTCOME = replace(REFUND, kind="outcome")
UNKNOWN = replace(REFUND, is_known=False)
OFFICE = {"office": {"timezone": "Europe/Berlin", "hours": {"mon": [["09:00", "17:00"]]}}}


def asked(rules: Any, facts: Facts = REFUND, calendars: Any = None) -> Terms:
    return Policy("7", rules, calendars or {}).terms_for(facts)


def is_fail_safe(terms: Terms) -> bool:
    return terms.rule == "fail-safe" and not terms.differences(FAIL_SAFE)


def test_the_shipped_rules_hold_until_a_version_is_active(ada: User) -> None:
    assert terms_for(REFUND) == Terms(
        rule="everything", policy_version="shipped/2", four_eyes=("requester", "editor"), risk="high"
    )
    assert terms_for(OUTCOME) == Terms(
        rule="outcome questions",
        policy_version="shipped/2",
        four_eyes=("requester", "editor"),
        verdicts=("approve", "reject"),
        may_bulk=False,
        risk="high",
    )
    PolicyVersion.objects.create(version=1, rules=[{"name": "mine", "needed": 2}], state="proposed", made_by=ada)
    assert terms_for(REFUND).rule == "everything"
    PolicyVersion.objects.update(state="active")
    terms = terms_for(REFUND)
    assert (terms.rule, terms.needed, terms.policy_version) == ("mine", 2, "1")
    PolicyVersion.objects.update(state="replaced")  # nothing but a hand in the database leaves it so
    assert is_fail_safe(terms_for(REFUND))


def test_where_the_policy_cannot_say_an_admin_decides_alone_of_all() -> None:
    assert (
        Terms(
            rule="fail-safe",
            policy_version="",
            groups=("admin",),
            needed=1,
            four_eyes=("requester", "editor", "owner"),
            verdicts=("approve", "reject"),
            may_bulk=False,
            risk="high",
        )
        == FAIL_SAFE
    )


def test_the_first_rule_that_matches_decides() -> None:
    rules = [
        {"name": "mails", "match": {"tools": ["send_email"]}, "needed": 3},
        {"name": "large", "condition": 'above(args.amount, "100.00")', "needed": 2},
        {"name": "small", "match": {"tools": ["issue_refund"]}, "outcome": "allow"},
        {"name": "rest"},
    ]
    assert asked(rules).rule == "small"
    assert asked(rules, replace(REFUND, arguments={"amount": "100.01"})).rule == "large"
    assert asked(rules, replace(REFUND, tool="other", arguments={"amount": "1"})).rule == "rest"


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({}, True),
        ({"tools": ["issue_refund", "x"]}, True),
        ({"tools": ["issue_*"]}, False),
        ({"tools": ["Issue_refund"]}, False),
        ({"agents": ["support"]}, True),
        ({"agents": ["sales"]}, False),
        ({"sources": ["program"]}, False),
        ({"sources": ["agent"], "risks": ["high"]}, True),
        ({"risks": ["low", "medium"]}, False),
        ({"kinds": ["outcome"]}, False),
        ({"kinds": ["action", "outcome"]}, True),
    ],
)
def test_every_part_of_a_match_has_to_fit(match: dict[str, Any], fits: bool) -> None:
    terms = asked([{"name": "one", "match": match}])
    assert (terms.rule == "one") == fits
    assert fits or is_fail_safe(terms)


def test_a_rule_gives_every_term() -> None:
    rule = {
        "name": "all of it",
        "groups": ["admin", "reviewer"],
        "people": ["alice", "bob"],
        "needed": 2,
        "four_eyes": ["requester", "editor", "owner"],
        "verdicts": ["approve", "reject"],
        "remind_after": "90m",
        "escalate_after": 7200,
        "expire_after": "1h 30m 3600s",
        "escalate_to": [],
        "calendar": "office",
        "fresh_sign_in_minutes": 5,
        "may_bulk": False,
        "dwell_seconds": 10,
        "needs_fresh_data": True,
        "may_change_fixed": True,
        "risk": "low",
    }
    terms = asked([rule], calendars=OFFICE)
    assert terms.hours["hours"]["mon"] == [["09:00", "17:00"]]
    assert terms == Terms(
        rule="all of it",
        policy_version="7",
        groups=("admin", "reviewer"),
        people=("alice", "bob"),
        needed=2,
        four_eyes=("requester", "editor", "owner"),
        verdicts=("approve", "reject"),
        remind_after=5400,
        escalate_after=7200,
        expire_after=9000,
        escalate_to=(),
        calendar="office",
        fresh_sign_in_minutes=5,
        may_bulk=False,
        dwell_seconds=10,
        needs_fresh_data=True,
        may_change_fixed=True,
        risk="low",
    )


def test_all_means_every_person_named() -> None:
    assert asked([{"name": "r", "groups": [], "people": ["a", "b", "c"], "needed": "all"}]).needed == 3


BROKEN: list[Any] = [
    "not a rule",
    7,
    None,
    {},
    {"name": ""},
    {"name": "x", "color": "red"},
    {"name": "x", "match": {"tool": ["issue_refund"]}},
    {"name": "x", "match": {"tools": []}},
    {"name": "x", "condition": "args.amount >"},
    {"name": "x", "condition": "args.amount > 100"},  # text compared with a number
    {"name": "x", "condition": "args.missing == 1"},
    {"name": "x", "condition": "args.amount"},
    {"name": "x", "condition": 7},
    {"name": "x", "outcome": "maybe"},
    {"name": "x", "outcome": "allow", "groups": ["accounting"]},
    {"name": "x", "groups": ["accounting"]},
    {"name": "x", "groups": ["service"]},
    {"name": "x", "escalate_to": ["accounting"]},
    {"name": "x", "groups": [], "people": []},
    {"name": "x", "needed": 0},
    {"name": "x", "needed": True},
    {"name": "x", "needed": "2"},
    {"name": "x", "groups": [], "people": ["alice"], "needed": 2},
    {"name": "x", "needed": "all"},
    {"name": "x", "four_eyes": ["editor"]},
    {"name": "x", "four_eyes": ["requestor"]},
    {"name": "x", "verdicts": []},
    {"name": "x", "verdicts": ["approve"]},
    {"name": "x", "calendar": "nowhere"},
    {"name": "x", "calendar": "office", "expire_after": "5d"},
    {"name": "x", "calendar": "office", "expire_after": "1000h"},
    {"name": "x", "remind_after": "3d"},
    {"name": "x", "expire_after": "soon"},
    {"name": "x", "expire_after": "0h"},
    {"name": "x", "expire_after": "9999d"},
    {"name": "x", "expire_after": 10**12},
    {"name": "x", "risk": "none"},
    {"name": "x", "may_bulk": "yes"},
    {"name": "x", "match": {"kinds": ["action", "outcome"]}, "outcome": "allow"},
]


@pytest.mark.parametrize("broken", BROKEN, ids=repr)
def test_a_broken_rule_is_never_skipped_for_a_laxer_one(broken: Any) -> None:
    terms = asked([broken, {"name": "lax", "outcome": "allow"}], calendars=OFFICE)
    assert is_fail_safe(terms) and "“" in terms.reason


def test_a_broken_rule_stops_only_what_it_is_about() -> None:
    rules = [{"name": "x", "match": {"tools": ["send_email"]}, "groups": ["accounting"]}, {"name": "rest"}]
    assert asked(rules).rule == "rest"
    assert is_fail_safe(asked(rules, replace(REFUND, tool="send_email")))


@pytest.mark.parametrize("rules", [None, {}, "[]", 3, []])
def test_without_rules_an_admin_decides(rules: Any) -> None:
    assert is_fail_safe(asked(rules))


def test_calendars_that_cannot_be_read_stop_everything() -> None:
    assert is_fail_safe(asked([{"name": "lax", "outcome": "allow"}], calendars={"office": {"hours": {}}}))


def test_an_unknown_tool_is_matched_by_its_exact_name_only_and_never_allowed() -> None:
    everything: dict[str, Any] = {"name": "everything", "outcome": "allow"}
    assert is_fail_safe(asked([everything], UNKNOWN))
    named = {"name": "named", "match": {"tools": ["issue_refund"]}}
    assert asked([everything, named], UNKNOWN).rule == "named"
    assert is_fail_safe(asked([named | {"outcome": "allow"}], UNKNOWN))
    assert asked([named | {"outcome": "deny"}], UNKNOWN).outcome == "deny"


def test_whether_something_happened_takes_no_edit_and_no_answer() -> None:
    assert asked([{"name": "r", "match": {"kinds": ["outcome"]}}], OUTCOME).verdicts == ("approve", "reject")


def test_whatever_breaks_fails_safe_and_is_logged(
    db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Policy, facts: Facts) -> Terms:
        raise MemoryError

    monkeypatch.setattr(Policy, "terms_for", broken)
    assert is_fail_safe(terms_for(REFUND))
    assert "issue_refund" in caplog.text


def test_a_database_that_does_not_answer_stops_the_change(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Policy:
        raise DatabaseError("statement timeout")

    monkeypatch.setattr(asking, "active_policy", away)
    with pytest.raises(DatabaseError):
        terms_for(REFUND)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["*", "ask", "allow", "24h"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*Rule.model_fields, "x"]), inner),
    max_leaves=12,
)


@settings(deadline=None)
@given(rules=JSON, calendars=JSON, facts=st.sampled_from([REFUND, OUTCOME, UNKNOWN]))
def test_no_nonsense_raises_and_none_lets_anything_through(rules: Any, calendars: Any, facts: Facts) -> None:
    terms = Policy("7", rules, calendars).terms_for(facts)
    assert is_fail_safe(terms) or Rule.model_validate(next(one for one in rules if one.get("name") == terms.rule))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("24h", 86400), ("1d 12h", 129600), ("45 min", 2700), ("60s", 60)]
)
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


def test_twenty_rules_take_one_query_and_little_time(ada: User) -> None:
    rules = [
        {"name": f"r{n}", "condition": f'above(args.amount, "{1000 + n}.00") && args.currency == "EUR"'}
        for n in range(19)
    ] + [{"name": "last"}]
    PolicyVersion.objects.create(version=1, rules=rules, state="active", made_by=ada)
    assert terms_for(REFUND).rule == "last"
    with CaptureQueriesContext(
        connection,
    ) as queries:
        terms_for(REFUND)
    assert len(queries) == 1
    policy = asking.active_policy()
    assert effort(lambda: [policy.terms_for(REFUND) for _ in range(100)]) < 40
