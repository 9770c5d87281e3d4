"""Cursors of lists: what comes back as it was given, and what is read as no cursor at all."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from console.lists.keyset import Order, Position, make_cursor, read_cursor

AT = "2026-01-01T00:00:00+00:00"
ORDER = Order("opened_at", ("opened_at", "id"), (datetime, str))


def packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_a_cursor_comes_back_as_it_was_given() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert read_cursor(make_cursor(moment, "run_1")) == (moment, "run_1")


@pytest.mark.parametrize(
    "last",
    [f'"{AT}", "\\ud800"', f'"{AT}", "a\\u0000"', f'"{AT}", 7', '"2026-01-01T00:00:00", "a"', "7, 7", "[" * 20_000],
    ids=["half a character", "NUL", "a number", "no zone", "no moment", "nested"],
)
def test_what_no_list_has_given_begins_at_the_beginning(last: str) -> None:
    assert read_cursor(packed(f"[{last}]")) is None
    assert ORDER.read(packed(f'[{json.dumps(ORDER.name)}, "after", {last}]')) == Position()
