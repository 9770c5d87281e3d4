"""The record: whatever is done to it behind its back, `verify` finds the first entry that no longer fits.

What no chain can tell by itself, a cut-off end and a record replaced as a whole, is found with a head kept outside.
"""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from django.core.management import CommandError, call_command
from django.db import transaction
from hypothesis import example, given
from hypothesis import strategies as st

from approvals.models import AuditEvent
from approvals.record import audit
from approvals.record.audit import Head
from tests.at_once import at_once
from tests.tables_owner import as_the_tables_owner

pytestmark = pytest.mark.django_db


@pytest.fixture
def seqs() -> list[int]:
    for number in range(6):
        audit.record(
            actor="alice", kind="approval.decided", subject=f"apr_{number}", body={"number": number, "a": ["b"]}
        )
    assert audit.verify().ok
    return list(AuditEvent.objects.order_by("seq").values_list("seq", flat=True))


def run(statement: str, *parameters: str | int) -> None:
    with as_the_tables_owner() as cursor:
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
        "body = jsonb_set(body, '{number}', '2.0')",
        "body = jsonb_set(body, '{number}', '\"2\"')",
        "body = jsonb_set(body, '{number}', '1e400')",
        "body = '[]'",
        "actor = actor || ' '",
        "kind = upper(kind)",
        "at = 'infinity'",
        "at = '0001-01-01 00:00Z BC'",
        "at = at - interval '4051 years'",  # the same digits, before Christ
        "at = at + interval '9000 years'",
        "previous = repeat('0', 64)",
        "digest = repeat('0', 64)",
    ],
)
def test_a_change_of_any_part_of_an_entry_is_found(change: str, seqs: list[int]) -> None:
    run(f"UPDATE approvals_auditevent SET {change} WHERE seq = %s", seqs[2])
    found = audit.verify()
    assert (found.ok, found.first_bad, found.entries) == (False, seqs[2], 2)


def test_a_fraction_is_found_also_where_it_would_be_written_as_a_whole_number() -> None:
    audit.record(actor="zoë", kind="k", subject="s", body={"number": 2})
    run("UPDATE approvals_auditevent SET body = %s::jsonb", '{"number": 2.0}')
    assert not audit.verify().ok


def test_an_entry_too_deep_to_be_read_does_not_fit(seqs: list[int]) -> None:
    run("UPDATE approvals_auditevent SET body = %s::jsonb WHERE seq = %s", "[" * 5000 + "]" * 5000, seqs[2])
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


@pytest.mark.parametrize("place", ["first", "last"])
def test_an_entry_put_in_at_either_end_is_found(place: str, seqs: list[int]) -> None:
    seq = seqs[0] - 1 if place == "first" else seqs[-1] + 1
    forged = AuditEvent(seq=seq, at=AuditEvent.objects.get(pk=seqs[0]).at, actor="m", kind="k", subject="s", body={})
    forged.digest = audit.digest_of(forged)
    forged.save(force_insert=True)
    found = audit.verify()
    assert (found.ok, found.first_bad) == (False, seqs[0] if place == "first" else seq)


def heads_of(seqs: list[int]) -> list[Head]:
    digests = dict(AuditEvent.objects.values_list("seq", "digest"))
    return [Head(digests[seq], seq, "2026-11-24T12:00:00+00:00") for seq in seqs]


def written_anew(first: int, actor: str = "mallory") -> None:
    """Replace everything from one entry on by a chain that fits, as the tables' owner could."""
    kept = list(AuditEvent.objects.order_by("seq"))
    run("DELETE FROM approvals_auditevent WHERE seq >= %s", first)
    previous = ""
    for event in kept:
        if event.seq >= first:
            event.actor, event.previous = actor, previous
            event.digest = audit.digest_of(event)
            event.save(force_insert=True)
        previous = event.digest


@pytest.mark.parametrize("position", [0, 3, 5])
def test_a_record_written_anew_needs_a_head_from_outside_to_be_found(position: int, seqs: list[int]) -> None:
    outside = heads_of([seqs[2], seqs[5]])
    assert audit.verify(outside).ok
    written_anew(seqs[position])
    alone = audit.verify()
    assert alone.ok and "No head from outside" in alone.sentence
    found = audit.verify(outside)
    assert (found.ok, found.first_bad) == (False, None)
    assert found.missing == (outside[0] if position <= 2 else outside[1])
    assert f"Entry {found.missing.seq}, whose digest" in found.sentence


