"""What was typed into a form whose session had ended: held for the same person, given back, gone when it is sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from approvals.models import Approval, Comment
from tests.approvals.conftest import open_one
from tests.page_client import text

__all__ = ["open_one"]
SECRET = "correct horse battery"
LOGIN = "/accounts/login/"
TYPED = "/typed/"
FROM_HERE = {"Origin": "http://testserver", "Referer": "http://testserver/inbox/"}


@pytest.fixture
def cast(alice: User, bob: User, ada: User, olga: User) -> dict[str, User]:
    people = {one.username: one for one in (alice, bob, ada, olga)}
    for one in people.values():
        one.set_password(SECRET)
        one.save()
    return people


def sign_in(client: Client, name: str) -> None:
    assert client.post(LOGIN, {"login": name, "password": SECRET}).status_code == 302
    client.get("/inbox/")


def end_session(client: Client) -> None:
    client.session.flush()
    del client.cookies["sessionid"]


def forms(approval: Approval) -> list[tuple[str, str, dict[str, str], str]]:
    """Return of each form that takes words: who sends it, where, what, and the words that must not be lost."""
    here = {"version": str(approval.version), "digest": approval.digest, "shown": "", "key": "k1"}
    one = [approval.pk]
    long = "word " * 6000  # above what a page of one's own would cut
    return [
        (
            "alice",
            reverse("approvals:decide", args=one),
            here | {"verdict": "reject", "note": "Paid twice."},
            "Paid twice.",
        ),
        ("alice", reverse("approvals:decide", args=one), here | {"verdict": "respond", "answer": long}, long.strip()),
        ("alice", reverse("approvals:edit", args=one), {"check": "1", "arguments.amount": "12.34"}, "12.34"),
        ("alice", reverse("approvals:comment", args=one), {"text": "Look at the photo."}, "Look at the photo."),
        ("alice", reverse("approvals:reassign", args=one), {"to": "bob"}, "bob"),
        (
            "alice",
            reverse("approvals:redrive", args=one),
            {"action": "set_aside", "reason": "Done by hand"},
            "Done by hand",
        ),
        ("alice", reverse("approvals:make_standing", args=one), {"reason": "Always the same"}, "Always the same"),
        ("alice", reverse("approvals:decide_together"), {"verdict": "reject", "note": "Not these"}, "Not these"),
        ("alice", reverse("approvals:views"), {"name": "My refunds"}, "My refunds"),
        ("alice", reverse("approvals:delegate"), {"to": "bob", "reason": "On holiday"}, "On holiday"),
        ("ada", reverse("approvals:policy_edit"), {"do": "propose", "note": "Two for much"}, "Two for much"),
        ("ada", reverse("dataplane:refresh", args=["handbook"]), {"key": "handbook-again"}, "handbook-again"),
        ("olga", reverse("orchestration:start"), {"agent": "support", "message": "Crushed"}, "Crushed"),
    ]


@pytest.mark.parametrize("which", range(13))
def test_a_form_that_outlived_its_session_comes_back_after_the_sign_in(
    cast: dict[str, User], open_one: Callable[..., Approval], which: int
) -> None:
    name, address, sent, words = forms(open_one())[which]
    client = Client()
    sign_in(client, name)
    end_session(client)
    response = client.post(address, sent, headers=FROM_HERE)
    assert response.status_code == 302 and response["Location"] == f"{LOGIN}?next={TYPED}"
    assert words not in text(client.get(response["Location"]))  # whoever sits there now is not known yet
    sign_in(client, name)
    shown = text(client.get(TYPED))
    assert words in shown and f'action="{address}"' in shown and "Send again" in shown
    for field, value in sent.items():
        assert f'name="{field}"' in shown, (field, value)
    client.post(address, sent, headers=FROM_HERE)
    assert client.get(TYPED)["Location"] == "/"  # sent: nothing is held any more


def test_a_field_is_no_secret_by_its_name(cast: dict[str, User], open_one: Callable[..., Approval]) -> None:
    address, sent = reverse("orchestration:start"), {"agent": "support", "max_tokens": "512", "secret_santa": "Bob"}
    client = Client()
    sign_in(client, "olga")
    end_session(client)
    client.post(address, sent, headers=FROM_HERE)
    sign_in(client, "olga")
    shown = text(client.get(TYPED))
    assert "Send again" in shown and all(f'name="{name}" value="{value}"' in shown for name, value in sent.items())


SECRETS = {"parameters.region": "eu", "parameters.key": "hunter2", "secret_fields": "parameters.key"}


def test_what_holds_a_secret_is_not_sent_again_without_it(cast: dict[str, User]) -> None:
    address = reverse("dataplane:refresh", args=["handbook"])
    client = Client()
    sign_in(client, "ada")
    end_session(client)
    client.post(address, SECRETS, headers=FROM_HERE | {"Referer": "http://testserver/data/handbook/start"})
    assert "hunter2" not in str(dict(client.session))
    sign_in(client, "ada")
    shown = text(client.get(TYPED))
    assert "Send again" not in shown and 'value="eu"' in shown and "hunter2" not in shown
    assert 'Not kept, for it is secret: <b class="mono">parameters.key</b>.' in shown
    assert 'href="/data/handbook/start"' in shown


def test_a_stale_form_with_a_secret_leads_back_to_itself(cast: dict[str, User]) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast["ada"])
    address = reverse("dataplane:refresh", args=["handbook"])
    shown = text(client.post(address, SECRETS, headers=FROM_HERE))
    assert "Send again" not in shown and "Not kept, for it is secret" in shown and 'href="/inbox/"' in shown
    left_empty = text(client.post(address, SECRETS | {"parameters.key": ""}, headers=FROM_HERE))
    assert "Send again" in left_empty and 'name="secret_fields" value="parameters.key"' in left_empty


def test_nobody_else_who_signs_in_there_sees_it(cast: dict[str, User], open_one: Callable[..., Approval]) -> None:
    _, address, sent, words = forms(open_one())[0]
    client = Client()
    sign_in(client, "alice")
    end_session(client)
    client.post(address, sent, headers=FROM_HERE)
    sign_in(client, "bob")
    assert client.get(TYPED)["Location"] == "/"
    assert words not in text(client.get("/inbox/"))
    sign_in(client, "alice")
    assert client.get(TYPED)["Location"] == "/"


def test_what_nobody_here_had_typed_is_not_held(cast: dict[str, User], open_one: Callable[..., Approval]) -> None:
    _, address, sent, _ = forms(open_one())[0]
    for cookie in ("", "forged:1:xyz"):
        client = Client()
        client.cookies["typist"] = cookie
        response = client.post(address, sent, headers=FROM_HERE)
        assert response["Location"] == f"{LOGIN}?next=/inbox/"  # the page that it was on, which can be opened
        assert "held_form" not in client.session


def test_the_form_that_is_given_back_can_be_sent(cast: dict[str, User], open_one: Callable[..., Approval]) -> None:
    approval = open_one()
    client = Client()
    sign_in(client, "alice")
    end_session(client)
    address = reverse("approvals:comment", args=[approval.pk])
    client.post(address, {"text": "Look at the photo."}, headers=FROM_HERE)
    sign_in(client, "alice")
    assert client.post(address, {"text": "Look at the photo."}).status_code == 302
    assert Comment.objects.get().text == "Look at the photo."


def test_what_was_typed_stays_while_one_signs_in_again(
    cast: dict[str, User], open_one: Callable[..., Approval]
) -> None:
    approval = open_one()
    client = Client()
    sign_in(client, "alice")
    page, address = (reverse(f"approvals:{name}", args=[approval.pk]) for name in ("approval", "decide"))
    response = client.post(f"{TYPED}?for={address}&page={page}", {"note": "half a thought"}, headers=FROM_HERE)
    assert response["Location"] == f"/accounts/reauthenticate/?next={page.replace('/', '%2F')}"
    assert client.post(response["Location"], {"password": SECRET})["Location"] == page
    assert "half a thought" in text(client.get(page))
    assert "half a thought" not in text(client.get(reverse("approvals:approval", args=[open_one().pk])))


def test_the_way_back_never_leads_elsewhere(cast: dict[str, User]) -> None:
    client = Client()
    sign_in(client, "alice")
    response = client.post(f"{TYPED}?for=/x&page=https://evil.example/", {"note": "x"}, headers=FROM_HERE)
    assert response["Location"] == "/accounts/reauthenticate/?next=%2F"


def test_a_page_of_one_account_sends_nothing_as_another(
    cast: dict[str, User], open_one: Callable[..., Approval]
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast["bob"])
    drawn = {"HX-Request": "true", "X-Drawn-For": str(cast["alice"].pk), "Origin": "http://testserver"}
    sent = client.post(reverse("approvals:comment", args=[open_one().pk]), {"text": "x"}, headers=drawn)
    assert sent.status_code == 403 and "X-CSRFToken" not in sent and "Another account" in text(sent)
    fetched = client.get("/inbox/", headers=drawn)
    assert fetched.status_code == 409 and fetched["HX-Reswap"] == "none"


def test_a_change_that_came_too_late_can_be_gone_on_with(
    cast: dict[str, User], open_one: Callable[..., Approval]
) -> None:
    approval = open_one()
    client = Client()
    sign_in(client, "alice")
    sent = {"verdict": "edit", "version": "1", "digest": "0" * 64, "note": "less", "edited": '{"amount": "12.34"}'}
    shown = text(client.post(reverse("approvals:decide", args=[approval.pk]), sent))
    assert "Go on with your change" in shown and "12.34" in shown
    again = client.post(reverse("approvals:edit", args=[approval.pk]), {"again": "1", "base": sent["edited"]})
    assert again.status_code == 200 and "12.34" in text(again)
