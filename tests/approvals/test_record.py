"""The record as admins see it: the page, the JSON API, and the check in words."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from approvals.models import AuditEvent
from approvals.reading import record
from approvals.record import audit, heads
from tests.api_caller import Caller, paths_of, problem
from tests.page_client import signed_in, text
from tests.tables_owner import as_the_tables_owner

RECORD, VERIFY = "/record/", "/record/verify"
BY_SCRIPT = {"HX-Request": "true"}
PROMISED = {"seq", "at", "actor", "kind", "subject", "body", "previous", "digest"}


def happen(times: int, actor: str = "alice", subject: str = "apr_1", **body: Any) -> None:
    for _ in range(times):
        audit.record(actor=actor, kind="approval.decided", subject=subject, body=body)


def cursor_behind(number: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(["record", "after", number]).encode()).decode()


def forge() -> int:
    """Change the second entry behind the application's back; return its number."""
    seq = AuditEvent.objects.order_by("seq").values_list("seq", flat=True)[1]
    with as_the_tables_owner() as cursor:
        cursor.execute("UPDATE approvals_auditevent SET actor = 'mallory' WHERE seq = %s", [seq])
    return int(seq)


def test_a_since_that_matches_nothing_reads_no_entry(ada: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO approvals_auditevent (at, actor, kind, subject, body, previous, digest)"
            " SELECT now() - make_interval(secs => n), 'alice', 'x', 's', '{}', '', md5(n::text)"
            " FROM generate_series(1, 20000) AS n"
        )
        cursor.execute("ANALYZE approvals_auditevent")
    filters = record.RecordFilters(since=datetime(2999, 1, 1, tzinfo=UTC))
    with CaptureQueriesContext(connection) as captured:
        assert record.entries_page(filters).rows == []
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {captured.captured_queries[0]['sql']}")
        assert any("audit_by_time" in line for (line,) in cursor.fetchall())


# The API


@pytest.mark.parametrize("number", [10**4_000, 2**63, 2**62, "-1", "x", "\ud800", None, 1.5])
def test_a_cursor_that_names_no_entry_is_no_fault(number: Any, ada: User) -> None:
    happen(2)
    answer = Caller(ada).get("audit", cursor=cursor_behind(number))
    assert (answer.status_code, len(answer.json()["items"])) == (200, 2)


def test_programs_read_the_record_newest_first_and_page_by_page(ada: User) -> None:
    happen(7, note="x")
    pages = Caller(ada).all("audit", limit=3)
    assert [len(page) for page in pages] == [3, 3, 1]
    entries = [entry for page in pages for entry in page]
    assert [entry["seq"] for entry in entries] == list(
        AuditEvent.objects.order_by("-seq").values_list("seq", flat=True)
    )
    assert all(set(entry) >= PROMISED for entry in entries)
    assert all(datetime.fromisoformat(entry["at"]).tzinfo for entry in entries)
    for entry in entries:  # what is told is enough to make the digest again
        told = [entry[name] for name in ("at", "actor", "kind", "subject", "body", "previous")]
        assert hashlib.sha256(audit.canonical_entry(*told)).hexdigest() == entry["digest"]
    assert entries[0]["body"] == {"note": "x"} and entries[0]["previous"] == entries[1]["digest"]


def test_programs_narrow_the_record(ada: User) -> None:
    happen(2, actor="alice", subject="apr_1")
    happen(1, actor="bob", subject="apr_1")
    happen(1, actor="bob", subject="apr_2")
    caller = Caller(ada)

    def count(**query: Any) -> int:
        return len(caller.get("audit", **query).json()["items"])

    assert [count(actor="alice"), count(subject="apr_1"), count(actor="bob", subject="apr_1")] == [2, 3, 1]
    at = caller.get("audit").json()["items"][0]["at"]
    assert [count(since=at), count(since="2020-01-01T00:00:00Z"), count(since="2999-01-01T00:00:00+02:00")] == [4, 4, 0]
    assert count(actor="ALICE") == 0
    assert count(actor="", subject="", since="") == 4


@pytest.mark.parametrize("since", ["yesterday", "2026-01-01T00:00:00", "2026-01-01"])
def test_a_moment_without_its_zone_is_refused(since: str, ada: User) -> None:
    assert paths_of(Caller(ada).get("audit", since=since)) == ["since"]


