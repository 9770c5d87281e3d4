"""A person's own views of the list of runs: kept under a name, seen by nobody else, deleted and brought back."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from approvals.models import AuditEvent
from orchestration import run_views
from orchestration.models import RunView
from tests.orchestration.conftest import make_run
from tests.page_client import signed_in

pytestmark = pytest.mark.django_db

VIEWS = "/runs/views/"
QUERY = "status=waiting&search=lamp"


def saved(client: Client, name: str = "Lamps", query: str = QUERY) -> int:
    answer = client.post(VIEWS, {"name": name, "query": query})
    assert answer.status_code == 302
    return RunView.objects.get(name=name, deleted_at=None).pk


def test_what_the_list_shows_is_saved_from_it_and_opened_again(alice: User, olga: User) -> None:
    wanted = make_run(status="waiting", input={"order_id": "1", "message": "the lamp"})
    other = make_run(status="waiting", input={"order_id": "2", "message": "a chair"})
    client = signed_in(alice)
    assert 'id="save-run-view"' not in client.get("/runs/").content.decode(), "all runs need no name"
    page = client.get(f"/runs/?{QUERY}").content.decode()
    assert 'value="status=waiting&amp;search=lamp"' in page
    done = client.post(VIEWS, {"name": "Lamps", "query": QUERY})
    assert done["Location"] == f"/runs/?{QUERY}"
    shown = client.get(done["Location"]).content.decode()
    assert wanted.pk in shown and other.pk not in shown
    assert 'id="save-run-view"' not in shown and 'aria-current="true"' in shown, "it is saved already"
    assert ">Lamps</span>" in client.get("/runs/").content.decode()
    assert ">Lamps</span>" not in signed_in(olga).get("/runs/").content.decode()
    assert AuditEvent.objects.get(kind="run_view.saved").body == {"name": "Lamps", "query": QUERY}


def test_the_same_click_again_is_the_same_view_and_another_one_of_its_name_is_refused(alice: User) -> None:
    client = signed_in(alice)
    assert saved(client) == saved(client)
    refused = client.post(VIEWS, {"name": "Lamps", "query": "status=failed"})
    page = refused.content.decode()
    assert refused.status_code == 422 and "already" in page
    assert 'value="Lamps"' in page and 'value="status=failed"' in page, "nothing that was typed is lost"


def test_a_deleted_view_can_be_brought_back_until_its_name_is_taken(alice: User) -> None:
    client = signed_in(alice)
    pk = saved(client)
    for _ in range(2):  # the same click again
        assert client.post(f"{VIEWS}{pk}/", {"action": "delete"}).status_code == 302
    assert ">Lamps</span>" not in client.get("/runs/").content.decode()
    assert "Bring it back" in client.get(VIEWS).content.decode()
    for _ in range(2):
        assert client.post(f"{VIEWS}{pk}/", {"action": "bring_back"}).status_code == 302
    assert ">Lamps</span>" in client.get("/runs/").content.decode()
    kinds = list(AuditEvent.objects.filter(kind__startswith="run_view.").order_by("seq").values_list("kind", flat=True))
    assert kinds == ["run_view.saved", "run_view.deleted", "run_view.brought_back"]
    client.post(f"{VIEWS}{pk}/", {"action": "delete"})
    saved(client, query="status=failed")
    refused = client.post(f"{VIEWS}{pk}/", {"action": "bring_back"})
    assert refused.status_code == 422 and "Delete that one first" in refused.content.decode()


def test_nobody_touches_the_views_of_others(alice: User, olga: User) -> None:
    pk = saved(signed_in(alice))
    for action in ("delete", "bring_back"):
        assert signed_in(olga).post(f"{VIEWS}{pk}/", {"action": action}).status_code == 404
    assert RunView.objects.get(pk=pk).deleted_at is None


@pytest.mark.parametrize(("name", "words"), [(" ", "Give the view a name"), ("n" * 61, "60"), ("a\u202eb", "not show")])
def test_a_name_that_cannot_be_kept_is_a_sentence(name: str, words: str, alice: User) -> None:
    refused = signed_in(alice).post(VIEWS, {"name": name, "query": QUERY})
    assert refused.status_code == 422 and words in refused.content.decode()


def test_what_is_no_filter_is_not_kept_and_their_number_is_limited(alice: User) -> None:
    pk = saved(signed_in(alice), query="status=failed&cursor=abc&next=//evil.example&limit=99")
    assert RunView.objects.get(pk=pk).query == "status=failed"
    RunView.objects.bulk_create([RunView(owner=alice, name=str(n)) for n in range(run_views.AT_MOST - 1)])
    refused = signed_in(alice).post(VIEWS, {"name": "One more", "query": QUERY})
    assert refused.status_code == 422 and "Delete one" in refused.content.decode()
