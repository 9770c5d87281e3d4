"""Saved views: kept on the server, one's own or shared, changed by their owner, on the record."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from approvals.errors import InvalidChange, NoSuchApproval, NotTheirs
from approvals.models import AuditEvent, SavedView
from approvals.pages.inbox.saved import change_view, delete_view, save_view, saved_for
from tests.page_client import signed_in, text

INBOX, VIEWS = reverse("approvals:inbox"), reverse("approvals:views")


def saved(owner: User, name: str = "Mine", query: str = "mine=1", *, is_shared: bool = False) -> SavedView:
    return save_view(owner=owner, name=name, query=query, is_shared=is_shared)


def names(user: User) -> list[str]:
    return [one.view.name for one in saved_for(user)]


def test_own_views_are_ones_own_and_shared_ones_everybodys(alice: User, bob: User) -> None:
    saved(alice, "Alone")
    saved(alice, "For all", is_shared=True)
    assert names(alice) == ["Alone", "For all"]
    assert names(bob) == ["For all"]
    seen = text(signed_in(bob).get(INBOX))
    assert "For all" in seen and "by alice" in seen and "Alone" not in seen


def test_only_what_belongs_to_an_inbox_is_kept(alice: User) -> None:
    view = saved(alice, query="mine=1&evil=%3Cscript%3E&status=no&cursor=abc&risk=high&next=//elsewhere")
    assert view.query == "risk=high&mine=1"
    assert saved_for(alice)[0].url == f"{INBOX}?risk=high&mine=1"


def test_a_view_is_saved_from_the_list_and_shown_as_the_current_one(alice: User) -> None:
    client = signed_in(alice)
    assert 'id="save-view"' not in text(client.get(INBOX)), "there is nothing to save in the usual list"
    assert 'name="query" value="mine=1"' in text(client.get(INBOX, {"mine": "1"}))
    answer = client.post(VIEWS, {"name": "  My   work ", "query": "mine=1"})
    assert (answer.status_code, answer["Location"]) == (302, f"{INBOX}?mine=1")
    shown = text(client.get(INBOX, {"mine": "1"}))
    assert "now My work" in shown and 'id="save-view"' not in shown
    assert [(event.kind, event.actor) for event in AuditEvent.objects.all()] == [("view.saved", "alice")]


def test_the_same_form_sent_twice_is_one_view(alice: User) -> None:
    client = signed_in(alice)
    for _ in range(2):
        assert client.post(VIEWS, {"name": "A", "query": "mine=1"}).status_code == 302
    assert SavedView.objects.count() == AuditEvent.objects.count() == 1


def test_the_same_name_shared_is_another_wish(alice: User) -> None:
    client = signed_in(alice)
    assert client.post(VIEWS, {"name": "A", "query": "mine=1"}).status_code == 302
    assert client.post(VIEWS, {"name": "A", "query": "mine=1", "is_shared": "1"}).status_code == 422
    assert not SavedView.objects.get().is_shared


def test_more_words_than_can_be_kept_are_refused(alice: User) -> None:
    answer = signed_in(alice).post(VIEWS, {"name": "A", "query": "search=" + "😀" * 200})
    assert answer.status_code == 422 and "too many words" in text(answer)
    assert not SavedView.objects.exists()


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\x00b", "a\u202eb", "Taken"])
def test_a_name_that_cannot_be_taken_is_refused_and_nothing_typed_is_lost(name: str, alice: User) -> None:
    saved(alice, "Taken", "risk=low")
    answer = signed_in(alice).post(VIEWS, {"name": name, "query": "search=lamp", "is_shared": "1"})
    assert answer.status_code == 422
    shown = text(answer)
    assert 'value="search=lamp"' in shown and 'role="alert"' in shown and "Not saved yet" in shown
    assert SavedView.objects.count() == 1


def test_its_owner_renames_shares_and_deletes_a_view(alice: User, bob: User) -> None:
    view = saved(alice)
    client, address = signed_in(alice), reverse("approvals:view", args=[view.pk])
    assert client.post(address, {"name": "New", "is_shared": "1"}).status_code == 302
    assert names(bob) == ["New"]
    assert client.post(address, {"name": "New", "is_shared": "1"}).status_code == 302
    for _ in range(2):
        assert client.post(address, {"action": "delete"}).status_code == 302
    assert names(alice) == []
    kinds = list(AuditEvent.objects.order_by("seq").values_list("kind", flat=True))
    assert kinds == ["view.saved", "view.changed", "view.deleted"], "what changed nothing is not on the record"
    body = AuditEvent.objects.get(kind="view.changed").body
    assert (body["name"], body["before"]) == ("New", {"name": "Mine", "is_shared": False})


def test_nobody_else_changes_a_view_but_an_admin_a_shared_one(alice: User, bob: User, ada: User) -> None:
    shared, own = saved(alice, "Shared", is_shared=True), saved(alice, "Own")
    with pytest.raises(NotTheirs, match="alice"):
        delete_view(user=bob, view_id=shared.pk)
    with pytest.raises(NoSuchApproval):
        delete_view(user=ada, view_id=own.pk)
    assert signed_in(bob).post(reverse("approvals:view", args=[shared.pk]), {"name": "x"}).status_code == 403
    assert signed_in(bob).post(reverse("approvals:view", args=[own.pk]), {"name": "x"}).status_code == 404
    change_view(user=ada, view_id=shared.pk, name="Better", is_shared=True)
    assert AuditEvent.objects.last().actor == "ada"  # type: ignore[union-attr]
    assert 'action="' + reverse("approvals:view", args=[shared.pk]) not in text(signed_in(bob).get(VIEWS))


def test_a_rename_to_a_name_that_is_taken_changes_nothing(alice: User) -> None:
    saved(alice, "A")
    other = saved(alice, "B", "risk=low")
    with pytest.raises(InvalidChange, match="A"):
        change_view(user=alice, view_id=other.pk, name="A", is_shared=True)
    answer = signed_in(alice).post(reverse("approvals:view", args=[other.pk]), {"name": "A"})
    assert answer.status_code == 422
    assert re.search(r'name="name" value="A"[^>]*aria-invalid', text(answer))
    assert sorted(names(alice)) == ["A", "B"]


def test_there_is_an_end_to_ones_views(alice: User) -> None:
    SavedView.objects.bulk_create(SavedView(owner=alice, name=f"v{n}", query="") for n in range(50))
    with pytest.raises(InvalidChange, match="50"):
        saved(alice)


def test_strangers_and_people_without_a_role_reach_no_view(db: None, eve: User, alice: User) -> None:
    view = saved(alice, is_shared=True)
    for address in (VIEWS, reverse("approvals:view", args=[view.pk])):
        assert Client().post(address, {"name": "x"}).status_code == 302
        assert signed_in(eve).post(address, {"name": "x"}).status_code == 403
    assert signed_in(alice).get(reverse("approvals:view", args=[view.pk])).status_code == 405
    assert SavedView.objects.get().name == "Mine"
