"""Cursors of lists: what comes back as it was given, and what is read as no cursor at all."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User

from console.lists.keyset import LAST, Order, Position, page_after

AT = "2026-01-01T00:00:00+00:00"
ORDER = Order("opened_at", ("opened_at", "id"), (datetime, str))


def packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_a_cursor_comes_back_as_it_was_given() -> None:
    row = SimpleNamespace(opened_at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), id="run_1")
    assert ORDER.read(ORDER.cursor(row)) == Position((row.opened_at, "run_1"))
    assert ORDER.read(ORDER.cursor(row, backwards=True)) == Position((row.opened_at, "run_1"), is_backwards=True)
    assert Order("other", ORDER.columns, ORDER.kinds).read(ORDER.cursor(row)) == Position(), "another list's"


def test_a_number_that_no_column_holds_is_no_cursor() -> None:
    numbers = Order("record", ("seq",), (int,))
    for number, position in ((2**63 - 1, Position((2**63 - 1,))), (2**63, Position()), (True, Position())):
        assert numbers.read(packed(json.dumps(["record", "after", number]))) == position


@pytest.mark.parametrize("cursor", ["", "%", "ü", LAST])
def test_pages_that_go_forwards_begin_at_the_beginning(cursor: str, ada: User) -> None:
    users = User.objects.filter(pk=ada.pk)
    assert page_after(users, Order("users", ("id",), (int,)), cursor, 5) == ([ada], None)


def test_pages_follow_each_other_without_a_row_lost_or_told_twice(ada: User, alice: User, bob: User) -> None:
    same_name = Order("users", ("last_name", "id"), (str, int), is_descending=True)
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page, cursor = page_after(User.objects.filter(last_name=""), same_name, cursor, 1)
        seen += [user.pk for user in page]
    assert seen == sorted({ada.pk, alice.pk, bob.pk}, reverse=True)


@pytest.mark.parametrize(
    "last",
    [f'"{AT}", "\\ud800"', f'"{AT}", "a\\u0000"', f'"{AT}", 7', '"2026-01-01T00:00:00", "a"', "7, 7", "[" * 20_000],
    ids=["half a character", "NUL", "a number", "no zone", "no moment", "nested"],
)
def test_what_no_list_has_given_begins_at_the_beginning(last: str) -> None:
    assert ORDER.read(packed(f'[{json.dumps(ORDER.name)}, "after", {last}]')) == Position()
