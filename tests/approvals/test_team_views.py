"""The team's pages: who may open them, what they say, and that a refusal loses nothing that was typed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from approvals import services
from approvals.errors import InvalidChange
from approvals.models import Approval, Comment, Delegation, StandingApproval
from approvals.pages.request.page import team_parts
from approvals.pages.team.forms import moment
from approvals.people.permissions import may_decide
from approvals.policies import asking
from approvals.proposal.terms import Terms
from approvals.reading import attention
from console.clock import database_now
from console.live.presence import Backend, look
from tests.approvals.conftest import answer

Opener = Callable[..., Approval]
HTMX = {"HX-Request": "true"}
PAGES = ("/delegations/", "/standing/", "/reviewers/")


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy thinks little of what is asked."""
    monkeypatch.setattr(asking, "terms_for", lambda facts: Terms(rule="t", policy_version="t/1", risk="low"))


def _client(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def _posts(approval: Approval) -> list[str]:
    of_one = ("claim", "release", "reassign", "comment", "standing")
    return [
        *(f"/approvals/{approval.pk}/{name}" for name in of_one),
        *("/delegations/make", "/delegations/1/revoke", "/standing/std_x/revoke"),
    ]


def test_strangers_see_nothing_and_change_nothing(open_one: Opener, eve: User) -> None:
    approval = open_one()
    client = _client(eve)
    for path in (*PAGES, f"/approvals/{approval.pk}/team", f"/approvals/{approval.pk}/presence"):
        assert client.get(path).status_code == 403, path
        assert Client().get(path).status_code == 302, path
    for path in _posts(approval):
        assert client.post(path).status_code == 403, path
        assert _client(eve).get(path).status_code == 405, path


def test_who_only_starts_runs_sees_the_team_but_no_figures(open_one: Opener, olga: User) -> None:
    client = _client(olga)
    assert [client.get(path).status_code for path in PAGES] == [200, 200, 403]
    assert client.post(f"/approvals/{open_one().pk}/standing").status_code == 403


def test_what_is_not_there_is_not_found(alice: User) -> None:
    client = _client(alice)
    for path in ("/approvals/apr_x/team", "/approvals/apr_x/presence", "/standing/std_x/", "/standing/a%00b/"):
        assert client.get(path).status_code == 404, path
    for path in ("/approvals/apr_x/claim", "/approvals/a%00b/comment", "/delegations/99/revoke"):
        assert client.post(path, {"text": "x"}).status_code == 404, path


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_claiming_and_giving_back_show_on_the_page(open_one: Opener, alice: User, headers: dict[str, str]) -> None:
    approval, client = open_one(), _client(alice)
    for path, words in (("claim", "You have claimed this"), ("release", "Nobody has claimed this")):
        response = client.post(f"/approvals/{approval.pk}/{path}", headers=headers)
        if headers:
            assert response.content.decode().lstrip().startswith("<section")
        else:
            assert response["Location"] == f"/approvals/{approval.pk}/"
            response = client.get(f"/approvals/{approval.pk}/team")
        assert words in response.content.decode()


def test_the_others_see_the_claim_and_decide_all_the_same(open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one()
    services.claim(approval_id=approval.pk, by=alice)
    client = _client(bob)
    page = client.get(f"/approvals/{approval.pk}/team", headers=HTMX).content.decode()
    assert "<b>alice</b> has claimed this" in page and "You can decide it all the same" in page
    refused = client.post(f"/approvals/{approval.pk}/claim", headers=HTMX)
    assert refused.status_code == 409 and "alice has claimed this already" in refused.content.decode()


def test_it_is_handed_over_from_a_list_of_who_may_decide(
    open_one: Opener, alice: User, bob: User, olga: User, eve: User
) -> None:
    approval, client = open_one(requested_by=bob), _client(olga)
    page = client.get(f"/approvals/{approval.pk}/team").content.decode()
    assert '<option value="alice">' in page
    assert '<option value="eve">' not in page and '<option value="bob">' not in page
    assert client.post(f"/approvals/{approval.pk}/reassign", {"to": "bob"}).status_code == 403
    assert client.post(f"/approvals/{approval.pk}/reassign", {"to": "\x00"}).status_code == 422
    client.post(f"/approvals/{approval.pk}/reassign", {"to": "alice"})
    approval.refresh_from_db()
    assert approval.claimed_by == alice


HOSTILE = "<img src=x onerror=alert(1)> \u202egnp.exe\u200b"


def test_a_comment_shows_what_hides_in_it_also_after_closing(open_one: Opener, alice: User) -> None:
    approval, client = open_one(), _client(alice)
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    page = client.post(f"/approvals/{approval.pk}/comment", {"text": HOSTILE}, headers=HTMX).content.decode()
    assert "&lt;img" in page and "<img" not in page
    assert "\u202e" not in page and "\u200b" not in page and "U+202E" in page
    assert f'id="say-{approval.pk}-1"' in page, "the box is another one, so that it is empty again"


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_comment_that_is_not_taken_stays_in_its_box(open_one: Opener, alice: User, headers: dict[str, str]) -> None:
    path = f"/approvals/{open_one().pk}/comment"
    response = _client(alice).post(path, {"text": "kept " * 1000}, headers=headers)
    page = response.content.decode()
    assert (response.status_code, Comment.objects.count()) == (422, 0)
    assert "At most 4,000 characters" in page and page.count("kept ") == 1000


def test_who_else_is_looking_is_named_to_the_others_only(open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        here = Backend(*cursor.fetchone())
    look("hers", alice.pk, [f"approval:{approval.pk}"], here)
    path = f"/approvals/{approval.pk}/presence"
    assert "alice is also looking" in " ".join(_client(bob).get(path, headers=HTMX).content.decode().split())
    assert "looking" not in _client(alice).get(path, headers=HTMX).content.decode()
    look("his", bob.pk, [f"approval:{approval.pk}"], Backend(here.pid, datetime(2020, 1, 1, tzinfo=UTC)))
    assert "bob" not in _client(alice).get(path, headers=HTMX).content.decode(), "his process is dead"


def test_the_team_takes_a_constant_number_of_queries(
    open_one: Opener, alice: User, bob: User, ada: User, django_assert_max_num_queries: Any
) -> None:
    approval = open_one()
    services.claim(approval_id=approval.pk, by=alice)

    def asked() -> int:
        user = User.objects.get(pk=alice.pk)
        with django_assert_max_num_queries(15) as queries:
            found = Approval.objects.select_related("requested_by").get(pk=approval.pk)
            team_parts(user, found, may_decide(user, found))
        return len(queries)

    few = asked()
    for person in (alice, bob, ada):
        for number in range(5):
            services.comment(approval_id=approval.pk, by=person, text=f"word {number}")
    assert asked() == few


def _window(**changes: str) -> dict[str, str]:
    start, end = (database_now() + timedelta(days=days) for days in (-2, 30))
    times = {"starts_at": f"{start:%Y-%m-%d}T09:00", "ends_at": f"{end:%Y-%m-%d}T18:00", "zone": "Europe/Berlin"}
    return {"to": "bob", "reason": "holiday"} | times | changes


def test_a_window_is_typed_in_the_persons_zone_and_kept_in_utc(alice: User, bob: User) -> None:
    now = database_now()
    start, end = (now + timedelta(days=days) for days in (1, 3))
    client = _client(alice)
    sent = _window(starts_at=f"{start:%Y-%m-%d}T09:00", ends_at=f"{end:%Y-%m-%d}T18:00", zone="Asia/Tokyo")
    assert client.post("/delegations/make", sent)["Location"] == "/delegations/"
    window = Delegation.objects.get()
    assert (window.starts_at.astimezone(UTC).hour, window.ends_at.astimezone(UTC).hour) == (0, 9)
    page = client.get("/delegations/").content.decode()
    assert f"{start:%d %b %Y}, 09:00" in page and "times in Asia/Tokyo" in page
    assert '<option value="Asia/Tokyo" selected>' in page, "the zone is remembered"
    assert "bob for alice" in _client(bob).get("/delegations/").content.decode()
    client.post(f"/delegations/{window.pk}/revoke")
    assert "Ended early" in client.get("/delegations/").content.decode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"to": "alice"}, "nobody stands in for themselves"),
        ({"to": "nobody"}, "Choose somebody from the list"),
        ({"starts_at": "soon"}, "Write the day and the time"),
        ({"ends_at": "2020-01-01T00:00", "starts_at": "2019-01-01T00:00"}, "has passed already"),
        ({"principal": "bob", "to": "alice"}, "You can hand on your own decisions only"),
    ],
)
def test_a_refused_window_keeps_what_was_typed(alice: User, bob: User, changes: dict[str, str], words: str) -> None:
    response = _client(alice).post("/delegations/make", _window(**changes))
    page = response.content.decode()
    assert response.status_code in (403, 422)
    assert words in page and 'value="holiday"' in page
    assert not Delegation.objects.exists()


