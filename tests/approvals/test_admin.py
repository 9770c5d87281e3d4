"""Linking accounts to people in Django's admin: for superusers, and on the record."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from approvals.models import AccountPerson, AuditEvent
from approvals.people.persons import person_of
from approvals.record import audit
from console.acting import acting_as

LINKS = "admin:approvals_accountperson"


@pytest.fixture
def root(accounts_on_record: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def recorded() -> list[tuple[str, str, object]]:
    links = AuditEvent.objects.filter(kind__startswith="person.").order_by("seq")
    return list(links.values_list("actor", "kind", "body"))


def test_every_change_of_a_link_is_one_entry_by_whoever_made_it(root: Client, alice: User, bob: User) -> None:
    for user in (alice, bob):
        sent = root.post(reverse(f"{LINKS}_add"), {"user": user.pk, "person": "Alice Liddell"})
        assert sent.status_code == 302
    assert person_of(alice) == person_of(bob)
    link = AccountPerson.objects.get(user=bob)
    root.post(reverse(f"{LINKS}_change", args=[link.pk]), {"user": bob.pk, "person": "Bob"})
    assert person_of(alice) != person_of(bob)
    root.post(reverse(f"{LINKS}_delete", args=[link.pk]), {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": [AccountPerson.objects.get().pk], "post": "yes"}
    root.post(reverse(f"{LINKS}_changelist"), chosen)
    assert not AccountPerson.objects.exists()
    assert recorded() == [
        ("root", "person.linked", {"account": "alice", "person": "Alice Liddell"}),
        ("root", "person.linked", {"account": "bob", "person": "Alice Liddell"}),
        ("root", "person.linked", {"account": "bob", "person": "Bob"}),
        ("root", "person.unlinked", {"account": "bob", "person": "Bob"}),
        ("root", "person.unlinked", {"account": "alice", "person": "Alice Liddell"}),
    ]
    assert audit.verify().ok


def test_a_link_that_is_moved_to_another_account_is_on_the_record_of_both(root: Client, alice: User, bob: User) -> None:
    with acting_as("root"):
        link = AccountPerson.objects.create(user=alice, person="Alice Liddell")
    root.post(reverse(f"{LINKS}_change", args=[link.pk]), {"user": bob.pk, "person": "Alice Liddell"})
    assert recorded()[1:] == [
        ("root", "person.unlinked", {"account": "alice", "person": "Alice Liddell"}),
        ("root", "person.linked", {"account": "bob", "person": "Alice Liddell"}),
    ]


def test_an_admin_without_the_machines_trust_links_nobody(ada: User, alice: User) -> None:
    client = Client()
    client.force_login(ada)
    sent = client.post(reverse(f"{LINKS}_add"), {"user": alice.pk, "person": "x"})
    assert sent.status_code == 302 and "/admin/login/" in sent["Location"]
    assert not AccountPerson.objects.exists()
