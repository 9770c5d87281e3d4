"""One sign-in for all doors: what strangers may try, what they cannot lock, and what the record says of it."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import hashers
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from approvals.models import AuditEvent
from approvals.record import audit
from console import tries
from console.models import SignInCount
from tests.api_caller import Caller, problem

PASSWORD = "a long secret"
LOGIN = "/accounts/login/"


@pytest.fixture
def alice(alice: User) -> User:
    alice.set_password(PASSWORD)
    alice.save()
    return alice


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow few tries, so that tests stay quick."""
    limits = {"pair": 3, "device": 3, "place": 6, "account": 8, "token": 3, "entries": 9}
    for scope, number in limits.items():
        monkeypatch.setitem(tries.LIMITS, scope, tries.TryLimit(number, tries.LIMITS[scope].minutes))


def sign_in(client: Client, name: str = "alice", password: str = "wrong", place: str = "192.0.2.1") -> Any:
    return client.post(LOGIN, {"login": name, "password": password}, REMOTE_ADDR=place)


def later(**by: float) -> None:
    """Let time pass for what is counted."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE console_signincount SET since = since - %s::interval", [str(timedelta(**by))])


def recorded() -> list[tuple[str, str, Any]]:
    assert audit.verify().ok
    return list(AuditEvent.objects.order_by("seq").values_list("actor", "kind", "body"))


def test_after_so_many_tries_the_right_password_is_not_looked_at_either(few: None, alice: User) -> None:
    for _ in range(3):
        assert sign_in(Client()).status_code == 200
    stopped = sign_in(Client(), password=PASSWORD)
    assert stopped.status_code == 429
    assert 0 < int(stopped["Retry-After"]) <= 15 * 60
    assert "Wait 15 minutes" in stopped.content.decode()
    assert 'value="alice"' in stopped.content.decode()
    assert sign_in(Client(), password=PASSWORD, place="192.0.2.2").status_code == 302
    later(minutes=15)
    assert sign_in(Client(), password=PASSWORD).status_code == 302


def test_a_stranger_cannot_lock_out_a_browser_that_the_account_knows(few: None, alice: User) -> None:
    known = Client()
    assert sign_in(known, password=PASSWORD, place="192.0.2.200").status_code == 302
    known.post("/accounts/logout/")
    for number in range(20):
        sign_in(Client(), place=f"192.0.2.{number}")
    assert sign_in(Client(), password=PASSWORD, place="192.0.2.199").status_code == 429
    assert sign_in(known, password=PASSWORD, place="192.0.2.0").status_code == 302


def test_a_known_browser_has_a_limit_of_its_own(few: None, alice: User) -> None:
    known = Client()
    sign_in(known, password=PASSWORD)
    known.post("/accounts/logout/")
    answers = [sign_in(known, place=f"198.51.100.{number}").status_code for number in range(4)]
    assert answers == [200, 200, 200, 429]
    assert sign_in(Client(), password=PASSWORD, place="198.51.100.1").status_code == 302


def test_a_cookie_of_another_account_or_a_made_up_one_knows_nobody(few: None, alice: User, bob: User) -> None:
    bob.set_password(PASSWORD)
    bob.save()
    bobs = Client()
    sign_in(bobs, "bob", PASSWORD)
    bobs.post("/accounts/logout/")
    forged = Client()
    forged.cookies[django_settings.DEVICE_COOKIE_NAME] = "eyJkZXZpY2UiOiIxIiwiYWNjb3VudHMiOlsxXX0:1vP:xxxx"
    for client in (bobs, forged):
        SignInCount.objects.all().delete()
        for _ in range(4):
            last = sign_in(client)
        assert last.status_code == 429
        assert not SignInCount.objects.filter(scope="device").exists()


def test_the_devices_cookie_is_for_our_own_pages_and_no_script(alice: User) -> None:
    cookie = sign_in(Client(), password=PASSWORD).cookies[django_settings.DEVICE_COOKIE_NAME]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
    assert int(cookie["max-age"]) > 300 * 24 * 3600
    assert django_settings.DEVICE_COOKIE_NAME not in sign_in(Client()).cookies


def test_one_place_has_so_many_tries_whatever_the_name(few: None, alice: User) -> None:
    answers = [sign_in(Client(), f"name-{number}").status_code for number in range(8)]
    assert answers == [200] * 6 + [429] * 2
    assert sign_in(Client(), password=PASSWORD, place="192.0.2.2").status_code == 302
    assert SignInCount.objects.count() < 25


def test_signing_in_well_uses_nothing_up(few: None, alice: User) -> None:
    for _ in range(12):
        assert sign_in(Client(), password=PASSWORD).status_code == 302
    for _ in range(2):
        sign_in(Client())
    assert sign_in(Client(), password=PASSWORD).status_code == 302
    assert recorded()[-1][2]["refused_before"] == 2


def test_an_ipv6_customer_is_one_place(few: None, alice: User) -> None:
    answers = [sign_in(Client(), place=f"2001:db8:1:2::{number}").status_code for number in range(1, 5)]
    assert answers == [200, 200, 200, 429]
    assert sign_in(Client(), place="::ffff:192.0.2.9").status_code == 200
    assert SignInCount.objects.filter(scope="pair", place="192.0.2.9").exists()


@pytest.mark.parametrize("name", ["alice", "ALICE", "nobody-of-that-name", "a\u202eb", "x" * 150])
def test_the_answers_are_the_same_whether_there_is_such_an_account(few: None, alice: User, name: str) -> None:
    texts = []
    for _ in range(4):
        answer = sign_in(Client(), name)
        texts.append((answer.status_code, "The username and/or password" in answer.content.decode()))
    assert texts == [(200, True)] * 3 + [(429, False)]


def test_an_unknown_name_costs_as_many_hashes_as_a_known_one(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = type(hashers.get_hasher())
    made: list[str] = []
    encode = hasher.encode

    def counted(self: Any, password: str, salt: str, *rest: Any, **named: Any) -> str:
        made.append(password)
        return encode(self, password, salt, *rest, **named)

    monkeypatch.setattr(hasher, "encode", counted)
    sign_in(Client())
    known = len(made)
    made.clear()
    sign_in(Client(), "nobody-of-that-name")
    assert len(made) == known > 0


def test_what_was_refused_is_logged_without_what_was_typed(alice: User, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        sign_in(Client(), "alice", "wrong-password-7")
        sign_in(Client(), "pasted-password\r\nfaked line", "x")
    lines = [record.getMessage() for record in caplog.records if record.name == "console.tries"]
    assert len(lines) == 2
    assert "alice from 192.0.2.1" in lines[0] and "no account from 192.0.2.1" in lines[1]
    assert "wrong-password-7" not in str(lines) and "pasted-password" not in str(lines)


def test_sign_in_and_out_are_on_the_record(alice: User) -> None:
    client = Client()
    sign_in(client)
    sign_in(client, password=PASSWORD)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    client.post("/accounts/logout/")
    assert [(who, kind) for who, kind, _ in recorded()] == [
        ("sign-in", "account.signin_refused"),
        ("alice", "account.signed_in"),
        ("alice", "account.signed_in_again"),
        ("alice", "account.signed_out"),
    ]
    assert recorded()[1][2] == {"account": "alice", "from": "192.0.2.1", "known_device": False, "refused_before": 1}


def test_a_sign_in_that_cannot_be_recorded_does_not_happen(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**entry: Any) -> None:
        raise RuntimeError

    client = Client(raise_request_exception=False)
    monkeypatch.setattr("approvals.record.audit.record", fails)
    assert sign_in(client, password=PASSWORD).status_code == 500
    assert client.get("/inbox/").status_code == 302


def test_a_flood_of_refused_tries_is_a_number_on_the_record(few: None, alice: User) -> None:
    for _ in range(10):
        sign_in(Client())
    told = [(kind, body["refused"]) for _, kind, body in recorded()]
    assert told == [("account.signin_refused", 1), ("account.signin_stopped", 4), ("account.signin_stopped", 7)]
    later(minutes=15)
    sign_in(Client(), "bob", place="192.0.2.77")
    assert recorded()[3][1:] == (
        "account.signin_refused",
        {"account": "alice", "from": "192.0.2.1", "minutes": 15, "refused": 6, "why": "all of that time"},
    )


def test_many_places_do_not_fill_the_record(few: None, alice: User) -> None:
    for number in range(40):
        sign_in(Client(), f"made-up-{number}", place=f"198.51.{number}.1")
    kinds = [kind for _, kind, _ in recorded()]
    assert kinds.count("account.signin_refused") == 9
    assert kinds[-1] == "account.signin_flood"
    assert len(kinds) == 10


def test_old_counts_are_removed(few: None, alice: User) -> None:
    for number in range(30):
        sign_in(Client(), "alice", place=f"198.51.100.{number}")
    assert SignInCount.objects.count() > 30
    later(hours=2)
    sign_in(Client())
    sign_in(Client())
    assert SignInCount.objects.count() < 6


def test_a_disabled_account_is_refused_and_on_the_record(alice: User) -> None:
    alice.is_active = False
    alice.save()
    answer = sign_in(Client(), password=PASSWORD)
    assert answer["Location"] == "/accounts/inactive/"
    assert recorded()[-1][1:] == (
        "account.signin_refused",
        {"account": "alice", "from": "192.0.2.1", "minutes": 15, "refused": 1, "why": "the account is disabled"},
    )


def test_the_admins_door_leads_to_the_one_sign_in(few: None, db: None) -> None:
    root = User.objects.create_superuser("root", password=PASSWORD)
    client = Client()
    asked = client.get("/admin/login/?next=/admin/auth/user/")
    assert asked["Location"] == f"{LOGIN}?next=/admin/auth/user/"
    posted = client.post("/admin/login/", {"username": "root", "password": PASSWORD})
    assert posted.status_code == 302 and client.get("/admin/").status_code == 302
    entered = client.post(f"{LOGIN}?next=/admin/", {"login": root.username, "password": PASSWORD, "next": "/admin/"})
    assert entered["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200
    assert client.post("/admin/logout/")["Location"] == "/accounts/logout/"
    assert client.get("/admin/password_change/")["Location"] == "/accounts/password/"


def test_whoever_is_no_superuser_is_told_so_at_the_admins_door(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    told = client.get("/admin/", follow=True)
    assert told.status_code == 403 and "superusers" in told.content.decode()


def test_unknown_tokens_are_stopped_and_good_ones_are_not(few: None, alice: User) -> None:
    good = Caller(alice)
    for _ in range(3):
        problem(Caller(token="sb_made_up").get("approvals"), 401)
    stopped = Caller(token="sb_made_up").get("approvals")
    assert problem(stopped, 429)["retry_after_seconds"] == int(stopped["Retry-After"]) > 0
    assert good.get("approvals").status_code == 200
    assert Caller(token="sb_made_up").get("health").status_code == 200
    assert [kind for _, kind, _ in recorded()] == ["token.refused", "token.stopped"]


class TestPassword:
    """One's own password, on a page of its own."""

    PAGE = "/accounts/password/"
    NEW = "another, longer secret"

    def change(self, client: Client, current: str = PASSWORD, new: str = NEW, again: str | None = None) -> Any:
        return client.post(self.PAGE, {"current": current, "new": new, "again": new if again is None else again})

    def test_people_change_their_own_and_other_sessions_end(self, accounts_on_record: None, alice: User) -> None:
        here, elsewhere = Client(), Client()
        for client in (here, elsewhere):
            sign_in(client, password=PASSWORD)
        assert self.change(here).status_code == 302
        assert "Your password is changed" in here.get(self.PAGE).content.decode()
        assert here.get("/inbox/").status_code == 200
        assert elsewhere.get("/inbox/").status_code == 302
        changed = [entry for entry in recorded() if entry[1].startswith("account.password")]
        assert changed[-1] == ("alice", "account.password_changed", {"account": "alice"})
        assert sign_in(Client(), password=self.NEW).status_code == 302

    @pytest.mark.parametrize(
        ("current", "new", "again", "said"),
        [
            ("wrong", NEW, NEW, "not your current password"),
            (PASSWORD, "short", "short", "too short"),
            (PASSWORD, "password123", "password123", "too common"),
            (PASSWORD, NEW, "other", "differ"),
            (PASSWORD, PASSWORD, PASSWORD, "the password that you have"),
            ("", "", "", "required"),
        ],
    )
    def test_what_is_wrong_is_said_and_changes_nothing(
        self, alice: User, current: str, new: str, again: str, said: str
    ) -> None:
        client = Client()
        sign_in(client, password=PASSWORD)
        answer = self.change(client, current, new, again)
        assert answer.status_code == 422 and said in answer.content.decode()
        alice.refresh_from_db()
        assert alice.check_password(PASSWORD)

    def test_the_current_one_is_no_way_to_guess(self, few: None, alice: User) -> None:
        client = Client()
        sign_in(client, password=PASSWORD)
        answers = [self.change(client, "wrong").status_code for _ in range(4)]
        assert answers == [422, 422, 422, 429]
        answers = [client.post("/accounts/reauthenticate/", {"password": PASSWORD}).status_code]
        assert answers == [429]

    def test_an_account_without_one_is_told_whom_to_ask(self, bob: User) -> None:
        bob.set_unusable_password()
        bob.save()
        client = Client()
        client.force_login(bob)
        assert "An admin can give it one" in client.get(self.PAGE).content.decode()

    def test_it_is_linked_from_every_page(self, alice: User) -> None:
        client = Client()
        client.force_login(alice)
        assert f'href="{self.PAGE}"' in client.get("/inbox/").content.decode()