def test_a_reason_is_refused_where_it_is_too_long_and_never_cut(alice: User, bob: User) -> None:
    long = "holiday, " * 34
    response = _client(alice).post("/delegations/make", _window(reason=long))
    assert response.status_code == 422 and "At most 300 characters" in response.content.decode()
    assert f'value="{long.strip()}"' in response.content.decode() and not Delegation.objects.exists()


def test_an_admin_makes_one_for_somebody_else(alice: User, bob: User, ada: User) -> None:
    client = _client(ada)
    assert client.post("/delegations/make", _window(principal="alice")).status_code == 302
    assert (Delegation.objects.get().principal, Delegation.objects.get().made_by) == (alice, ada)
    page = client.get("/delegations/").content.decode()
    assert "made by ada" in page and "Not confirmed" in page
    window = Delegation.objects.get()
    assert "confirm" not in page.split(f'id="delegation-{window.pk}"')[1].split("</tr>")[0].replace("Not confirmed", "")
    assert client.post(f"/delegations/{window.pk}/confirm").status_code == 404
    assert "ada wants bob to decide in your place" in _client(alice).get("/inbox/").content.decode()
    assert "Confirm" in _client(alice).get("/delegations/").content.decode()
    assert _client(alice).post(f"/delegations/{window.pk}/confirm").status_code == 302
    assert "confirmed by alice" in _client(alice).get("/delegations/").content.decode()
    assert "wants bob to decide" not in _client(alice).get("/inbox/").content.decode()


