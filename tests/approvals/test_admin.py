"""Linking accounts to people in Django's admin: for superusers, and on the record."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db.models import Value
from django.db.models.functions import Concat
from django.test import Client
from django.urls import reverse

from approvals.models import AccountPerson, AuditEvent, LinkChange
from approvals.people.persons import accounts_of, person_of
from approvals.record import audit

LINKS = "admin:approvals_accountperson"
CHANGES = "admin:approvals_linkchange"


@pytest.fixture
def root(accounts_on_record: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def recorded() -> list[tuple[str, str, object]]:
    links = AuditEvent.objects.filter(kind__startswith="person.").order_by("seq")
    return list(links.values_list("actor", "kind", "body"))


@pytest.fixture
def second(accounts_on_record: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("second"))
    return client


def ask(client: Client, user: User, person: str) -> LinkChange:
    sent = client.post(reverse(f"{CHANGES}_add"), {"user": user.pk, "person": person, "reason": "HR says so"})
    assert sent.status_code == 302, sent.content.decode()
    return LinkChange.objects.latest("pk")


def settle(client: Client, change: LinkChange, action: str = "confirm") -> None:
    chosen = {"action": action, "_selected_action": [change.pk]}
    assert client.post(reverse(f"{CHANGES}_changelist"), chosen).status_code == 302


def test_a_link_is_made_and_ended_by_two_each_step_on_the_record(
    root: Client, second: Client, alice: User, bob: User
) -> None:
    for user in (alice, bob):
        settle(second, ask(root, user, "Alice Liddell"))
    assert person_of(alice) == person_of(bob)
    settle(second, ask(root, bob, ""))
    assert person_of(alice) != person_of(bob)
    kinds = [(actor, kind) for actor, kind, _ in recorded()]
    each = [("root", "person.link_proposed"), ("second", "person.linked"), ("second", "person.link_confirmed")]
    assert kinds == each * 2 + [each[0], ("second", "person.unlinked"), each[2]]
    assert audit.verify().ok


@pytest.mark.parametrize("person", ["", "Bob"])
def test_nobody_alone_takes_two_accounts_of_one_person_apart(root: Client, alice: User, bob: User, person: str) -> None:
    for user in (alice, bob):
        AccountPerson.objects.create(user=user, person="Alice Liddell")
    change = ask(root, bob, person)
    settle(root, change)
    assert person_of(alice) == person_of(bob)
    link = AccountPerson.objects.get(user=bob)
    for page, args in (("change", [link.pk]), ("delete", [link.pk]), ("add", [])):
        sent = root.post(reverse(f"{LINKS}_{page}", args=args), {"user": bob.pk, "person": person, "post": "yes"})
        assert sent.status_code == 403
    root.post(reverse("admin:auth_user_delete", args=[bob.pk]), {"post": "yes"})
    assert person_of(alice) == person_of(bob)


def test_a_second_account_of_the_asker_or_of_whose_it_is_confirms_nothing(
    root: Client, second: Client, alice: User, bob: User
) -> None:
    AccountPerson.objects.create(user=User.objects.get(username="root"), person="one")
    AccountPerson.objects.create(user=User.objects.get(username="second"), person="one")
    change = ask(root, bob, "Bob")
    settle(second, change)
    AccountPerson.objects.filter(user__username="second").update(person="Bob")
    settle(second, change)
    change.refresh_from_db()
    assert change.settled_at is None and not AccountPerson.objects.filter(user=bob).exists()
    settle(second, change, "drop")
    settle(root, change)
    assert not AccountPerson.objects.filter(user=bob).exists()


def test_linking_takes_along_who_has_the_same_address(root: Client, second: Client, alice: User, bob: User) -> None:
    User.objects.filter(pk__in=[alice.pk, bob.pk]).update(email="Al@example.org")
    settle(second, ask(root, User.objects.get(pk=bob.pk), "Al"))
    assert dict(AccountPerson.objects.values_list("user__username", "person")) == {"alice": "Al", "bob": "Al"}


def test_a_new_address_does_not_make_two_of_one_person(accounts_on_record: None, alice: User, bob: User) -> None:
    User.objects.filter(pk__in=[alice.pk, bob.pk]).update(email="al@example.org")
    User.objects.filter(pk=bob.pk).update(email="AL@example.org")
    assert not AccountPerson.objects.exists()
    User.objects.filter(pk__in=[alice.pk, bob.pk]).update(email=Concat("username", Value("@example.org")))
    alice.refresh_from_db()
    bob.refresh_from_db()
    assert alice.email != bob.email and person_of(alice) == person_of(bob)
    assert {kind for _, kind, _ in recorded()} == {"person.linked"}


@pytest.mark.parametrize("comes", ["as a new account", "by a new address"])
def test_who_gets_the_address_of_a_linked_account_is_the_same_person(
    comes: str, root: Client, second: Client, alice: User, bob: User
) -> None:
    User.objects.filter(pk=alice.pk).update(email="al@example.org")
    for user in (alice, bob):
        settle(second, ask(root, user, "Alice Liddell"))
    if comes == "as a new account":
        third = User.objects.create(username="alice2", email="AL@example.org")
    else:
        third = User.objects.create(username="alice2", email="else@example.org")
        User.objects.filter(pk=third.pk).update(email="AL@example.org")
    third.refresh_from_db()
    assert person_of(third) == person_of(alice) == person_of(bob)
    assert set(accounts_of(third)) == set(accounts_of(bob)) == {alice.pk, bob.pk, third.pk}
    User.objects.filter(pk=third.pk).update(email="away@example.org")
    third.refresh_from_db()
    assert person_of(third) == person_of(alice), "a new address parts nobody"
    User.objects.filter(pk=third.pk).update(email="al@example.org")
    settle(second, ask(root, third, ""))
    third.refresh_from_db()
    third.save()  # writes the same address again
    assert person_of(third) != person_of(alice), "two people have parted them"
    assert audit.verify().ok


def test_an_account_that_is_linked_keeps_its_link_with_another_address(alice: User, bob: User) -> None:
    User.objects.filter(pk=alice.pk).update(email="al@example.org")
    for user, person in ((alice, "Alice"), (bob, "Bob")):
        AccountPerson.objects.create(user=user, person=person)
    User.objects.filter(pk=bob.pk).update(email="al@example.org")
    assert person_of(User.objects.get(pk=bob.pk)) == "person:Bob"


def test_an_admin_without_the_machines_trust_links_nobody(ada: User, alice: User) -> None:
    client = Client()
    client.force_login(ada)
    sent = client.post(reverse(f"{CHANGES}_add"), {"user": alice.pk, "person": "x", "reason": "y"})
    assert sent.status_code == 302 and "/admin/login/" in sent["Location"]
    assert not LinkChange.objects.exists()
