"""What is shown is what runs: the proposal changed behind the application's back, at every point of its way.

The same points on the real engines: `drills/mutated_proposal.py`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db.models import F
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from approvals import services
from approvals.errors import (
    AlreadyClosed,
    ApprovalError,
    BytesChanged,
    InvalidVerdict,
    KeyReused,
    NotAuthorised,
    StaleVersion,
)
from approvals.models import Approval, Decision, ProposalVersion
from approvals.proposal.canonical import LIMIT_BYTES, NotCanonical, canonicalise, digest_of
from tests.api_caller import Caller, problem
from tests.approvals.conftest import REFUND, answer
from tests.approvals.test_digest import ARGUMENTS, shuffled

Opener = Callable[..., Approval]
FORGED = canonicalise("issue_refund", REFUND | {"amount": "99.99"})
OTHER_TOOL = canonicalise("send_email", REFUND)


def both(canonical: bytes) -> dict[str, Any]:
    return {"canonical": canonical, "digest": digest_of(canonical)}


MUTATIONS: dict[str, dict[str, Any]] = {
    "bytes": {"canonical": FORGED},
    "digest": {"digest": digest_of(FORGED)},
    "bytes and digest": both(FORGED),
    "tool in the bytes": {"canonical": OTHER_TOOL},
    "tool in the bytes, and digest": both(OTHER_TOOL),
    "version": {"version": F("version") + 1},
    "bytes, digest and version": {**both(FORGED), "version": F("version") + 1},
}


def change(approval: Approval, **changes: Any) -> None:
    assert Approval.objects.filter(pk=approval.pk).update(**changes) == 1


def decide(approval: Approval, reviewer: User, given: services.Answer) -> Decision:
    return services.decide(approval_id=approval.pk, reviewer=reviewer, given=given)


def may_run(approval: Approval) -> list[str]:
    """Return the digests under which the executor takes the approval: the approved one, and what the row says now."""
    now = Approval.objects.get(pk=approval.pk)
    taken = []
    for digest in {approval.digest, now.digest, now.shown_digest, digest_of(FORGED), digest_of(OTHER_TOOL)}:
        try:
            services.authorise(approval_id=approval.pk, digest=digest)
        except NotAuthorised as exc:
            assert str(exc)
        else:
            taken.append(digest)
    return taken


@pytest.mark.parametrize("what", MUTATIONS)
def test_what_changed_between_page_and_click_is_not_decided(what: str, open_one: Opener, alice: User) -> None:
    shown = open_one()
    change(shown, **MUTATIONS[what])
    with pytest.raises(StaleVersion):
        decide(shown, alice, answer(shown))
    assert Approval.objects.get(pk=shown.pk).status == "pending"
    assert not Decision.objects.exists()
    assert may_run(shown) == []


def test_bytes_that_do_not_fit_their_digest_are_said_so_and_nobody_decides_them(open_one: Opener, alice: User) -> None:
    approval = open_one()
    change(approval, canonical=FORGED)
    approval.refresh_from_db()
    for digest in (approval.digest, approval.shown_digest):
        for verdict, more in (("approve", {}), ("reject", {"note": "no"}), ("edit", {"edited_arguments": REFUND})):
            with pytest.raises(BytesChanged, match="Tell an admin"):
                decide(approval, alice, answer(approval, verdict, digest=digest, **more))
    assert not Decision.objects.exists()


@pytest.mark.parametrize("through", ["page", "api"])
def test_other_bytes_shown_and_put_back_before_the_click_are_not_decided(
    through: str, open_one: Opener, alice: User
) -> None:
    """Somebody shows a harmless sentence under the digest of a harmful one: the form carries what was shown."""
    approval = open_one()
    kept = bytes(approval.canonical)
    change(approval, canonical=FORGED)
    if through == "page":
        browser = Client()
        browser.force_login(alice)
        html = browser.get(reverse("approvals:approval", args=[approval.pk])).content.decode()
        assert "99.99" in html
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', html))
        assert fields["digest"] == digest_of(FORGED)
    else:
        shown = Caller(alice).get(f"approvals/{approval.pk}").json()
        assert (shown["arguments"]["amount"], shown["digest"]) == ("99.99", digest_of(FORGED))
    change(approval, canonical=kept)
    if through == "page":
        told = browser.post(reverse("approvals:decide", args=[approval.pk]), {**fields, "verdict": "approve"})
        assert told.status_code == 409
    else:
        sent = {"verdict": "approve", "version": shown["version"], "digest": shown["digest"]}
        problem(Caller(alice).post(f"approvals/{approval.pk}/decision", sent), 409)
    assert not Decision.objects.exists()


@pytest.mark.parametrize("what", MUTATIONS)
def test_what_changed_between_decision_and_execution_does_not_run(what: str, open_one: Opener, alice: User) -> None:
    approval = open_one()
    decide(approval, alice, answer(approval))
    assert may_run(approval) == [approval.digest]
    change(approval, **MUTATIONS[what])
    assert may_run(approval) == []
    change(approval, canonical=approval.canonical, digest=approval.digest, version=1)
    assert may_run(approval) == [approval.digest]


@pytest.mark.parametrize("what", MUTATIONS)
def test_an_answer_to_a_question_that_was_changed_afterwards_is_none(what: str, open_one: Opener, alice: User) -> None:
    question = open_one(kind="outcome")
    decide(question, alice, answer(question))
    assert may_run(question) == [question.digest]
    change(question, **MUTATIONS[what])
    assert may_run(question) == []


@pytest.mark.parametrize("what", ["canonical", "digest", "both"])
def test_payloads_of_two_approved_requests_that_were_exchanged_do_not_run(
    what: str, open_one: Opener, alice: User
) -> None:
    one, other = open_one(), open_one(arguments=REFUND | {"amount": "99.99"})
    for approval in (one, other):
        decide(approval, alice, answer(approval))
    fields = ("canonical", "digest") if what == "both" else (what,)
    change(one, **{name: getattr(other, name) for name in fields})
    change(other, **{name: getattr(one, name) for name in fields})
    assert (may_run(one), may_run(other)) == ([], [])


def test_votes_for_other_bytes_do_not_add_up(open_one: Opener, terms: Any, alice: User, bob: User) -> None:
    """The row was changed between two votes of a quorum: the second one saw other bytes than the first."""
    terms(needed=2)
    approval = open_one()
    decide(approval, alice, answer(approval))
    change(approval, **both(FORGED))
    approval.refresh_from_db()
    decide(approval, bob, answer(approval))
    assert Approval.objects.get(pk=approval.pk).status == "pending"
    assert may_run(approval) == []
    change(approval, status="decided")
    assert may_run(approval) == []


EDITS: dict[str, Any] = {
    "another tool's arguments": {"to": "a@b.example", "subject": "Hello", "body": "Hello"},
    "an argument more": REFUND | {"to_account": "mine"},
    "an argument less": {"order_id": "8801"},
    "another kind": REFUND | {"amount": 1.5},
    "an amount that is none": REFUND | {"amount": "99.99; 1"},
    "nothing changed": dict(REFUND),
    "the proposal itself": {"tool": "send_email", "arguments": REFUND},
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_changed_in_flight_is_checked_again(what: str, open_one: Opener, alice: User) -> None:
    approval = open_one()
    with pytest.raises(InvalidVerdict):
        decide(approval, alice, answer(approval, "edit", edited_arguments=EDITS[what]))
    assert (Approval.objects.get(pk=approval.pk).version, ProposalVersion.objects.count()) == (1, 1)
    assert may_run(approval) == []


def test_an_edit_raised_in_flight_stands_under_the_terms_of_its_own_arguments(
    open_one: Opener, terms: Any, alice: User, bob: User
) -> None:
    terms(by=lambda facts: {"needed": 2 if float(facts.arguments["amount"]) > 100 else 1})
    shown = open_one()
    decide(shown, alice, answer(shown, "edit", edited_arguments=REFUND | {"amount": "900.00"}))
    edited = Approval.objects.get(pk=shown.pk)
    assert (edited.status, edited.version, edited.needed) == ("pending", 2, 2)
    assert may_run(edited) == []
    for stale in (answer(shown), answer(shown, version=2), answer(edited, version=1)):
        with pytest.raises(StaleVersion):
            decide(shown, bob, stale)
    assert Decision.objects.count() == 1
    decide(edited, bob, answer(edited))
    assert may_run(edited) == [edited.digest]


def test_what_was_sent_for_one_request_decides_no_other(open_one: Opener, alice: User) -> None:
    one, other = open_one(), open_one(arguments=REFUND | {"order_id": "8802"})
    sent = answer(one, idempotency_key="one-click")
    first = decide(one, alice, sent)
    for again, error in (
        (sent, KeyReused),
        (replace(sent, idempotency_key=""), StaleVersion),
        (replace(sent, idempotency_key="another"), StaleVersion),
        (answer(other, idempotency_key="one-click"), KeyReused),
        (answer(other, version=2), StaleVersion),
    ):
        with pytest.raises(error):
            decide(other, alice, again)
    assert may_run(other) == []
    assert decide(one, alice, sent) == first
    with pytest.raises(AlreadyClosed):
        decide(one, alice, replace(sent, idempotency_key=""))
    assert Decision.objects.count() == 1


# The corpus of what two programs may write differently.

SAME = [
    ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'),
    ('{"a": 1}', '{"a": 1.0}'),
    ('{"a": 1}', '{"a": 1e0}'),
    ('{"a": 100}', '{"a": 1E+2}'),
    ('{"a": 0}', '{"a": -0}'),
    ('{"a": 0}', '{"a": -0.0}'),
    ('{"a": "é"}', '{"a": "\\u00e9"}'),
    ('{"a": "/"}', '{"a": "\\/"}'),
    ('{"a": "\U0001f600"}', '{"a": "\\ud83d\\ude00"}'),
    ('{"a": 9007199254740991}', '{"a": 9007199254740991.0}'),
    ('{"a":[1,{"c":3,"b":2}]}', ' { "a" : [ 1 , { "b" : 2 , "c" : 3 } ] } '),
]
DIFFERENT = [
    ('{"a": 1}', '{"a": "1"}'),
    ('{"a": 1}', '{"a": true}'),
    ('{"a": 0}', '{"a": false}'),
    ('{"a": null}', "{}"),
    ('{"a": 1.5}', '{"a": 1.5000000000000002}'),
    ('{"a": [1, 2]}', '{"a": [2, 1]}'),
    ('{"a": "x"}', '{"a": "x "}'),
    ('{"a": "x"}', '{"a": "x\\u200b"}'),
    ('{"a": "a"}', '{"a": "\u0430"}'),
    ('{"a": "\u00e9"}', '{"a": "e\u0301"}'),  # NFC, NFD
    ('{"\u00e9": 1}', '{"e\u0301": 1}'),
    ('{"a": "\ufb03"}', '{"a": "ffi"}'),  # NFKC would make them one
]
REFUSED = {
    "beyond 2^53": '{"a": 9007199254740993}',
    "beyond 2^53, below zero": '{"a": -9007199254740993}',
    "beyond 2^53, with a fraction": '{"a": 9007199254740993.0}',
    "beyond 2^53, as a power": '{"a": 1e17}',
    "2^53 itself": '{"a": 9007199254740992}',
    "more digits than are kept": '{"a": 0.12345678901234567891}',
    "beyond every number": '{"a": 1e400}',
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": -Infinity}',
    "the same key twice": '{"a": 1, "a": 2}',
    "the same key twice, further in": '{"a": [{"b": 1, "\\u0062": 2}]}',
    "half a pair": '{"a": "\\ud800"}',
    "half a pair as key": '{"\\udfff": 1}',
    "NUL": '{"a": "x\\u0000y"}',
    "NUL as key": '{"\\u0000": 1}',
    "one byte too much": json.dumps({"a": "x" * (LIMIT_BYTES - len(canonicalise("pay", {"a": ""})) + 1)}),
    "too deep": '{"a": ' + "[" * 65 + "]" * 65 + "}",
}


@pytest.fixture
def robot(db: None) -> User:
    user = User.objects.create_user("robot")
    user.groups.add(Group.objects.get_or_create(name="service")[0])
    return user


def ask(robot: User, arguments: str, external_id: str = "job-1") -> Any:
    """Ask for an approval with arguments exactly as they are written."""
    body = {
        "title": "Pay",
        "tool": "pay",
        "arguments": "HERE",
        "external_id": external_id,
        "deliver_to": {"temporal": {"workflow_id": "w", "signal": "s"}},
    }
    return Caller(robot).post("approvals", json.dumps(body).replace('"HERE"', arguments))


def records_of(asked: Any, reviewer: User) -> set[str]:
    """Decide what was asked and return the digests of all its records: proposed, shown, decided, executed."""
    approval_id = asked.json()["id"]
    approval = Approval.objects.get(pk=approval_id)
    shown = Caller(reviewer).get(f"approvals/{approval_id}").json()
    decision = decide(approval, reviewer, answer(approval, version=shown["version"], digest=shown["digest"]))
    run = services.authorise(approval_id=approval_id, digest=shown["digest"])
    return {
        asked.json()["digest"],
        approval.versions.get().digest,
        approval.digest,
        approval.shown_digest,
        shown["digest"],
        digest_of(shown["canonical"].encode()),
        decision.digest,
        decision.for_digest,
        digest_of(canonicalise(run.tool, run.arguments)),
    }


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_written_differently_is_one_digest_in_all_records(
    one: str, other: str, robot: User, alice: User
) -> None:
    first, second = ask(robot, one, "job-1"), ask(robot, other, "job-2")
    assert (first.status_code, second.status_code) == (201, 201), (first.content, second.content)
    assert len(records_of(first, alice) | records_of(second, alice)) == 1


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_only_looks_the_same_has_a_digest_of_its_own(one: str, other: str, robot: User, alice: User) -> None:
    first, second = ask(robot, one, "job-1"), ask(robot, other, "job-2")
    assert (first.status_code, second.status_code) == (201, 201), (first.content, second.content)
    records = records_of(first, alice), records_of(second, alice)
    assert [len(digests) for digests in records] == [1, 1]
    assert records[0] != records[1]


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_carried_exactly_is_refused_at_the_proposal_with_a_sentence(what: str, robot: User) -> None:
    told = problem(ask(robot, REFUSED[what]), 422)
    assert all(len(error["message"]) > 10 for error in told["errors"]), told
    assert not Approval.objects.exists()


@pytest.mark.parametrize("what", sorted(REFUSED.keys() - {"one byte too much"}))
def test_an_edit_that_cannot_be_carried_exactly_is_refused_with_a_sentence(what: str, robot: User, alice: User) -> None:
    approval = Approval.objects.get(pk=ask(robot, '{"a": 5}').json()["id"])
    body = json.dumps({"verdict": "edit", "version": 1, "digest": approval.digest, "edited_arguments": "HERE"})
    told = problem(Caller(alice).post(f"approvals/{approval.pk}/decision", body.replace('"HERE"', REFUSED[what])), 422)
    assert all(len(error["message"]) > 10 for error in told["errors"]), told
    assert not Decision.objects.exists()


@given(ARGUMENTS, st.data())
def test_one_changed_letter_is_another_digest(arguments: dict[str, Any], data: Any) -> None:
    canonical = canonicalise("pay", arguments)
    place = data.draw(st.integers(0, len(canonical) - 1))
    flipped = bytearray(canonical)
    flipped[place] ^= data.draw(st.integers(1, 255))
    assert digest_of(bytes(flipped)) != digest_of(canonical)


@given(ARGUMENTS)
def test_the_same_written_in_any_order_and_spacing_is_one_digest_or_refused(arguments: dict[str, Any]) -> None:
    written = [json.dumps(shuffled(arguments)), json.dumps(arguments, ensure_ascii=False, indent=2)]
    digests = set()
    for text in written:
        try:
            digests.add(digest_of(canonicalise("pay", json.loads(text))))
        except NotCanonical as exc:
            digests.add(str(exc))
    assert len(digests) == 1


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20))
def test_text_is_never_normalised(text: str) -> None:
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")} | {text}
    assert len({digest_of(canonicalise("pay", {"a": form})) for form in forms}) == len(forms)


def test_every_error_of_a_changed_proposal_is_a_sentence() -> None:
    for error in (BytesChanged(1), StaleVersion(1)):
        assert isinstance(error, ApprovalError)
        assert str(error).endswith(".")
