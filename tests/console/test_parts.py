"""Several parts of a page in one answer: each as its own view draws it, for who asks, and nothing else."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client

from approvals.pages.record import views as record_views
from console import views as frame_views
from tests.page_client import signed_in

BY_SCRIPT = {"HX-Request": "true"}
ALL = {
    "inbox-rows": "/inbox/?status=all&search=a%26b",
    "pending-count": "/frame/pending/",
    "notices": "/frame/notices/",
}


def ask(client: Client, parts: dict[str, str], **headers: str) -> Any:
    return client.get(f"/frame/parts/?{urlencode(parts)}", headers=BY_SCRIPT | headers)


def ids(answer: Any) -> list[str]:
    return re.findall(r'<hx-partial id="([^"]*)" hx-swap="outerMorph">', answer.content.decode())


def bare(text: str) -> str:
    """Take away what every drawing makes anew: form tokens, and the moment it was drawn."""
    return re.sub(r'(name="csrfmiddlewaretoken" value|data-live-since)="[^"]*"', "", text)


def test_each_part_is_what_its_own_address_answers(alice: User) -> None:
    client = signed_in(alice)
    answer = ask(client, ALL)
    assert answer.status_code == 200 and ids(answer) == list(ALL)
    assert "HX-Request" in answer["Vary"] and answer["Cache-Control"] == "no-store"
    for address in ALL.values():
        alone = client.get(address, headers=BY_SCRIPT).content.decode()
        assert bare(alone) in bare(answer.content.decode())
    assert 'value="a&amp;b"' in answer.content.decode(), "the address keeps its own query"


@pytest.mark.parametrize(
    "address",
    [
        *("/approvals/apr_nowhere/", "/nowhere/", "", "inbox/", "//evil.example/inbox/", "https://evil.example/inbox/"),
        *("/record/", "/admin/", "/accounts/password/", "/api/v1/approvals", "/inbox/export.csv", "/frame/parts/"),
        *("http://[", "/inbox/\x00"),
    ],
)
def test_what_is_gone_or_is_no_part_of_a_page_is_left_out(ada: User, address: str) -> None:
    client = signed_in(ada)
    answer = ask(client, {"one": address, "pending-count": "/frame/pending/"})
    assert answer.status_code == 200 and ids(answer) == ["pending-count"]
    alone = ask(client, {"one": address})
    assert (alone.status_code, alone.content) == (204, b"")


def test_a_part_that_its_own_view_refuses_is_left_out(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.live.parts.PARTS", {record_views.entries, frame_views.pending})
    answer = ask(signed_in(alice), {"record": "/record/", "pending-count": "/frame/pending/"})
    assert ids(answer) == ["pending-count"]


def test_an_element_id_is_text(alice: User) -> None:
    answer = ask(signed_in(alice), {'"><b>': "/frame/pending/"})
    assert "<b>" not in answer.content.decode() and "&quot;&gt;&lt;b&gt;" in answer.content.decode()


def test_whoever_is_signed_out_or_somebody_else_gets_nothing(alice: User) -> None:
    assert ask(Client(), ALL).status_code == 401
    assert ask(signed_in(alice), ALL, **{"X-Drawn-For": str(alice.pk + 1)}).status_code == 409
    assert signed_in(alice).get("/frame/parts/")["Location"] == "/"


def test_an_absent_database_is_said_once(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*given: object) -> None:
        raise OperationalError

    client = signed_in(alice)
    monkeypatch.setattr("approvals.pages.inbox.views.inbox_for", away)
    assert ask(client, ALL).status_code == 503
