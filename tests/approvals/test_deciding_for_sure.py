"""The connection to Postgres breaks while a decision is saved: whoever decided learns which it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse

from approvals import services
from approvals.errors import NotKnown, NotRecorded
from approvals.models import Approval, AuditEvent, Decision
from approvals.services import decide_for_sure, deciding_for_sure, find_recorded
from console import settings
from console.models import OutboxEntry
from tests import session_postgres
from tests.api_caller import Caller, problem
from tests.approvals.conftest import answer
from tests.cut_connection import Cut, Cutter, cut_connection
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.django_db(transaction=True)

Opener = Callable[..., Approval]


@pytest.fixture(autouse=True)
def whoever_waits_for_a_row_is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding_for_sure, "WAIT", f"{PATIENCE}s")


@pytest.fixture
def approval(transactional_db: None, open_one: Opener) -> Approval:
    return open_one()


def decided_once() -> bool:
    """Return whether there is one decision, whole, or none of it at all."""
    there = (
        Decision.objects.count(),
        OutboxEntry.objects.count(),
        AuditEvent.objects.filter(kind="approval.decided").count(),
        Approval.objects.filter(status="decided").count(),
    )
    assert there in ((0, 0, 0, 0), (1, 1, 1, 1)), there
    return there[0] == 1


def cut_at_commit(cutter: Cutter, cut: Cut, *, then_away: bool = False) -> None:
    cutter.cut, cutter.then_away = cut, then_away


def form(approval: Approval, **changes: str) -> dict[str, str]:
    sent = {"verdict": "reject", "version": "1", "digest": approval.digest, "note": "Too much.", "key": "key-1"}
    return sent | changes


def once_back(ask: Callable[[], Any]) -> Any:
    """Ask until the pool has a connection again; each time it waits for one for a moment."""

    def look() -> list[Any]:
        shown = ask()
        return [] if shown.status_code == 503 else [shown]

    return eventually(look, "the database is back")[0]


@pytest.mark.parametrize("key", ["key-1", ""])
def test_a_commit_whose_answer_is_lost_is_found_to_be_recorded(key: str, approval: Approval, alice: User) -> None:
    with cut_connection() as cutter:
        cut_at_commit(cutter, "answer")
        recorded = decide_for_sure(approval_id=approval.pk, reviewer=alice, given=answer(approval, idempotency_key=key))
        assert cutter.has_cut.is_set() and recorded.was_cut_off
    assert recorded.decision == Decision.objects.get()
    assert decided_once()


@pytest.mark.parametrize("key", ["key-1", ""])
def test_a_commit_that_never_arrives_is_found_not_to_be_recorded(key: str, approval: Approval, alice: User) -> None:
    given = answer(approval, idempotency_key=key)
    with cut_connection() as cutter:
        cut_at_commit(cutter, "swallow")
        with pytest.raises(NotRecorded):
            decide_for_sure(approval_id=approval.pk, reviewer=alice, given=given)
        assert not decided_once()
        assert not decide_for_sure(approval_id=approval.pk, reviewer=alice, given=given).was_cut_off
    assert decided_once()


def test_a_commit_that_is_still_under_way_is_waited_for(approval: Approval, alice: User) -> None:
    with cut_connection() as cutter:
        cut_at_commit(cutter, "delay")
        waiting = threading.Event()
        usual = deciding_for_sure.find_recorded

        def finding(**asked: Any) -> Decision | None:
            threading.Timer(0.4, cutter.release.set).start()
            waiting.set()
            return usual(**asked)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(deciding_for_sure, "find_recorded", finding)
            recorded = decide_for_sure(approval_id=approval.pk, reviewer=alice, given=answer(approval))
        assert waiting.is_set() and recorded.was_cut_off
    assert decided_once()


def test_while_it_cannot_be_found_out_nothing_is_claimed(
    approval: Approval, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding_for_sure, "WAIT", "100ms")
    with cut_connection() as cutter:
        cut_at_commit(cutter, "delay")
        given = answer(approval, idempotency_key="key-1")
        with pytest.raises(NotKnown):
            decide_for_sure(approval_id=approval.pk, reviewer=alice, given=given)
        cutter.release.set()
        monkeypatch.setattr(deciding_for_sure, "WAIT", f"{PATIENCE}s")
        assert find_recorded(approval_id=approval.pk, reviewer=alice, key="key-1") == Decision.objects.get()
    assert decided_once()


def test_a_server_that_dies_inside_the_commit_has_recorded_nothing(approval: Approval, alice: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION die_at_commit() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;"
            "CREATE CONSTRAINT TRIGGER die_at_commit AFTER INSERT ON approvals_decision"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die_at_commit()"
        )
    try:
        with pytest.raises(NotRecorded):
            decide_for_sure(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER die_at_commit ON approvals_decision; DROP FUNCTION die_at_commit()")
    assert not decided_once()


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_the_page_says_that_it_was_recorded(headers: dict[str, str], approval: Approval, alice: User) -> None:
    client = Client(headers=headers)
    client.force_login(alice)
    with cut_connection() as cutter:
        cut_at_commit(cutter, "answer")
        shown = client.post(f"/approvals/{approval.pk}/decision", form(approval), follow=True)
        assert cutter.has_cut.is_set()
    page = shown.content.decode()
    assert shown.status_code == 200 and "Rejected by alice" in page
    assert bool(headers) or "The connection to the database broke just then. Your decision is recorded." in page
    assert decided_once()


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_the_page_says_that_it_was_not_recorded_and_keeps_what_was_typed(
    headers: dict[str, str], approval: Approval, alice: User
) -> None:
    client = Client(headers=headers)
    client.force_login(alice)
    with cut_connection() as cutter:
        cut_at_commit(cutter, "swallow")
        shown = client.post(f"/approvals/{approval.pk}/decision", form(approval))
        assert cutter.has_cut.is_set()
    page = shown.content.decode()
    assert shown.status_code == 503
    assert "It was not recorded; decide again." in page
    if headers:
        assert shown["HX-Reswap"] == "none"  # what is on the page stays there
    else:
        assert "Too much." in page
    assert not decided_once()


@pytest.mark.parametrize("cut", ["answer", "swallow"])
def test_while_postgres_is_away_the_page_does_not_claim_to_know_and_finds_out_later(
    cut: Cut, approval: Approval, alice: User
) -> None:
    client = Client()
    client.force_login(alice)
    with cut_connection(goes_away=True) as cutter:
        cut_at_commit(cutter, cut, then_away=True)
        shown = client.post(f"/approvals/{approval.pk}/decision", form(approval))
        page = shown.content.decode()
        assert (shown.status_code, shown["Retry-After"]) == (503, "5")
        assert "We do not know yet" in page and "Too much." in page and "Send again" in page
        link = f"/approvals/{approval.pk}/decision/recorded?key=key-1"
        assert f'href="{link}"' in page
        still = client.get(link)
        assert still.status_code == 503 and 'http-equiv="refresh"' in still.content.decode()
        cutter.is_away = False
        told = once_back(lambda: client.get(link, follow=True)).content.decode()
    wanted = "Your decision is recorded." if cut == "answer" else "Your decision was not recorded."
    assert wanted in told
    assert decided_once() == (cut == "answer")


def test_sending_it_again_is_the_same_decision(approval: Approval, alice: User) -> None:
    client = Client()
    client.force_login(alice)
    with cut_connection(goes_away=True) as cutter:
        cut_at_commit(cutter, "answer", then_away=True)
        assert client.post(f"/approvals/{approval.pk}/decision", form(approval)).status_code == 503
        cutter.is_away = False
        again = once_back(lambda: client.post(f"/approvals/{approval.pk}/decision", form(approval), follow=True))
    assert "Your decision is recorded." in again.content.decode()
    assert decided_once()


@pytest.mark.parametrize(
    ("cut", "then_away", "status"), [("answer", False, 200), ("swallow", False, 503), ("answer", True, 503)]
)
def test_a_program_is_told_which_it_was(
    cut: Cut, then_away: bool, status: int, approval: Approval, alice: User
) -> None:
    caller = Caller(alice)
    caller.get("health")  # the first use of a token is written down, and is not the commit that is cut off
    body = {"verdict": "approve", "version": 1, "digest": approval.digest}
    with cut_connection(goes_away=then_away) as cutter:
        cut_at_commit(cutter, cut, then_away=then_away)
        told = caller.post(f"approvals/{approval.pk}/decision", body, key="k")
        assert cutter.has_cut.is_set()
    if status == 200:
        assert told.json()["decision"]["by"] == "alice"
    else:
        detail = problem(told, 503)["detail"]
        assert ("not known yet" if then_away else "was not recorded") in detail
    assert decided_once() == (cut == "answer")


def test_finding_out_needs_the_key_and_the_person(approval: Approval, alice: User, bob: User, eve: User) -> None:
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval, idempotency_key="key-1"))
    link = f"/approvals/{approval.pk}/decision/recorded"
    client = Client()
    assert client.get(link + "?key=key-1").status_code == 302  # to sign in
    for person, wanted in [(alice, "Your decision is recorded."), (bob, "Your decision was not recorded.")]:
        client.force_login(person)
        assert wanted in client.get(link + "?key=key-1", follow=True).content.decode()
        assert client.get(link).status_code == 404
        assert client.get(link + "?key=a%00b").status_code == 404
    client.force_login(eve)
    assert client.get(link + "?key=key-1").status_code == 403


def test_a_process_that_freezes_inside_a_transaction_loses_it(transactional_db: None) -> None:
    url = session_postgres.SERVER.url(connection.settings_dict["NAME"])
    given: Any = settings._database(url)["OPTIONS"]  # the tests' own connections are given more patience
    with psycopg.connect(url, options=given["options"]) as connected:
        assert connected.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("10s",)


def test_without_a_key_it_is_found_by_what_was_sent(approval: Approval, alice: User, bob: User) -> None:
    given = answer(approval)
    decision = services.decide(approval_id=approval.pk, reviewer=alice, given=given)
    sent, other = given.fingerprint(approval.pk), answer(approval, note="no").fingerprint(approval.pk)
    for person, body_digest, found in ((alice, sent, decision), (alice, other, None), (bob, sent, None)):
        asked: dict[str, Any] = {"approval_id": approval.pk, "reviewer": person, "body_digest": body_digest}
        assert services.find_recorded(key="", **asked) == found


@pytest.fixture
def several(transactional_db: None, open_one: Opener) -> list[Approval]:
    return [open_one(tool="send_email", risk="low", arguments={"n": n}) for n in range(3)]


def together(several: list[Approval]) -> dict[str, Any]:
    items = [f"{one.pk}:{one.version}:{one.digest}" for one in several]
    return {"item": items, "verdict": "reject", "note": "Too much.", "key": "key-1"}


def recorded_of(several: list[Approval]) -> int:
    """Return how many of them were rejected, each once and whole."""
    decided = Approval.objects.filter(pk__in=[one.pk for one in several], status="decided").count()
    assert Decision.objects.count() == OutboxEntry.objects.count() == decided
    return decided


@pytest.mark.parametrize(("cut", "recorded"), [("answer", 3), ("swallow", 2)])
def test_together_each_says_what_became_of_it(cut: Cut, recorded: int, several: list[Approval], alice: User) -> None:
    client = Client()
    client.force_login(alice)
    with cut_connection() as cutter:
        cut_at_commit(cutter, cut)
        shown = client.post(reverse("approvals:decide_together"), together(several))
        assert cutter.has_cut.is_set()
    page = shown.content.decode()
    assert shown.status_code == 200 and recorded_of(several) == recorded
    assert f"Recorded: {recorded}<" in page
    if recorded < 3:
        assert page.count("Not recorded</span>") == 1
        assert "It was not recorded; decide again." in page and "Send 1 again" in page
        again = client.post(reverse("approvals:decide_together"), together(several[:1]))
        assert "The decision is recorded" in again.content.decode()
    assert recorded_of(several) == 3


@pytest.mark.parametrize("cut", ["answer", "swallow"])
def test_together_nothing_is_claimed_while_postgres_is_away(cut: Cut, several: list[Approval], alice: User) -> None:
    client = Client()
    client.force_login(alice)
    address = reverse("approvals:decide_together")
    with cut_connection(goes_away=True) as cutter:
        cut_at_commit(cutter, cut, then_away=True)
        shown = client.post(address, together(several))
        page = shown.content.decode()
        assert (shown.status_code, shown["Retry-After"]) == (503, "5")
        assert page.count("Not known yet</span>") == 3 and "not tried now" in page
        assert "Too much." in page and "Send 3 again" in page and "csrfmiddlewaretoken" in page
        cutter.is_away = False
        again = once_back(lambda: client.post(address, together(several)))
    assert "All 3 decisions are recorded" in again.content.decode()
    assert recorded_of(several) == 3


@pytest.mark.parametrize(
    ("cut", "then_away", "statuses"),
    [("answer", False, [200, 200, 200]), ("swallow", False, [503, 200, 200]), ("answer", True, [503, 503, 503])],
)
def test_a_program_that_decides_several_is_told_of_each(
    cut: Cut, then_away: bool, statuses: list[int], several: list[Approval], alice: User
) -> None:
    caller = Caller(alice)
    caller.get("health")  # the first use of a token is written down, and is not the commit that is cut off
    items = [{"id": one.pk, "verdict": "approve", "version": 1, "digest": one.digest} for one in several]
    with cut_connection(goes_away=then_away) as cutter:
        cut_at_commit(cutter, cut, then_away=then_away)
        told = caller.post("approvals/decisions", {"items": items}, key="k").json()["items"]
        assert cutter.has_cut.is_set()
    assert [one["status"] for one in told] == statuses
    words = "not known yet" if then_away else "was not recorded"
    assert all(words in one["detail"] for one in told if one["status"] == 503)
    assert all(one["decision"]["by"] == "alice" for one in told if one["status"] == 200)
    recorded_of(several)


def test_a_recorded_one_is_told_although_its_request_cannot_be_read(
    several: list[Approval], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise OperationalError

    monkeypatch.setattr("approvals.api.bulk.approvals_json", away)
    one = several[0]
    body = {"items": [{"id": one.pk, "verdict": "approve", "version": 1, "digest": one.digest}]}
    told = Caller(alice).post("approvals/decisions", body).json()["items"][0]
    assert (told["status"], told["approval"], told["decision"]["by"]) == (200, None, "alice")
