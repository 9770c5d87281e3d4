"""The page of one request, as plain pages and as fragments."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from approvals import services
from approvals.models import Approval
from tests.page_client import signed_in, text

from .conftest import answer
from .test_ladder import age

Open = Callable[..., Approval]
INBOX = reverse("approvals:inbox")
BY_SCRIPT = {"HX-Request": "true"}


def address(approval: Approval) -> str:
    return reverse("approvals:approval", args=[approval.pk])


def decide(client: Client, approval: Approval, *, by_script: bool = False, **changes: Any) -> Any:
    sent = {"verdict": "approve", "version": approval.version, "digest": approval.digest, "note": "", "key": ""}
    headers = BY_SCRIPT if by_script else {}
    return client.post(reverse("approvals:decide", args=[approval.pk]), sent | changes, headers=headers)


@pytest.mark.parametrize("path", [INBOX, "/approvals/apr_none/"])
def test_a_stranger_signs_in_first_and_comes_back(db: None, path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 302
    assert response["Location"] == f"/accounts/login/?next={path}"


def test_a_script_of_somebody_signed_out_gets_words_that_replace_nothing(db: None) -> None:
    response = Client().get(INBOX, headers=BY_SCRIPT)
    assert response.status_code == 401
    assert response["HX-Reswap"] == "none"
    assert "signed out" in text(response)


def test_somebody_without_a_role_is_told_whom_to_ask(eve: User, open_one: Open) -> None:
    response = signed_in(eve).get(address(open_one()))
    assert response.status_code == 403
    assert "has no role yet" in text(response) and "role admin" in text(response)


def test_the_page_shows_the_exact_arguments_and_the_digest(alice: User, open_one: Open) -> None:
    approval = open_one(arguments={"amount": "89.40", "lines": [{"sku": "A", "n": 2}], "note": "a\u202eb"})
    shown = text(signed_in(alice).get(address(approval)))
    assert approval.digest in shown
    assert "lines[0].n" in shown and "&quot;89.40&quot;" in shown
    assert "⟨U+202E⟩" in shown and "\u202e" not in shown


def test_the_agents_words_are_escaped_marked_and_inert(alice: User, open_one: Open) -> None:
    approval = open_one(agent_words='<img src=x onerror="alert(1)"><b hx-get="/x">now</b>\u200b')
    shown = text(signed_in(alice).get(address(approval)))
    assert "<img src=x" not in shown and "&lt;img src=x" in shown
    assert "⟨U+200B⟩" in shown
    assert "Not checked" in shown
    words = shown[shown.index('id="words-') :]
    assert "hx-ignore" in words[: words.index("&lt;img")]


def test_a_plain_decision_ends_on_the_page_and_a_scripted_one_in_the_fragment(alice: User, open_one: Open) -> None:
    client, first, second = signed_in(alice), open_one(), open_one()
    plain = decide(client, first)
    assert plain.status_code == 302 and plain["Location"] == address(first)
    scripted = decide(client, second, by_script=True)
    assert scripted.status_code == 200
    assert text(scripted).count("<html") == 0
    assert "Approved by alice" in text(scripted)
    assert "HX-Request" in scripted["Vary"]


def test_the_same_form_sent_twice_is_one_decision(alice: User, open_one: Open) -> None:
    client, approval = signed_in(alice), open_one()
    assert [decide(client, approval, key="k1").status_code for _ in range(2)] == [302, 302]
    assert approval.decisions.count() == 1


@pytest.mark.parametrize("by_script", [True, False])
def test_a_late_click_is_told_who_was_first_and_keeps_its_words(
    alice: User, bob: User, open_one: Open, by_script: bool
) -> None:
    approval = open_one()
    services.decide(
        approval_id=approval.pk, reviewer=alice, given=answer(approval), circumstances=services.Circumstances("page")
    )
    response = decide(signed_in(bob), approval, by_script=by_script, verdict="reject", note="no, wait")
    assert response.status_code == 409
    assert "Approved by alice" in text(response)
    assert "no, wait" in text(response)


def test_a_rejection_without_a_reason_comes_back_with_the_form(alice: User, open_one: Open) -> None:
    approval = open_one()
    response = decide(signed_in(alice), approval, verdict="reject")
    assert response.status_code == 422
    assert "Say why" in text(response)
    assert 'name="verdict" value="approve"' in text(response)


def test_another_version_than_the_shown_one_is_refused_with_the_new_form(alice: User, open_one: Open) -> None:
    approval = open_one()
    response = decide(signed_in(alice), approval, digest="0" * 64, note="kept")
    assert response.status_code == 409
    assert "Read it again" in text(response) and "kept" in text(response)
    assert approval.digest in text(response)


@pytest.mark.parametrize("sent", [{"verdict": "maybe"}, {"version": "x"}, {"digest": "short"}])
def test_a_broken_form_changes_nothing(alice: User, open_one: Open, sent: dict[str, Any]) -> None:
    approval = open_one()
    response = decide(signed_in(alice), approval, note="kept", **sent)
    assert response.status_code == 422
    assert "kept" in text(response)
    assert approval.decisions.count() == 0


def test_who_may_not_decide_sees_who_can_and_no_buttons(olga: User, open_one: Open) -> None:
    approval = open_one(requested_by=olga)
    client = signed_in(olga)
    shown = text(client.get(address(approval)))
    assert "reviewer" in shown and 'name="verdict"' not in shown
    assert decide(client, approval).status_code == 403


def test_a_get_decides_nothing(alice: User, open_one: Open) -> None:
    response = signed_in(alice).get(reverse("approvals:decide", args=[open_one().pk]))
    assert response.status_code == 405


def test_where_only_a_form_is_sent_a_reader_gets_words(alice: User, open_one: Open) -> None:
    response = signed_in(alice).get(reverse("approvals:decide", args=[open_one().pk]))
    assert "no page at this address" in text(response) and response["Allow"] == "POST"


def test_after_ones_own_decision_nothing_typed_is_left_over(alice: User, bob: User, open_one: Open) -> None:
    approval = open_one()
    taken = text(decide(signed_in(alice), approval, by_script=True, note="they paid twice"))
    assert "What you had typed" not in taken
    late = text(decide(signed_in(bob), approval, by_script=True, note="no, wait"))
    assert "What you had typed" in late and "no, wait" in late


def test_why_a_request_was_withdrawn_is_told_on_its_page_by_the_api_and_to_who_comes_late(
    alice: User, open_one: Open
) -> None:
    approval, client = open_one(), signed_in(alice)
    shown = client.get(f"/api/v1/approvals/{approval.pk}").json()
    assert shown["withdrawal"] is None
    services.withdraw(run_id="run-1", reason="The order was <cancelled>\u202e.", actor="worker")
    told = "by worker. The reason: The order was &lt;cancelled&gt;⟨U+202E⟩."
    assert told in text(client.get(address(approval)))
    assert told in text(decide(client, approval))
    shown = client.get(f"/api/v1/approvals/{approval.pk}").json()
    assert shown["withdrawal"] == {"by": "worker", "reason": "The order was <cancelled>\u202e."}
    late = client.post(
        f"/api/v1/approvals/{approval.pk}/decision",
        {"verdict": "approve", "version": 1, "digest": approval.digest},
        content_type="application/json",
        headers={"Origin": "http://testserver"},
    )
    assert late.status_code == 409 and "The order was" in late.json()["detail"]


def test_an_unknown_request_is_told_in_words(alice: User) -> None:
    response = signed_in(alice).get("/approvals/apr_none/")
    assert response.status_code == 404
    assert "names nothing" in text(response)


def test_two_keys_never_look_the_same(alice: User, open_one: Open) -> None:
    odd = {"a.b": 1, "a": {"b": 2}, "c[0]": 3, "c": [4], "": 5, "x y": 6, "naïve-id": 7}
    shown = text(signed_in(alice).get(address(open_one(arguments=odd))))
    rows = re.findall(r'<th scope="row">(.*?)</th>', shown)
    assert [html.unescape(row) for row in rows] == ['[""]', "a.b", '["a.b"]', "c[0]", '["c[0]"]', "naïve-id", '["x y"]']


def test_the_page_says_when_it_asks_again_and_whom(alice: User, open_one: Open) -> None:
    approval = open_one()
    shown = text(signed_in(alice).get(address(approval)))
    assert "Reminds <time" in shown and "Asks the admins too <time" in shown
    age(approval, 25)
    services.climb([approval.pk])
    shown = text(signed_in(alice).get(address(approval)))
    assert "Reminded <time" in shown and "Asks the admins too <time" in shown
