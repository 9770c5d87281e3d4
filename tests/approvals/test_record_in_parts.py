"""A long record: a page looks at its newest part, the command at all of it, in several processes."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from approvals.models import AuditEvent
from approvals.reading import record
from approvals.record import audit, checked, heads, walking
from approvals.record.walking import joined
from console.database import conninfo
from tests.api_caller import Caller
from tests.page_client import signed_in, text
from tests.tables_owner import as_the_tables_owner

pytestmark = pytest.mark.django_db


def happen(count: int) -> list[int]:
    for number in range(count):
        audit.record(actor="alice", kind="approval.decided", subject=f"apr_{number}", body={"number": number})
    return list(AuditEvent.objects.order_by("seq").values_list("seq", flat=True))


def run(statement: str, *parameters: str | int) -> None:
    with as_the_tables_owner() as cursor:
        cursor.execute(statement, parameters)
        assert cursor.rowcount > 0


def forge(seq: int) -> None:
    run("UPDATE approvals_auditevent SET actor = 'mallory' WHERE seq = %s", seq)


@pytest.fixture
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request looks at three entries."""
    monkeypatch.setattr(record, "AT_ONCE", 3)


def check_whole() -> None:
    call_command("verify_audit", processes=1, stdout=StringIO())


@pytest.mark.usefixtures("short_looks")
def test_a_page_looks_at_the_newest_and_says_that_the_rest_was_never_checked() -> None:
    happen(9)
    found = record.check()
    assert (found.ok, found.walked, record.last_check()) == (True, 3, None)
    assert "The newest 3 entries fit" in found.sentence and "never all at once" in found.sentence


@pytest.mark.usefixtures("short_looks")
def test_after_a_check_of_the_whole_only_what_is_new_is_looked_at() -> None:
    seqs = happen(9)
    check_whole()
    last = record.last_check()
    assert last is not None and (last.seq, last.entries) == (seqs[-1], 9)
    happen(2)
    found = record.check()
    assert (found.ok, found.walked, found.entries) == (True, 2, 11)
    assert f"all up to entry {last.seq} were checked at {last.at}" in found.sentence
    happen(9)
    found = record.check()
    assert (found.ok, found.walked) == (True, 3)
    assert f"those from {last.seq + 1} to " in found.sentence


@pytest.mark.usefixtures("short_looks")
def test_an_old_entry_that_was_changed_is_found_by_the_check_of_the_whole() -> None:
    seqs = happen(9)
    check_whole()
    before = record.last_check()
    happen(2)
    forge(seqs[2])
    assert record.check().ok  # and its sentence says what was not looked at
    with pytest.raises(CommandError, match=f"Entry {seqs[2]} does not fit"):
        check_whole()
    assert record.last_check() == before


@pytest.mark.usefixtures("short_looks")
@pytest.mark.parametrize("place", [9, 10])
def test_a_new_entry_that_was_changed_is_found_at_once(place: int) -> None:
    happen(9)
    check_whole()
    seqs = happen(2)
    forge(seqs[place])
    assert record.check().first_bad == seqs[place]


@pytest.mark.usefixtures("short_looks")
@pytest.mark.parametrize(
    "change",
    ["DELETE FROM approvals_auditevent WHERE seq >= %s", "UPDATE approvals_auditevent SET digest = 'x' WHERE seq = %s"],
)
def test_the_end_of_the_last_check_must_still_be_there(change: str) -> None:
    seqs = happen(9)
    check_whole()
    run(change, seqs[8])
    found = record.check()
    assert not found.ok and found.missing is not None and found.missing.seq == seqs[8]
    assert "they are not the record that was here before" in found.sentence


@pytest.mark.usefixtures("short_looks")
def test_a_head_that_was_kept_of_the_newest_must_be_among_them() -> None:
    happen(9)
    check_whole()
    happen(1)
    assert heads.Publisher().step() is not None
    seqs = happen(1)
    assert record.check().heads == 1
    run("DELETE FROM approvals_auditevent WHERE seq >= %s", seqs[9])
    found = record.check()
    assert not found.ok and found.missing is not None and found.missing.seq == seqs[9]


def test_what_was_checked_counts_only_with_our_signature() -> None:
    happen(3)
    check_whole()
    path = settings.AUDIT_HEADS_FILE.with_suffix(".checked")
    kept = path.read_text()
    for forged in ("", "{}", kept[:-1], "x" + kept, kept.replace(":", "::")):
        path.write_text(forged)
        assert checked.last() is None
    path.write_text(kept)
    assert checked.last() is not None


def test_pages_and_programs_are_told_when_the_whole_was_checked(ada: User) -> None:
    seqs = happen(3)
    page = signed_in(ada)
    assert "Never checked as a whole yet." in text(page.get("/record/"))
    told = Caller(ada).get("audit/verify").json()["last_whole_check"]
    assert (told["seq"], told["entries"]) == (seqs[-1], 3)
    assert f"up to number {seqs[-1]}" in text(page.get("/record/"))


def _in_parts(count: int) -> Any:
    seqs = list(AuditEvent.objects.order_by("seq").values_list("seq", flat=True))
    size = -(-(seqs[-1] - seqs[0] + 1) // count)
    lows = range(seqs[0], seqs[-1] + 1, size)
    wanted = frozenset(AuditEvent.objects.values_list("digest", flat=True))
    return joined([walking.walk_part(conninfo("a test"), low - 1, low + size - 1, wanted) for low in lows])


@pytest.mark.django_db(transaction=True)
def test_parts_find_what_one_walk_does() -> None:
    seqs = happen(12)
    run("DELETE FROM approvals_auditevent WHERE seq = %s", seqs[-1])
    one = _in_parts(1)
    assert (one.entries, one.first_bad, len(one.found)) == (11, None, 11)
    for count in (2, 3, 5, 11):
        assert _in_parts(count) == one
    forge(seqs[5])
    run("DELETE FROM approvals_auditevent WHERE seq = %s", seqs[8])
    for count in (1, 2, 3, 5, 11):
        found = _in_parts(count)
        assert (found.entries, found.first_bad) == (5, seqs[5])


@pytest.mark.django_db(transaction=True)
def test_several_processes_find_what_one_does() -> None:
    seqs = happen(6)
    said = StringIO()
    call_command("verify_audit", processes=2, stdout=said)
    assert "All 6 entries fit" in said.getvalue()
    run("DELETE FROM approvals_auditevent WHERE seq = %s", seqs[3])
    with pytest.raises(CommandError, match=f"Entry {seqs[4]} does not fit"):
        call_command("verify_audit", processes=2, stdout=StringIO())
