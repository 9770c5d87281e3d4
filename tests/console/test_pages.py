"""The frame around the pages, and errors in words."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError
from django.test import Client

from console import context, health, ports, views
from console.http import sentence
from console.templatetags import signalbox
from tests.fake_ports import FakeRequests, answering
from tests.page_client import signed_in, text

BY_SCRIPT = {"HX-Request": "true"}


def test_home_is_the_inbox(alice: User) -> None:
    assert signed_in(alice).get("/")["Location"] == "/inbox/"


@pytest.mark.parametrize("path", ["/inbox/", "/runs/", "/system/"])
def test_a_page_is_kept_by_nobody_and_allows_nothing_inline(alice: User, path: str) -> None:
    response = signed_in(alice).get(path)
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    policy = dict(part.strip().split(" ", 1) for part in response["Content-Security-Policy"].split(";"))
    nothing = dict.fromkeys(("default-src", "base-uri", "frame-ancestors", "object-src"), "'none'")
    ours = ("script-src", "style-src", "font-src", "connect-src", "form-action", "manifest-src", "worker-src")
    assert policy == nothing | dict.fromkeys(ours, "'self'") | {"img-src": "'self' data:"}
    assert (response["X-Frame-Options"], response["Referrer-Policy"]) == ("DENY", "same-origin")
    assert (response["Cross-Origin-Opener-Policy"], response["X-Content-Type-Options"]) == ("same-origin", "nosniff")
    assert "HX-Request" in response["Vary"]


def test_the_session_is_for_our_own_pages_and_no_script(alice: User) -> None:
    alice.set_password("a long secret")
    alice.save()
    answer = Client().post("/accounts/login/", {"login": "alice", "password": "a long secret"})
    cookie = answer.cookies["sessionid"]
    assert (cookie["samesite"], cookie["httponly"]) == ("Lax", True)


@pytest.mark.parametrize(("count", "label"), [(0, ""), (7, "7"), (999, "999"), (1000, "999+")])
def test_the_badge_stops_counting(alice: User, count: int, label: str) -> None:
    with answering(ports.requests, FakeRequests(pending=count)):
        shown = text(signed_in(alice).get("/frame/pending/", headers=BY_SCRIPT))
    assert f'data-pending="{label}"' in shown


def test_the_frame_never_fails_the_page_inside_it(alice: User, rf: Any) -> None:
    class Away(FakeRequests):
        def pending_count(self, user: User) -> int:
            raise OperationalError

    request = rf.get("/inbox/")
    request.user, request.resolver_match = alice, None
    with answering(ports.requests, Away()):
        assert context.frame_for(request).pending is None


def _away(error: type[Exception]) -> Any:
    def report() -> Any:
        raise error("server closed the connection")

    return report


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_an_absent_database_is_told_in_words_and_the_page_tries_again(
    alice: User, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setattr(health, "report", _away(error))
    response = signed_in(alice).get("/system/")
    assert response.status_code == 503
    assert response["Retry-After"] == "5"
    assert "The database is away" in text(response)
    assert '<meta http-equiv="refresh" content="5">' in text(response)


def test_a_fragment_gets_the_words_alone(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "report", _away(OperationalError))
    response = signed_in(alice).get("/system/", headers=BY_SCRIPT)
    assert response.status_code == 503
    assert response["Content-Type"].startswith("text/plain")
    assert response["HX-Reswap"] == "none"


def test_what_fails_before_any_page_is_told_to_scripts_in_words_too(alice: User) -> None:
    response = signed_in(alice).get("/system/", headers=BY_SCRIPT | {"Host": "evil.example"})
    assert response.status_code == 400
    assert response["Content-Type"].startswith("text/plain") and response["HX-Reswap"] == "none"


def test_an_absent_session_store_is_told_in_words_too(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.contrib.sessions.backends.db import SessionStore

    monkeypatch.setattr(SessionStore, "load", lambda self: _away(OperationalError)())
    client = Client()
    client.cookies["sessionid"] = "0" * 32
    assert client.get("/inbox/").status_code == 503
    answer = client.get("/api/v1/agents")
    assert answer.status_code == 503 and answer.json()["engine"] == "postgres"


def test_what_was_typed_while_the_database_was_away_can_be_sent_again(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide_for_sure = "approvals.pages.request.views.services.decide_for_sure"
    monkeypatch.setattr(decide_for_sure, lambda **asked: _away(OperationalError)())
    sent = {"verdict": "reject", "version": "1", "digest": "0" * 64, "note": "line one\nline <two>", "key": "k"}
    shown = text(signed_in(alice).post("/approvals/apr_1/decision", sent))
    assert 'action="/approvals/apr_1/decision"' in shown
    assert "line one\nline &lt;two&gt;" in shown
    assert 'name="verdict" value="reject"' in shown
    assert "csrfmiddlewaretoken" in shown
    assert "http-equiv" not in shown


def test_a_stale_form_keeps_what_was_typed_and_offers_to_send_it(alice: User) -> None:
    client = signed_in(alice, enforce_csrf_checks=True)
    sent = {"note": "kept", "csrfmiddlewaretoken": "x" * 64}
    response = client.post("/approvals/apr_1/decision", sent, headers={"Origin": "http://testserver"})
    assert response.status_code == 403
    shown = text(response)
    assert "gone stale" in shown and "kept" in shown and "Send again" in shown
    assert "x" * 64 not in shown

    with_a_secret = client.post(
        "/approvals/apr_1/decision", sent | {"password": "hunter2"}, headers={"Origin": "http://testserver"}
    )
    shown = text(with_a_secret)
    assert "gone stale" in shown and "kept" in shown and "Back to its form" in shown
    assert "Send again" not in shown and "hunter2" not in shown, "it would be sent without its secret"


def test_a_strangers_form_is_never_offered_to_be_sent(alice: User) -> None:
    client = signed_in(alice, enforce_csrf_checks=True)
    response = client.post("/approvals/apr_1/decision", {"note": "evil"}, headers={"Origin": "http://evil.example"})
    assert response.status_code == 403
    assert "Send again" not in text(response) and "evil" not in text(response)


def test_a_script_gets_a_new_token_with_the_refusal(alice: User) -> None:
    client = signed_in(alice, enforce_csrf_checks=True)
    headers = BY_SCRIPT | {"Origin": "http://testserver"}
    response = client.post("/approvals/apr_1/decision", {"note": "kept"}, headers=headers)
    assert response.status_code == 403 and response["HX-Reswap"] == "none"
    again = client.post("/approvals/apr_1/decision", {}, headers=headers | {"X-CSRFToken": response["X-CSRFToken"]})
    assert again.status_code != 403


def test_an_error_of_ours_is_told_without_its_details(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(health, "report", broken)
    client = signed_in(alice, raise_request_exception=False)
    response = client.get("/system/")
    assert response.status_code == 500
    assert "Something broke on our side" in text(response) and "secret detail" not in text(response)


def test_nobody_signs_up(db: None) -> None:
    assert "made by an admin" in text(Client().get("/accounts/signup/"))


def test_the_tables_are_for_superusers_only(alice: User) -> None:
    alice.is_staff = True
    alice.save()
    assert signed_in(alice).get("/admin/").status_code == 302
    alice.is_superuser = True
    alice.save()
    assert signed_in(alice).get("/admin/").status_code == 200


def test_the_palette_finds_nothing_for_too_few_letters_and_refuses_strangers(alice: User, eve: User) -> None:
    assert signed_in(alice).get("/search/", {"q": "a"}).json() == {"items": []}
    assert signed_in(alice).get("/search/", {"q": "nothing here"}).json() == {"items": []}
    assert signed_in(eve).get("/search/", {"q": "refund"}).status_code == 403


def test_the_system_page_shows_every_boundary_and_failure_test(alice: User) -> None:
    from console.contracts_page import contracts_page

    shown = text(signed_in(alice).get("/system/"))
    page = contracts_page()
    assert page["boundaries"] and page["failure_tests"]
    for test in page["failure_tests"]:
        assert f'id="drill-{test["name"]}"' in shown
    assert shown.count('class="contract"') == len(page["boundaries"])


def test_every_layer_has_its_column() -> None:
    layers = {layer for layer, *_ in views.LANES}
    assert layers == {"agent", "durable", "data", "console"}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "just now"),
        (59, "59 s ago"),
        (3700, "1 h ago"),
        (71 * 3600, "71 h ago"),
        (80 * 3600, "3 d ago"),
        (-150, "in 2 min"),
    ],
)
def test_distances_in_time_are_said_in_sensible_units(seconds: int, said: str) -> None:
    from datetime import UTC, datetime, timedelta

    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert signalbox.relative(now - timedelta(seconds=seconds), now) == said


def test_words_need_neither_database_nor_session(rf: Any) -> None:
    response = sentence(rf.get("/"), 404, title="Gone", detail="It left.", next_step="Look elsewhere.")
    assert response.status_code == 404 and "Look elsewhere." in text(response)
