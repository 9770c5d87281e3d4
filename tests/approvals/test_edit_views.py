"""Change, answer and compare, as pages: with and without script, and nothing typed is lost."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from approvals import services
from approvals.models import Approval, Decision
from console.clock import database_now
from orchestration.agents.support.tools import IssueRefund
from orchestration.models import Effect, Run
from tests.page_client import signed_in, text

from .conftest import REFUND, answer
from .test_views import BY_SCRIPT, address, decide

Open = Callable[..., Approval]
SCHEMA = IssueRefund.model_json_schema()


def edit_address(approval: Approval) -> str:
    return reverse("approvals:edit", args=[approval.pk])


def hidden(page: str, name: str) -> str:
    found = re.search(rf'<input type="hidden" name="{name}" value="([^"]*)"', page)
    assert found, name
    return html.unescape(found.group(1))


def draft_of(page: str) -> str:
    """Return what tells the form for the arguments from others with the same address."""
    found = re.search(r'<form class="editing"[^>]* data-draft="([^"]*)"', page)
    assert found
    return found.group(1)


def change(client: Any, approval: Approval, **typed: str) -> Any:
    """Fill the form as a browser would and ask for the difference."""
    page = text(client.get(edit_address(approval)))
    sent = {name: hidden(page, name) for name in ("version", "digest", "shown", "base")}
    sent |= {f"arguments.{name}": value for name, value in (REFUND | typed).items()}
    return client.post(edit_address(approval), sent | {"note": "less", "check": "1"})


def test_a_change_is_typed_read_as_a_difference_and_approved_by_another(alice: User, bob: User, open_one: Open) -> None:
    client, approval = signed_in(alice), open_one(arguments_schema=SCHEMA)
    checked = change(client, approval, amount="40.00")
    page = text(checked)
    assert checked.status_code == 200
    assert "Refund 40.00 EUR to order 8801" in page and "Approve with change" in page
    assert "<del>" in page and "<ins>" in page
    assert not Decision.objects.exists()
    sent = {name: hidden(page, name) for name in ("version", "digest", "shown", "key", "edited")}
    response = client.post(reverse("approvals:decide", args=[approval.pk]), sent | {"verdict": "edit", "note": "less"})
    assert response.status_code == 302
    approval.refresh_from_db()
    assert (approval.status, approval.version) == ("pending", 2), "who changes a proposal does not approve the change"
    assert json.loads(bytes(approval.canonical))["arguments"] == REFUND | {"amount": "40.00"}
    assert "You changed this proposal, so somebody else has to approve it." in text(client.get(address(approval)))
    services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
    shown = text(client.get(address(approval)))
    assert "changed by alice" in shown and "Approved with change" in shown


@pytest.mark.parametrize(
    ("typed", "words"), [({"amount": "40"}, "amount"), ({"reason": ""}, "reason"), ({}, "Nothing was changed")]
)
def test_what_does_not_fit_comes_back_with_a_sentence_and_all_that_was_typed(
    typed: dict[str, str], words: str, alice: User, open_one: Open
) -> None:
    client, approval = signed_in(alice), open_one(arguments_schema=SCHEMA)
    response = change(client, approval, **typed)
    assert response.status_code == 422
    assert words in text(response) and ">\nless</textarea>" in text(response)
    for value in (REFUND | typed).values():
        assert value in text(response)


def test_change_more_goes_back_to_the_form_with_the_change(alice: User, open_one: Open) -> None:
    client, approval = signed_in(alice), open_one(arguments_schema=SCHEMA)
    page = text(change(client, approval, amount="40.00"))
    sent = {name: hidden(page, name) for name in ("version", "digest", "shown", "base")}
    again = text(client.post(edit_address(approval), sent | {"again": "1", "note": "less"}))
    assert 'value="40.00"' in again and ">\nless</textarea>" in again


def test_a_form_that_is_drawn_from_the_change_is_another_one_to_the_browser(alice: User, open_one: Open) -> None:
    client, approval = signed_in(alice), open_one(arguments_schema=SCHEMA)
    first, redrawn = text(client.get(edit_address(approval))), text(change(client, approval, amount="40"))
    assert draft_of(first) == draft_of(redrawn), "what was typed comes back under the names that it was typed under"
    edited = hidden(text(change(client, approval, amount="40.00")), "edited")
    again = text(client.post(edit_address(approval), {"again": "1", "base": edited}))
    assert draft_of(again) != draft_of(first)
    not_taken = client.post(edit_address(approval), {"base": edited, "check": "1", "arguments.amount": "x"})
    assert not_taken.status_code == 422 and draft_of(text(not_taken)) == draft_of(again)


def test_somebody_elses_decision_keeps_what_was_being_changed(alice: User, bob: User, open_one: Open) -> None:
    client, approval = signed_in(alice), open_one(arguments_schema=SCHEMA)
    page = text(client.get(edit_address(approval)))
    services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
    sent = {name: hidden(page, name) for name in ("version", "digest", "shown", "base")}
    sent |= {f"arguments.{name}": value for name, value in (REFUND | {"amount": "12.34"}).items()}
    late = client.post(edit_address(approval), sent | {"note": "my reason", "check": "1"})
    assert late.status_code == 409
    assert "bob" in text(late) and "12.34" in text(late) and "my reason" in text(late)


def test_another_version_meanwhile_is_said_before_anything_is_sent(
    alice: User, bob: User, terms: Any, open_one: Open
) -> None:
    terms(needed=2)
    client, approval = signed_in(alice), open_one(arguments_schema=SCHEMA)
    page = text(client.get(edit_address(approval)))
    given = answer(approval, "edit", edited_arguments=REFUND | {"amount": "1.00"})
    services.decide(approval_id=approval.pk, reviewer=bob, given=given)
    sent = {name: hidden(page, name) for name in ("version", "digest", "shown", "base")}
    sent |= {f"arguments.{name}": value for name, value in (REFUND | {"amount": "x"}).items()}
    assert "another version became the current one" in text(client.post(edit_address(approval), sent | {"check": "1"}))


def test_who_may_not_change_sees_the_request_instead(olga: User, open_one: Open) -> None:
    assert "can be decided by" in text(signed_in(olga).get(edit_address(open_one(arguments_schema=SCHEMA))))


def test_hidden_arguments_that_the_tool_does_not_know_change_nothing(alice: User, open_one: Open) -> None:
    client, approval = signed_in(alice), open_one(arguments_schema=SCHEMA)
    smuggled = json.dumps(REFUND | {"to_account": "DE99"})
    response = decide(client, approval, verdict="edit", edited=smuggled)
    assert response.status_code == 422
    assert not Decision.objects.exists()


TWICE = '{"amount": "1.00", ' + json.dumps(REFUND | {"amount": "2.00"})[1:]


@pytest.mark.parametrize("edited", ["", "{", "[]", "null", '{"amount": NaN}', "[" * 100_000, TWICE])
def test_broken_changed_arguments_change_nothing(edited: str, alice: User, open_one: Open) -> None:
    client, approval = signed_in(alice), open_one(arguments_schema=SCHEMA)
    assert decide(client, approval, verdict="edit", edited=edited).status_code == 422
    assert not Decision.objects.exists()


def test_an_answer_is_typed_on_the_page_and_shown_as_the_answer(alice: User, open_one: Open) -> None:
    client, approval = signed_in(alice), open_one()
    assert 'name="answer"' in text(client.get(address(approval) + "?answering=1"))
    empty = decide(client, approval, verdict="respond", answer=" ")
    assert empty.status_code == 422 and 'name="answer"' in text(empty)
    decide(client, approval, verdict="respond", answer="Ask the warehouse first.")
    assert Decision.objects.get().answer == "Ask the warehouse first."
    assert "Ask the warehouse first." in text(client.get(address(approval)))


def test_the_page_counts_people_and_offers_no_second_vote(alice: User, bob: User, terms: Any, open_one: Open) -> None:
    terms(needed=2)
    approval = open_one()
    decide(signed_in(alice), approval)
    mine, his = text(signed_in(alice).get(address(approval))), text(signed_in(bob).get(address(approval)))
    assert "1 of 2 agreed" in mine and "alice agrees" in mine and 'value="approve"' not in mine
    assert "1 of 2 agreed" in his and 'value="approve"' in his


def test_the_look_is_counted_from_the_first_time_the_version_was_shown(alice: User, terms: Any, open_one: Open) -> None:
    terms(dwell_seconds=3600)
    client, approval = signed_in(alice), open_one()
    shown = hidden(text(client.get(address(approval))), "shown")
    refreshed = client.get(address(approval), {"shown": shown}, headers=BY_SCRIPT)
    assert hidden(text(refreshed), "shown") == shown
    assert hidden(text(client.get(address(approval), {"shown": "forged"})), "shown") != "forged"
    early = decide(client, approval, shown=shown)
    assert early.status_code == 403 and "Take at least 3600 seconds" in text(early)


def test_a_note_of_another_request_or_person_counts_for_nothing(alice: User, bob: User, open_one: Open) -> None:
    from approvals.reading.first_shown import note_shown, shown_at

    one, other = open_one(), open_one()
    note = note_shown(one, alice)
    assert shown_at(note, one.pk, 1, alice) is not None
    others = ((note, other.pk, 1, alice), (note, one.pk, 1, bob), (note, one.pk, 2, alice), ("x", one.pk, 1, alice))
    assert [shown_at(*asked) for asked in others] == [None] * 4


@pytest.mark.parametrize("hours", [-9, 9])
def test_a_note_has_the_databases_time_whatever_the_clock_of_the_process_says(
    hours: int, alice: User, open_one: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from approvals.reading.first_shown import note_shown, shown_at

    approval, wrong = open_one(), time.time() + hours * 3600
    before = database_now()
    with monkeypatch.context() as then:
        then.setattr(time, "time", lambda: wrong)
        note = note_shown(approval, alice)
        at = shown_at(note, approval.pk, 1, alice)
    assert at is not None and before - timedelta(seconds=1) <= at <= database_now()


def test_where_a_recent_sign_in_is_needed_the_page_says_so_first(alice: User, terms: Any, open_one: Open) -> None:
    terms(fresh_sign_in_minutes=5)
    client, approval = signed_in(alice), open_one()
    page = text(client.get(address(approval)))
    assert "Sign in again" in page and f"{reverse('account_reauthenticate')}?next={address(approval)}" in page
    assert decide(client, approval).status_code == 403
    alice.set_password("a long secret")
    alice.save()
    client = Client()
    client.post(reverse("account_login"), {"login": "alice", "password": "a long secret"})
    session = client.session
    newest = session["account_authentication_methods"]
    session["account_authentication_methods"] = [newest[0] | {"at": 0.0}, *newest]  # an older proof stands before it
    session.save()
    assert "Sign in again" not in text(client.get(address(approval)))
    assert decide(client, approval).status_code == 302


def test_long_values_are_marked_and_nothing_of_them_is_missing(alice: User, open_one: Open) -> None:
    long = "pay " * 400
    page = text(signed_in(alice).get(address(open_one(arguments=REFUND | {"reason": long}))))
    assert page.count("data-fold=") == 1
    assert long.strip() in page and 'data-reads="action-' in page


def test_any_two_records_of_a_request_can_be_compared(alice: User, bob: User, open_one: Open) -> None:
    client, approval = signed_in(alice), open_one(arguments_schema=SCHEMA)
    given = answer(approval, "edit", edited_arguments=REFUND | {"amount": "40.00"})
    decision = services.decide(approval_id=approval.pk, reviewer=alice, given=given)
    approval.refresh_from_db()
    services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
    compare = reverse("approvals:compare", args=[approval.pk])
    whole = text(client.get(compare))
    assert "Proposed by the agent" in whole and "Shown to alice" in whole and "Changed by alice" in whole
    assert "<del>" in whole and "Differs from the proposal" in whole
    same = text(client.get(compare, {"a": "proposed", "b": f"shown-{decision.pk}"}, headers=BY_SCRIPT))
    assert "Both are the same bytes" in same
    assert client.get(compare, {"a": "nonsense", "b": "<x>"}).status_code == 200


def test_what_was_executed_is_compared_by_its_arguments_and_not_by_its_word(alice: User, open_one: Open) -> None:
    client, approval = signed_in(alice), open_one()
    decide(client, approval)
    run = Run.objects.create(id="run-1", agent="support", input={}, input_digest="0" * 64)
    effect = Effect.objects.create(
        approval_id=approval.pk, run=run, tool=approval.tool, digest=approval.digest, arguments=REFUND, decision_id="d",
        status="done", is_idempotent=True, fence=1,
    )  # fmt: skip
    compare = reverse("approvals:compare", args=[approval.pk])
    asked = {"a": "proposed", "b": "executed"}
    assert "Both are the same bytes" in text(client.get(compare, asked, headers=BY_SCRIPT))
    effect.arguments = REFUND | {"amount": "99.40"}
    effect.save()
    assert "Both are the same bytes" not in text(client.get(compare, asked, headers=BY_SCRIPT))