@pytest.mark.parametrize(
    ("text", "zone", "words"),
    [
        ("2026-03-29T02:30", "Europe/Berlin", "skips that time"),
        ("2026-10-25T02:30", "Europe/Berlin", "shows that time twice"),
        ("2026-10-25T02:30+01:00", "Europe/Berlin", "without a zone"),
        ("0001-01-01T00:00", "Asia/Tokyo", "out of reach"),
        ("", "UTC", "Write the day"),
    ],
)
def test_a_time_that_no_clock_shows_or_shows_twice_is_refused(text: str, zone: str, words: str) -> None:
    with pytest.raises(InvalidChange, match=words):
        moment(text, zone, "starts_at")


def test_a_time_is_read_as_the_zones_clock_shows_it() -> None:
    assert moment("2026-07-01T12:00", "Europe/Berlin", "x") == datetime(2026, 7, 1, 10, tzinfo=UTC)


def _standing(approval: Approval, **changes: str) -> dict[str, str]:
    fields = {"digest": approval.digest, "reason": "always right", "uses": "3", "days": "7"}
    paths = ["amount", "currency", "order_id", "reason"]  # as the canonical bytes order them
    return fields | {f"rule-{index}": "is" for index, _ in enumerate(paths)} | changes


@pytest.mark.usefixtures("calm")
def test_the_card_makes_a_standing_approval_and_its_page_lists_the_uses(
    open_one: Opener, alice: User, bob: User, ada: User
) -> None:
    approval, client = open_one(), _client(alice)
    page = client.get(f"/approvals/{approval.pk}/team").content.decode()
    assert "Always allow exactly this" in page
    sent = _standing(
        approval, **{"rule-0": "at_most", "most-0": "100.00", "rule-2": "one_of", "values-2": "8801\r\n8802"}
    )
    made = client.post(f"/approvals/{approval.pk}/standing", sent, headers=HTMX)
    standing = StandingApproval.objects.get()
    assert made["HX-Redirect"] == f"/standing/{standing.pk}/"
    assert standing.conditions == [
        {"path": "amount", "at_most": "100.00"},
        {"path": "currency", "is": "EUR"},
        {"path": "order_id", "one_of": ["8801", "8802"]},
        {"path": "reason", "is": "broken"},
    ]
    used = open_one()
    for path in ("/standing/", f"/standing/{standing.pk}/"):
        page = client.get(path).content.decode()
        assert f"/approvals/{used.pk}/" in page and "at most 100.00" in page and "Take back" in page
    assert "Take back" not in _client(bob).get("/standing/").content.decode()
    assert _client(bob).post(f"/standing/{standing.pk}/revoke").status_code == 403
    assert _client(ada).post(f"/standing/{standing.pk}/revoke").status_code == 302
    assert "taken back by ada" in " ".join(client.get("/standing/").content.decode().split())


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("headers", [{}, HTMX])
@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"reason": ""}, 422, "Say why"),
        ({"uses": "lots"}, 422, "Write a whole number"),
        ({"days": "31"}, 422, "in the next 30 days"),
        ({"rule-0": "at_most", "most-0": "5"}, 422, "would not be allowed itself"),
        ({"rule-0": "at_most", "most-0": "five"}, 422, "plain number"),
        (
            {"rule-0": "one_of", "values-0": "12.00\n" * 2000},
            422,
            "At most 8,000 characters",
        ),  # cut, the last is another
        ({"digest": "0" * 64}, 409, "not the current proposal"),
    ],
)
def test_a_refused_standing_approval_keeps_what_was_typed(
    open_one: Opener, alice: User, changes: dict[str, str], status: int, words: str, headers: dict[str, str]
) -> None:
    approval = open_one()
    sent = _standing(approval, **{"values-1": "kept-as-it-was"} | changes)
    response = _client(alice).post(f"/approvals/{approval.pk}/standing", sent, headers=headers)
    page = response.content.decode()
    assert response.status_code == status
    assert words in page and "kept-as-it-was" in page
    about = "rule-0" in changes
    assert ("hold-fault-0" in page) == about and "hold-fault-3" not in page, "an argument may be named reason, too"
    assert not StandingApproval.objects.exists()