@pytest.mark.parametrize("cursor", ["nonsense", "W10", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwKzAwOjAwIiwgIngiXQ"])
def test_an_unreadable_cursor_begins_at_the_newest(cursor: str, ada: User) -> None:
    happen(2)
    assert len(Caller(ada).get("audit", cursor=cursor).json()["items"]) == 2


def test_programs_are_told_whether_the_record_is_whole(ada: User) -> None:
    happen(3)
    told = Caller(ada).get("audit/verify").json()
    assert (told["ok"], told["entries"], told["first_bad"]) == (True, 3, None)
    assert told["head"] == AuditEvent.objects.latest("seq").digest
    seq = forge()
    told = Caller(ada).get("audit/verify").json()
    assert (told["ok"], told["entries"], told["first_bad"]) == (False, 1, seq)


def test_programs_are_told_that_the_end_was_cut_off(ada: User) -> None:
    happen(3)
    head = heads.Publisher().step()
    assert head is not None
    assert Caller(ada).get("audit/verify").json()["heads_compared"] == 1
    with as_the_tables_owner() as cursor:
        cursor.execute("DELETE FROM approvals_auditevent WHERE seq = %s", [head.seq])
    told = Caller(ada).get("audit/verify").json()
    assert (told["ok"], told["first_bad"], told["missing_head"]["digest"]) == (False, None, head.digest)


@pytest.mark.parametrize("path", ["audit", "audit/verify"])
def test_the_record_is_for_admins(path: str, alice: User, olga: User, eve: User) -> None:
    for user in (alice, olga, eve):
        assert problem(Caller(user).get(path), 403)["rule"] == "audit"
    problem(Caller().get(path), 401)


# The page


def test_only_admins_see_the_page_and_the_way_to_it(ada: User, alice: User, eve: User) -> None:
    assert f'href="{RECORD}"' in text(signed_in(ada).get("/system/"))
    assert f'href="{RECORD}"' not in text(signed_in(alice).get("/system/"))
    assert signed_in(ada).get(RECORD).status_code == 200
    for user in (alice, eve):
        assert signed_in(user).get(RECORD).status_code == 403
        assert signed_in(user).post(VERIFY).status_code == 403
    assert Client().get(RECORD)["Location"].startswith("/accounts/login/")
    assert signed_in(ada).get(VERIFY).status_code == 405


def test_the_page_shows_entries_newest_first_and_narrows_by_its_address(ada: User) -> None:
    happen(1, actor="alice", subject="apr_first")
    happen(1, actor="bob", subject="apr_second")
    client = signed_in(ada)
    shown = text(client.get(RECORD))
    assert shown.index("apr_second") < shown.index("apr_first")
    narrowed = text(client.get(RECORD, {"actor": "alice"}, headers=BY_SCRIPT))
    assert "apr_first" in narrowed and "apr_second" not in narrowed
    assert "<html" not in narrowed
    assert "apr_second" in text(client.get(RECORD, {"since": datetime.now(UTC).date().isoformat()}))
    assert "No entry fits" in text(client.get(RECORD, {"since": "2999-01-01"}))


def test_an_empty_record_says_how_it_will_fill(ada: User) -> None:
    assert "Nothing has happened yet" in text(signed_in(ada).get(RECORD))


@pytest.mark.parametrize("since", ["tomorrow", "2026-13-01", "<b>"])
def test_a_day_that_is_none_is_told_and_what_was_typed_stays(since: str, ada: User) -> None:
    happen(1)
    shown = text(signed_in(ada).get(RECORD, {"since": since, "actor": "alice"}))
    assert "is not a day" in shown and "<b>”" not in shown
    assert 'value="alice"' in shown and "apr_1" in shown


def test_the_page_grows_and_then_turns(ada: User) -> None:
    happen(60)
    client = signed_in(ada)
    assert text(client.get(RECORD, headers=BY_SCRIPT)).count('id="entry-') == 50
    assert "?limit=100" in text(client.get(RECORD))
    assert text(client.get(RECORD, {"limit": "100"}, headers=BY_SCRIPT)).count('id="entry-') == 60


def test_the_page_costs_the_same_for_two_entries_and_for_fifty(ada: User) -> None:
    client = signed_in(ada)

    def cost() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(RECORD).status_code == 200
        return len(captured)

    happen(2)
    few = cost()
    happen(48)
    assert cost() == few <= 8  # most of them are the frame's


def test_hidden_characters_show_and_nothing_is_markup(ada: User) -> None:
    happen(1, actor="al\u202eice", subject="<img src=x>", reason="a\u200bb<script>")
    shown = text(signed_in(ada).get(RECORD))
    assert "\u202e" not in shown and "\u200b" not in shown
    assert "<img" not in shown.split('id="record-rows"')[1].split("<caption")[1].split("</table>")[0]
    assert "&lt;script&gt;" in shown


def test_the_check_says_in_words_what_it_found(ada: User) -> None:
    happen(3)
    client = signed_in(ada)
    fragment = text(client.post(VERIFY, headers=BY_SCRIPT))
    assert "<html" not in fragment
    assert "All 3 entries fit" in fragment and "The record is whole" in fragment
    seq = forge()
    page = text(client.post(VERIFY))
    assert "<html" in page and "The record was changed" in page and f"Entry {seq} does not fit" in page


def test_the_addresses_are_those_of_the_console() -> None:
    assert (reverse("approvals:record"), reverse("approvals:verify_record")) == (RECORD, VERIFY)
