"""Every rule about the situation, at every door: a rule that one door does not ask is no rule.

Doors: the request's page, the page of a change, the page for several, the API for one and for several, each with a
browser's session or with a token. Rules: a recent sign-in, a least look, no bulk, fresh data.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.internal.flows.login import record_authentication
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.urls import reverse

from approvals import services
from approvals.errors import MayNotDecide
from approvals.models import Approval, Decision
from approvals.reading.first_shown import note_shown
from console import ports, tokens
from console.clock import database_now
from console.http import signed_in_at
from tests.approvals.conftest import REFUND, answer
from tests.fake_ports import FakeAgentPlane, FakeDataPlane, answering

Opener = Callable[..., Approval]
Door = Callable[[Client, Approval, str, dict[str, str]], int]


def page(client: Client, approval: Approval, shown: str, headers: dict[str, str]) -> int:
    sent = {"verdict": "approve", "version": 1, "digest": approval.digest, "shown": shown}
    return _seen(client.post(reverse("approvals:decide", args=[approval.pk]), sent))


def changed_page(client: Client, approval: Approval, shown: str, headers: dict[str, str]) -> int:
    edited = '{"order_id": "8801", "amount": "40.00", "currency": "EUR", "reason": "broken"}'
    sent = {"verdict": "edit", "version": 1, "digest": approval.digest, "shown": shown, "edited": edited}
    return _seen(client.post(reverse("approvals:decide", args=[approval.pk]), sent))


def together(client: Client, approval: Approval, shown: str, headers: dict[str, str]) -> int:
    sent = {"verdict": "approve", "item": f"{approval.pk}:1:{approval.digest}", "shown": shown}
    return _seen(client.post(reverse("approvals:decide_together"), sent))


def api(client: Client, approval: Approval, shown: str, headers: dict[str, str]) -> int:
    body = {"verdict": "approve", "version": 1, "digest": approval.digest, "shown": shown}
    return _seen(_post(client, f"/api/v1/approvals/{approval.pk}/decision", body, headers))


def api_edit(client: Client, approval: Approval, shown: str, headers: dict[str, str]) -> int:
    edited = REFUND | {"amount": "40.00"}
    body = {"verdict": "edit", "version": 1, "digest": approval.digest, "shown": shown, "edited_arguments": edited}
    return _seen(_post(client, f"/api/v1/approvals/{approval.pk}/decision", body, headers))


def api_bulk(client: Client, approval: Approval, shown: str, headers: dict[str, str]) -> int:
    item = {"id": approval.pk, "verdict": "approve", "version": 1, "digest": approval.digest}
    told = _post(client, "/api/v1/approvals/decisions", {"items": [item]}, headers)
    assert told.status_code == 200
    return int(told.json()["items"][0]["status"])


def _post(client: Client, path: str, body: dict[str, Any], headers: dict[str, str]) -> Any:
    return client.post(path, body, content_type="application/json", headers=headers)


def _seen(response: Any) -> int:
    """Return 200 where a decision was taken and 403 where not; the pages say it in words."""
    if response.status_code == 302 or (response.status_code == 200 and Decision.objects.exists()):
        return 200
    return 403 if response.status_code in (200, 403) else int(response.status_code)


DOORS: dict[str, Door] = {
    "page": page,
    "changed page": changed_page,
    "together": together,
    "api": api,
    "api edit": api_edit,
    "api bulk": api_bulk,
}
IN_BULK = ("together", "api bulk")
BY_TOKEN = ("api", "api edit", "api bulk")
OLD = [{"dataset": "handbook", "version": 1}]


def session_of(user: User, *, minutes_ago: int) -> Client:
    client = Client()
    client.force_login(user)
    session = client.session
    at = (database_now() - timedelta(minutes=minutes_ago)).timestamp()
    session["account_authentication_methods"] = [{"method": "password", "at": at}]
    session["account_authentication_methods_user"] = str(user.pk)
    session.save()
    return client


def through(door: str, who: str, user: User, approval: Approval, *, minutes_ago: int = 1, look: int = 3600) -> int:
    approval.read_at = database_now() - timedelta(seconds=look)  # type: ignore[attr-defined]  # as a selector reads it
    note = note_shown(approval, user) if look else ""
    if who == "token":
        headers = {"Authorization": f"Bearer {tokens.create_token(owner=user)}"}
        return DOORS[door](Client(), approval, note, headers)
    return DOORS[door](session_of(user, minutes_ago=minutes_ago), approval, note, {})


WAYS = [(door, "session") for door in DOORS] + [(door, "token") for door in BY_TOKEN]


@pytest.mark.parametrize(("door", "who"), WAYS)
def test_without_a_rule_every_door_takes_it(door: str, who: str, open_one: Opener, terms: Any, alice: User) -> None:
    terms()
    assert through(door, who, alice, open_one(risk="low"), look=0) == 200


@pytest.mark.parametrize(("door", "who"), WAYS)
def test_a_least_look_is_asked_at_every_door(door: str, who: str, open_one: Opener, terms: Any, alice: User) -> None:
    terms(dwell_seconds=60)
    for look in (0, 50):
        approval = open_one(risk="low")
        assert through(door, who, alice, approval, look=look) == 403
        assert not Decision.objects.exists()
    assert through(door, who, alice, open_one(risk="low"), look=70) == (403 if door in IN_BULK else 200)


@pytest.mark.parametrize(("door", "who"), WAYS)
def test_a_recent_sign_in_is_asked_at_every_door(
    door: str, who: str, open_one: Opener, terms: Any, alice: User
) -> None:
    terms(fresh_sign_in_minutes=5)
    assert through(door, who, alice, open_one(risk="low"), minutes_ago=6) == 403
    assert not Decision.objects.exists()
    recent = through(door, who, alice, open_one(risk="low"), minutes_ago=4)
    assert recent == (403 if who == "token" else 200), "a token cannot be asked to sign in again"


@pytest.mark.parametrize(("door", "who"), WAYS)
@pytest.mark.parametrize("rule", [{"may_bulk": False}, {"risk": "high"}])
def test_what_is_decided_alone_is_decided_alone_at_every_door(
    rule: dict[str, Any], door: str, who: str, open_one: Opener, terms: Any, alice: User
) -> None:
    terms(**rule)
    assert through(door, who, alice, open_one(risk="low")) == (403 if door in IN_BULK else 200)


@pytest.mark.parametrize(("door", "who"), WAYS)
def test_nobody_approves_on_stale_data_at_any_door(
    door: str, who: str, open_one: Opener, terms: Any, alice: User
) -> None:
    terms(needs_fresh_data=True)
    data = FakeDataPlane({"handbook": 2})
    with answering(ports.data_plane, data):
        assert through(door, who, alice, open_one(risk="low", dataset_versions=OLD)) == 403
        assert not Decision.objects.exists()
        stale = open_one(risk="low", dataset_versions=OLD)
        data.current["handbook"] = 1  # it was made current again, or was confirmed
        assert through(door, who, alice, stale) == 200


def test_stale_data_is_told_on_the_page_with_the_way_on_and_refused_in_words(
    open_one: Opener, terms: Any, alice: User
) -> None:
    terms(needs_fresh_data=True)
    plane = FakeAgentPlane()
    with answering(ports.data_plane, FakeDataPlane({"handbook": 2})), answering(ports.agent_plane, plane):
        approval = open_one(dataset_versions=OLD)
        plane.runs.add(approval.run_id)
        words = "lets nobody approve this on stale data, and the agent has read handbook version 1"
        browser = session_of(alice, minutes_ago=1)
        shown = browser.get(reverse("approvals:approval", args=[approval.pk])).text
        assert words in shown and reverse("orchestration:think_again", args=[approval.run_id]) in shown
        headers = {"Authorization": f"Bearer {tokens.create_token(owner=alice)}"}
        body = {"verdict": "approve", "version": 1, "digest": approval.digest}
        refused = _post(Client(), f"/api/v1/approvals/{approval.pk}/decision", body, headers)
        assert (refused.status_code, refused.json()["rule"]) == (403, "stale-data") and words in refused.json()[
            "detail"
        ]
        rejected = services.decide(
            approval_id=approval.pk, reviewer=alice, given=answer(approval, "reject", note="It is outdated.")
        )
        assert rejected.verdict == "reject"


def test_a_second_person_cannot_complete_an_approval_whose_data_has_become_stale(
    open_one: Opener, terms: Any, alice: User, bob: User
) -> None:
    terms(needs_fresh_data=True, needed=2)
    data = FakeDataPlane({"handbook": 1})
    with answering(ports.data_plane, data):
        approval = open_one(dataset_versions=OLD)
        services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
        data.current["handbook"] = 2
        with pytest.raises(MayNotDecide, match="stale data"):
            services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
        approval.refresh_from_db()
        assert approval.is_open


def test_the_api_gives_the_note_that_a_least_look_needs(open_one: Opener, terms: Any, alice: User) -> None:
    terms(dwell_seconds=60)
    approval = open_one()
    client = session_of(alice, minutes_ago=1)
    shown = client.get(f"/api/v1/approvals/{approval.pk}").json()["shown"]
    body = {"verdict": "approve", "version": 1, "digest": approval.digest, "shown": shown}
    early = client.post(f"/api/v1/approvals/{approval.pk}/decision", body, content_type="application/json")
    assert early.status_code == 403 and early.json()["rule"] == "dwell"
    assert "send its `shown` back" in early.json()["detail"]


@pytest.mark.parametrize(
    "rule", [{"dwell_seconds": 5}, {"fresh_sign_in_minutes": 5}, {"risk": "high"}, {"needs_fresh_data": True}]
)
def test_nothing_is_approved_in_advance_where_somebody_is_wanted(
    rule: dict[str, Any], open_one: Opener, terms: Any, alice: User
) -> None:
    terms(**rule)
    refusal = services.standing.refusal_to_make(alice, open_one(risk="low"))
    assert refusal is not None and "cannot be approved in advance" in str(refusal)


@pytest.mark.parametrize("hours", [-9, 9])
def test_a_sign_in_has_the_databases_time_whatever_the_clock_of_the_process_says(
    hours: int, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = RequestFactory().get("/")
    request.user, request.session = alice, Client().session
    wrong = time.time() + hours * 3600
    with monkeypatch.context() as then:
        then.setattr("allauth.account.internal.flows.login.time.time", lambda: wrong)
        record_authentication(request, alice, method="password")
    at = signed_in_at(request)
    assert at is not None and abs(database_now() - at) < timedelta(minutes=5)


def test_a_plain_verdict_needs_no_look(open_one: Opener, terms: Any, alice: User) -> None:
    terms(dwell_seconds=60)
    approval = open_one()
    given = answer(approval, "reject", note="no")
    assert services.decide(approval_id=approval.pk, reviewer=alice, given=given).verdict == "reject"
