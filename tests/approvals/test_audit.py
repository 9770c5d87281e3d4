"""The record: whatever is done to it behind its back, `verify` finds the first entry that no longer fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from approvals import audit
from approvals.models import AuditEvent
from tests.at_once import at_once

pytestmark = pytest.mark.django_db


@contextmanager
def as_the_tables_owner() -> Iterator[None]:
    """Do what somebody could do who owns the table: take its guards away first."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE approvals_auditevent DISABLE TRIGGER USER")
        yield
        cursor.execute("ALTER TABLE approvals_auditevent ENABLE TRIGGER USER")


@pytest.fixture
def seqs() -> list[int]:
    for number in range(6):
        audit.record(
            actor="alice", kind="approval.decided", subject=f"apr_{number}", body={"number": number, "a": ["b"]}
        )
    assert audit.verify().ok
    return list(AuditEvent.objects.order_by("seq").values_list("seq", flat=True))


def run(statement: str, *parameters: str | int) -> None:
    with as_the_tables_owner(), connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        assert cursor.rowcount > 0


def test_an_empty_record_is_whole() -> None:
    found = audit.verify()
    assert (found.ok, found.entries, found.head, found.first_bad) == (True, 0, "", None)


def test_each_entry_carries_the_digest_of_the_one_before(seqs: list[int]) -> None:
    events = list(AuditEvent.objects.order_by("seq"))
    assert [event.previous for event in events] == ["", *(event.digest for event in events[:-1])]
    found = audit.verify()
    assert (found.entries, found.head) == (6, events[-1].digest)


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'mallory'",
        "kind = 'approval.expired'",
        "subject = 'apr_9'",
        "at = at + interval '1 microsecond'",
        "body = jsonb_set(body, '{number}', '9')",
        "body = body || '{\"more\": 1}'",
        "body = jsonb_set(body, '{a}', '[\"c\"]')",
        "previous = repeat('0', 64)",
        "digest = repeat('0', 64)",
    ],
)
def test_a_change_of_any_part_of_an_entry_is_found(change: str, seqs: list[int]) -> None:
    run(f"UPDATE approvals_auditevent SET {change} WHERE seq = %s", seqs[2])
    found = audit.verify()
    assert (found.ok, found.first_bad, found.entries) == (False, seqs[2], 2)


def test_a_forger_who_also_makes_the_digest_again_is_found_one_later(seqs: list[int]) -> None:
    event = AuditEvent.objects.get(pk=seqs[2])
    event.actor = "mallory"
    run(
        "UPDATE approvals_auditevent SET actor = 'mallory', digest = %s WHERE seq = %s", audit.digest_of(event), seqs[2]
    )
    found = audit.verify()
    assert (found.ok, found.first_bad) == (False, seqs[3])


@pytest.mark.parametrize("position", [0, 3])
def test_a_removed_entry_is_missed(position: int, seqs: list[int]) -> None:
    run("DELETE FROM approvals_auditevent WHERE seq = %s", seqs[position])
    found = audit.verify()
    assert (found.ok, found.first_bad) == (False, seqs[position + 1])


def test_two_entries_that_changed_places_are_found(seqs: list[int]) -> None:
    one, other = seqs[1], seqs[2]
    run("UPDATE approvals_auditevent SET seq = -1 WHERE seq = %s", one)
    run("UPDATE approvals_auditevent SET seq = %s WHERE seq = %s", one, other)
    run("UPDATE approvals_auditevent SET seq = %s WHERE seq = -1", other)
    found = audit.verify()
    assert (found.ok, found.first_bad) == (False, one)


def test_an_entry_put_in_between_is_found(seqs: list[int]) -> None:
    run("UPDATE approvals_auditevent SET seq = seq + 1000 WHERE seq > %s", seqs[2])
    before = AuditEvent.objects.get(pk=seqs[2])
    forged = AuditEvent(
        at=before.at, actor="mallory", kind="approval.decided", subject="apr_9", body={}, previous=before.digest
    )
    forged.digest = audit.digest_of(forged)
    forged.save(force_insert=True)
    run("UPDATE approvals_auditevent SET seq = %s WHERE seq = %s", seqs[2] + 1, forged.pk)
    found = audit.verify()
    assert (found.ok, found.first_bad) == (False, seqs[3] + 1000)


def test_the_end_cut_off_shows_as_another_head(seqs: list[int]) -> None:
    head = audit.verify().head
    run("DELETE FROM approvals_auditevent WHERE seq = %s", seqs[-1])
    found = audit.verify()
    assert found.ok  # no chain can tell this by itself: keep the head somewhere else
    assert (found.entries, found.head == head) == (5, False)


def test_the_command_ends_with_an_error_when_the_record_is_broken(seqs: list[int]) -> None:
    said = StringIO()
    call_command("verify_audit", stdout=said)
    assert "6" in said.getvalue()
    run("UPDATE approvals_auditevent SET actor = 'mallory' WHERE seq = %s", seqs[4])
    with pytest.raises(CommandError, match=str(seqs[4])):
        call_command("verify_audit", stdout=StringIO())


def test_an_entry_of_a_change_that_is_taken_back_is_taken_back_too(seqs: list[int]) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        audit.record(actor="alice", kind="approval.decided", subject="apr_1", body={})
        raise RuntimeError
    assert audit.verify().entries == 6


@pytest.mark.django_db(transaction=True)
def test_entries_written_at_once_make_one_chain() -> None:
    def write() -> None:
        for turn in range(5):
            with transaction.atomic():
                audit.record(actor="writer", kind="test", subject=str(turn), body={})

    at_once(*[write] * 8)
    found = audit.verify()
    assert (found.ok, found.entries) == (True, 40)
