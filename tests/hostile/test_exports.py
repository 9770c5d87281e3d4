"""The inbox as a CSV file: everything shown, nothing computed."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from approvals import services
from approvals.pages.inbox import exports
from approvals.pages.inbox.exports import Export
from approvals.reading.listing import Filters
from approvals.services import Answer
from console.text.cells import cell

from .conftest import USERNAME_LENGTH, Open, flat, name_reviewers
from .corpus import CORPUS

EXPORT = reverse("approvals:export")
STARTS_A_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def read(response: Any) -> list[list[str]]:
    """Return the lines of the file, the heading first."""
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert text.count("\r\n") == text.count("\n") == len(lines), "a line break inside a cell"
    return lines


def test_every_text_is_shown_and_computes_nothing(reader: Client, open_hostile: Open) -> None:
    people = name_reviewers(hostile.text for hostile in CORPUS)
    by_id = {}
    for place, (hostile, by) in enumerate(zip(CORPUS, people, strict=True)):
        opened = open_hostile(hostile.text, requested_by_id=people[place - 1].pk)
        given = Answer("approve", opened.version, opened.digest)
        services.decide(approval_id=opened.pk, reviewer=by, given=given, circumstances=services.Circumstances("page"))
        by_id[opened.pk] = hostile, people[place - 1].username
    heading, *lines = read(reader.get(EXPORT, {"status": "decided"}))
    assert heading == list(exports.COLUMNS)
    assert len(lines) == len(CORPUS)
    faults = []
    for line in lines:
        (hostile, asker), row = by_id[line[0]], dict(zip(heading, line, strict=True))
        places = ["agent's own words", *(["decided by"] if len(hostile.text) <= USERNAME_LENGTH else [])]
        faults += [
            f"{hostile.name} does not show {part!r} in {place}"
            for part in hostile.shows
            for place in places
            if flat(part) not in row[place]
        ]
        assert row["started by"] == cell(asker)
        faults += [f"{hostile.name} hides U+{ord(char):04X}" for char in hostile.hides if char in "".join(line)]
        faults += [f"{hostile.name} begins a formula" for one in line if one.startswith(STARTS_A_FORMULA)]
    assert faults == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *[("=1+1", "'=1+1"), ("+1", "'+1"), ("-5.00", "'-5.00"), ("@SUM(A1)", "'@SUM(A1)"), (" \t=1", "' ⟨U+0009⟩=1")],
        *[(f"{sign}1", f"'⟨U+{ord(sign):04X}⟩1") for sign in "\uff1d\uff0b\uff0d\uff20\u2212"],
        *[("\u200b=1", "'⟨U+200B⟩=1"), ("\ufeff=1", "'⟨U+FEFF⟩=1"), ("%1", "'%1"), ("|1", "'|1")],
        *[("'=1", "''=1"), ("\n=1", "'⟨U+000A⟩=1"), ("plain - text", "plain - text"), ("", ""), (None, "")],
        (datetime(2026, 11, 24, 12, tzinfo=UTC), "2026-11-24T12:00:00+00:00"),
    ],
)
def test_a_cell_is_text(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_the_file_holds_what_the_list_holds(reader: Client, open_hostile: Open) -> None:
    wanted, other = open_hostile("one apple"), open_hostile("one pear")
    assert [line[0] for line in read(reader.get(EXPORT, {"search": "apple"}))[1:]] == [wanted.pk]
    assert len(read(reader.get(EXPORT))) == 3
    assert len(read(reader.get(EXPORT, {"status": "decided"}))) == 1
    assert other.pk in {line[0] for line in read(reader.get(EXPORT, {"status": "all"}))}


def test_a_file_that_ends_early_says_so(alice: User, open_hostile: Open) -> None:
    for number in range(5):
        open_hostile(f"request {number}")
    assert "first 4 requests" in list(Export(alice, Filters(), most=4))[-1]
    assert "requests are in this file" not in "".join(Export(alice, Filters(), most=5))


def test_it_is_read_piece_by_piece(alice: User, open_hostile: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PIECE", 2)
    for number in range(5):
        open_hostile(f"request {number}")
    with CaptureQueriesContext(connection) as captured:
        lines = list(Export(alice, Filters()))
    assert [line.count("\r\n") for line in lines] == [1, 2, 2, 1]
    monkeypatch.setattr(exports, "PIECE", 5)
    with CaptureQueriesContext(connection) as whole:
        list(Export(alice, Filters()))
    assert len(whole) == 3
    assert len(captured) == 3 * 3 + 1  # and once the reader's roles


def test_the_server_that_is_really_used_streams_it_too(alice: User, open_hostile: Open) -> None:
    approval = open_hostile("over ASGI")

    async def ask() -> bytes:
        client = AsyncClient()
        await client.aforce_login(alice)
        response: Any = await client.get(EXPORT)
        assert response.is_async
        return b"".join([piece async for piece in response.streaming_content])

    assert approval.pk.encode() in async_to_sync(ask)()


def test_only_those_who_may_see_get_it(eve: User, db: None) -> None:
    client = Client()
    assert client.get(EXPORT).status_code == 302
    client.force_login(eve)
    assert client.get(EXPORT).status_code == 403
    assert client.post(EXPORT).status_code == 405
