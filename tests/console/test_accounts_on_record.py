"""Accounts, roles, passwords and tokens: each change is an entry of the record, through whichever door it comes."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from approvals.models import AccountPerson, AuditEvent
from approvals.record import audit
from console import tokens
from console.acting import acting_as, actor
from console.models import ApiToken

pytestmark = pytest.mark.usefixtures("accounts_on_record")


@pytest.fixture(autouse=True)
def each_role_has_its_group(db: None) -> None:
    """Make what a migration has made, for tests that commit empty the tables behind them."""
    for role in ("reviewer", "operator", "admin", "service"):
        Group.objects.get_or_create(name=role)


STRANGE = 'Ana "Ω"\\ \u2028\u0001\x7f 🙂'


def recorded() -> list[tuple[str, str, Any]]:
    """Return actor, kind and body of every entry; the chain must fit."""
    assert audit.verify().ok, audit.verify().sentence
    return list(AuditEvent.objects.order_by("seq").values_list("actor", "kind", "body"))


def kinds() -> list[str]:
    return [kind for _, kind, _ in recorded()]


@pytest.fixture
def root(db: None) -> Client:
    client = Client()
    with acting_as("installer"):
        client.force_login(User.objects.create_superuser("root"))
    return client


def test_what_changes_in_an_account_is_told_with_before_and_after(db: None) -> None:
    with acting_as("ada"):
        user = User.objects.create_user("ana", email="ana@shop.example", password="first secret")
        user.username, user.email, user.first_name = "anna", "anna@shop.example", "Anna"
        user.save()
        user.is_active = user.is_staff = False
        user.is_superuser = True
        user.save()
        User.objects.update(is_superuser=False, is_active=True, is_staff=True)
        user.set_password("second secret")
        user.save(update_fields=["password"])
        user.set_unusable_password()
        user.save(update_fields=["password"])
        user.delete()
    assert [(who, kind) for who, kind, _ in recorded()] == [
        ("ada", f"account.{kind}")
        for kind in (
            "created",
            "renamed",
            "address_changed",
            "name_changed",
            "deactivated",
            "superuser_given",
            "activated",
            "superuser_taken",
            "staff_given",
            "password_changed",
            "password_removed",
            "deleted",
        )
    ]
    bodies = [body for _, _, body in recorded()]
    assert bodies[0] == {
        "account": "ana",
        "active": True,
        "address": "ana@shop.example",
        "password": True,
        "staff": False,
        "superuser": False,
    }
    assert bodies[1] == {"account": "anna", "before": "ana"}
    assert bodies[2] == {"account": "anna", "before": "ana@shop.example", "after": "anna@shop.example"}
    assert not [body for body in bodies if "secret" in str(body) or "pbkdf2" in str(body) or "md5" in str(body)]


def test_signing_in_is_no_change_of_the_account(db: None) -> None:
    user = User.objects.create_user("ana")
    User.objects.filter(pk=user.pk).update(last_login="2026-01-01T00:00Z")
    assert kinds() == ["account.created"]


def test_roles_and_permissions_given_and_taken_are_told(ada: User) -> None:
    before = len(recorded())
    admin = Group.objects.get(name="admin")
    ada.groups.set([Group.objects.get(name="reviewer")])
    ada.user_permissions.add(Permission.objects.get(codename="add_user"))
    ada.user_permissions.clear()
    admin.name = "former"
    admin.save()
    made = Group.objects.create(name="extra")
    made.user_set.add(ada)
    made.delete()
    told = [(kind, body) for _, kind, body in recorded()[before:]]
    assert told == [
        ("account.role_taken", {"account": "ada", "role": "admin"}),
        ("account.role_given", {"account": "ada", "role": "reviewer"}),
        ("account.permission_given", {"account": "ada", "permission": "add_user"}),
        ("account.permission_taken", {"account": "ada", "permission": "add_user"}),
        ("role.renamed", {"role": "former", "before": "admin"}),
        ("role.created", {"role": "extra"}),
        ("account.role_given", {"account": "ada", "role": "extra"}),
        ("account.role_taken", {"account": "ada", "role": "extra"}),
        ("role.deleted", {"role": "extra"}),
    ]


def test_a_tokens_life_is_told_and_the_token_is_not(alice: User) -> None:
    before = len(recorded())
    token = tokens.create_token(owner=alice, label="laptop")
    assert tokens.owner_of(token, "192.0.2.7") == alice
    assert tokens.owner_of(token, "192.0.2.8") == alice
    tokens.revoke_tokens(owner=alice)
    ApiToken.objects.update(revoked_at=None)
    ApiToken.objects.all().delete()
    told = recorded()[before:]
    known = {"account": "alice", "label": "laptop", "token": told[0][2]["token"]}
    assert [(kind, body) for _, kind, body in told] == [
        ("token.created", known),
        ("token.first_used", known | {"from": "192.0.2.7"}),
        ("token.revoked", known),
        ("token.restored", known),
        ("token.deleted", known),
    ]
    assert told[1][0] == "alice"
    assert token not in str(told)


def test_sql_by_hand_is_told_as_the_databases_role(alice: User, bob: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('signalbox.actor', '', true), session_user")
        role = cursor.fetchone()[1]
        cursor.execute("UPDATE  auth_user SET is_superuser = true WHERE username IN ('alice', 'bob')")
        cursor.execute(
            "UPDATE auth_user_groups SET group_id = g.id FROM auth_group g WHERE g.name = 'admin' AND user_id = %s",
            [bob.pk],
        )
    assert [(who, kind) for who, kind, _ in recorded()][-4:] == [
        (f"database:{role}", "account.superuser_given"),
        (f"database:{role}", "account.superuser_given"),
        (f"database:{role}", "account.role_taken"),
        (f"database:{role}", "account.role_given"),
    ]


def test_a_change_that_is_taken_back_takes_its_entry_with_it(alice: User) -> None:
    from django.db import transaction

    before = recorded()
    with pytest.raises(KeyError), transaction.atomic():
        alice.is_active = False
        alice.save()
        raise KeyError
    assert recorded() == before


@pytest.mark.parametrize("name", [STRANGE, "<script>alert(1)</script>", "a" * 150, "ÀÉ\u202e", "\t\b\f\r\n"])
def test_the_chain_fits_whatever_a_name_holds(name: str, db: None) -> None:
    with acting_as(name):
        user = User.objects.create(username=name, first_name=name, email=name)
        user.groups.add(Group.objects.create(name=name))
    assert recorded()[0][0] == name
    assert recorded()[0][2]["account"] == name


def test_the_admin_acts_as_whoever_is_signed_in(root: Client, alice: User) -> None:
    before = len(recorded())
    made = root.post(
        reverse("admin:auth_user_add"),
        {"username": "new", "usable_password": "true", "password1": "Long-and-1-off", "password2": "Long-and-1-off"},
    )
    assert made.status_code == 302
    reset = root.post(
        reverse("admin:auth_user_password_change", args=[alice.pk]),
        {"usable_password": "true", "password1": "Long-and-1-off", "password2": "Long-and-1-off"},
    )
    assert reset.status_code == 302
    chosen = {"action": "delete_selected", "_selected_action": [alice.pk], "post": "yes"}
    assert root.post(reverse("admin:auth_user_changelist"), chosen).status_code == 302
    assert [(who, kind) for who, kind, _ in recorded()[before:]] == [
        ("root", "account.created"),
        ("root", "account.password_set"),
        ("root", "account.role_taken"),
        ("root", "account.deleted"),
    ]


def test_commands_act_under_their_own_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, db: None) -> None:
    def run(*words: str, **options: Any) -> None:
        monkeypatch.setattr("sys.argv", ["manage.py", *words])
        call_command(*words, **options)

    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "Long-and-1-off")
    run("createsuperuser", "--username", "root", "--email", "root@shop.example", interactive=False, verbosity=0)
    run("create_token", "root", stdout=io.StringIO())
    run("revoke_tokens", "root", stdout=io.StringIO())
    monkeypatch.setattr("getpass.getpass", lambda prompt: "Another-1-off")
    run("changepassword", "root", stdout=io.StringIO())
    told = [(who, kind) for who, kind, _ in recorded()]
    assert told == [
        ("manage.py createsuperuser", "account.created"),
        ("manage.py create_token", "token.created"),
        ("manage.py revoke_tokens", "token.revoked"),
        ("manage.py changepassword", "account.password_changed"),
    ]
    said = io.StringIO()
    run("create_demo_accounts", "--file", str(tmp_path / "demo.json"), stdout=said)
    for one in json.loads((tmp_path / "demo.json").read_text()):
        assert one["password"] not in said.getvalue() and one["token"] not in said.getvalue()
    assert {who for who, _, _ in recorded()[4:]} == {"manage.py create_demo_accounts"}
    assert kinds().count("token.created") == 7


def test_outside_of_pages_and_commands_only_the_database_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pytest", "tests"])
    assert actor() == ""
    monkeypatch.setattr("sys.argv", ["/somewhere/manage.py", "shell"])
    assert actor() == "manage.py shell"


def test_a_person_linked_past_the_admin_is_told_too(alice: User) -> None:
    AccountPerson.objects.bulk_create([AccountPerson(user=alice, person="Alice")])
    AccountPerson.objects.all().delete()
    assert kinds()[-2:] == ["person.linked", "person.unlinked"]