def test_a_cut_off_end_needs_a_head_from_outside_to_be_found(seqs: list[int]) -> None:
    outside = heads_of(seqs)
    run("DELETE FROM approvals_auditevent WHERE seq > %s", seqs[3])
    assert audit.verify().ok
    found = audit.verify(outside)
    assert (found.ok, found.missing, found.entries) == (False, outside[4], 4)


def test_an_emptied_record_needs_a_head_from_outside_to_be_found(seqs: list[int]) -> None:
    outside = heads_of(seqs[-1:])
    run("DELETE FROM approvals_auditevent WHERE seq > %s", 0)
    assert audit.verify().ok
    assert audit.verify(outside).missing == outside[0]


def test_an_entry_under_another_number_is_found_with_a_head_from_outside(seqs: list[int]) -> None:
    outside = heads_of(seqs)
    run("UPDATE approvals_auditevent SET seq = seq + 100 WHERE seq = %s", seqs[5])
    assert audit.verify().ok
    assert audit.verify(outside).missing == outside[5]
    assert audit.verify([Head(outside[5].digest)]).ok  # where only the digest was kept, no number can differ


def test_numbers_that_a_taken_back_change_used_up_are_no_fault(seqs: list[int]) -> None:
    for _ in range(3):
        with pytest.raises(RuntimeError), transaction.atomic():
            audit.record(actor="alice", kind="k", subject="s", body={})
            raise RuntimeError
    audit.record(actor="alice", kind="k", subject="s", body={})
    found = audit.verify(heads_of(seqs))
    assert (found.ok, found.entries, found.gaps) == (True, 7, 3)
    said = StringIO()
    call_command("verify_audit", stdout=said)
    assert "3 numbers are not used" in said.getvalue() and "no fault" in said.getvalue()


@pytest.mark.parametrize("body", [{"a": 1.5}, {"a": 2**53}, {"a": [{"b": object()}]}, {"a": b"x"}, {1: "a"}])
def test_what_could_not_be_checked_to_the_last_byte_is_not_recorded(body: Any) -> None:
    with pytest.raises(TypeError, match="An entry of the record cannot hold"):
        audit.record(actor="alice", kind="k", subject="s", body=body)
    assert not AuditEvent.objects.exists()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)


@example(body={"\U0001f600": 1, "\uff61": 2}, actor="")  # the standard sorts names by UTF-16
@given(body=values, actor=st.text(st.characters(codec="utf-8")))
def test_the_quick_way_to_canonical_bytes_is_the_standards(body: Any, actor: str) -> None:
    fields = {"at": "t", "actor": actor, "kind": "k", "subject": "s", "body": body, "previous": ""}
    assert audit.canonical_entry("t", actor, "k", "s", body, "") == rfc8785.dumps(fields)


def test_the_end_cut_off_shows_as_another_head(seqs: list[int]) -> None:
    head = audit.verify().head
    run("DELETE FROM approvals_auditevent WHERE seq = %s", seqs[-1])
    found = audit.verify()
    assert found.ok  # no chain can tell this by itself: keep the head somewhere else
    assert (found.entries, found.head == head) == (5, False)


def test_the_command_compares_with_a_file_and_with_single_digests(seqs: list[int], tmp_path: Path) -> None:
    outside = heads_of(seqs)
    kept = tmp_path / "heads.jsonl"
    lines = [json.dumps({"seq": head.seq, "digest": head.digest, "at": head.at}) for head in outside]
    kept.write_text("\n".join([*lines, '{"seq": 9, "dig']))  # a write that was cut off
    said = StringIO()
    call_command("verify_audit", heads=kept, stdout=said)
    assert "every head kept outside is among them (6)" in said.getvalue()
    with pytest.raises(CommandError, match="There is no file"):
        call_command("verify_audit", heads=tmp_path / "none")
    run("DELETE FROM approvals_auditevent WHERE seq = %s", seqs[5])
    call_command("verify_audit", stdout=StringIO())
    for wanted in ({"heads": kept}, {"head": [outside[5].digest]}):
        with pytest.raises(CommandError, match="the end was cut off, the whole was replaced"):
            call_command("verify_audit", stdout=StringIO(), **wanted)


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