def test_nothing_is_offered_in_advance_for_high_risk_or_to_who_may_not_decide(
    open_one: Opener, alice: User, olga: User
) -> None:
    approval = open_one()
    for person in (alice, olga):
        assert "Always allow" not in _client(person).get(f"/approvals/{approval.pk}/team").content.decode()
    sent = _standing(approval)
    refused = _client(alice).post(f"/approvals/{approval.pk}/standing", sent)
    assert refused.status_code == 403 and "cannot be approved in advance" in refused.content.decode()


def test_the_lists_take_the_same_queries_for_one_row_and_for_many(
    open_one: Opener, alice: User, bob: User, calm: None
) -> None:
    def fill(number: int) -> None:
        approval = open_one(arguments={"n": number})
        client.post(f"/approvals/{approval.pk}/standing", _standing(approval))
        open_one(arguments={"n": number})
        now = database_now()
        window = {"starts_at": now, "ends_at": now + timedelta(hours=number + 1)}
        services.delegate(principal=alice, to=bob, reason="", by=alice, **window)

    client, counts = _client(alice), list[list[int]]()
    for number in range(3):
        fill(number)
        counts.append([])
        for path in PAGES:
            with CaptureQueriesContext(connection) as queries:
                assert client.get(path).status_code == 200
            counts[-1].append(len(queries))
    assert counts[0] == counts[1] == counts[2]


def test_people_see_their_own_figures_and_admins_all(open_one: Opener, alice: User, bob: User, ada: User) -> None:
    for person in (alice, bob):
        approval = open_one()
        services.decide(approval_id=approval.pk, reviewer=person, given=answer(approval))
    hers, all_of_them = (_client(who).get("/reviewers/").content.decode() for who in (alice, ada))
    assert "Figures of alice" in hers and "Figures of bob" not in hers
    assert "Figures of alice" in all_of_them and "Figures of bob" in all_of_them


def test_haste_is_said_gently_where_the_next_click_would_be(
    open_one: Opener, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "HASTE_APPROVALS", 1)
    approval = open_one()
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    page = _client(alice).get(f"/approvals/{open_one().pk}/team").content.decode()
    assert "You approved 1 in 2 minutes" in page
