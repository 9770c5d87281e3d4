"""What PostgreSQL keeps of a text is asked in one place, by whoever takes one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from console.text.stored import StoredText, all_can_be_kept, asked_text, can_be_kept, storable, text_fault

ROOT = Path(__file__).parents[2]
NUL, HALF = "a\x00b", "a\ud800b"
ASKS_ITSELF = re.compile(r'"(?:\\x00|\\\\u0000)"')  # a text of NUL alone, as a check of one's own compares with


@pytest.mark.parametrize("text", [NUL, HALF, "\udfff", "\x00"])
def test_what_cannot_be_kept_is_refused_with_a_sentence_or_made_keepable(text: str) -> None:
    assert not can_be_kept(text) and "(NUL, or half of one)" in text_fault(text, 10)
    with pytest.raises(ValidationError):
        TypeAdapter(StoredText).validate_python(text)
    assert can_be_kept(storable(text)) and len(storable(text)) == len(text)


@pytest.mark.parametrize("text", ["", "plain", "\\u0000", "😀 ü\n", "\N{SYMBOL FOR NULL}"])
def test_what_can_be_kept_stays_as_it_is(text: str) -> None:
    assert can_be_kept(text) and text_fault(text, 10) == "" and storable(text) == text
    assert TypeAdapter(StoredText).validate_python(text) == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, None, {"b": "\\u0000"}]}, True),  # a backslash, a letter and digits: no NUL
        ({"a": [1, {"b": NUL}]}, False),
        ({NUL: 1}, False),
        ([[[HALF]]], False),
        (7, True),
    ],
)
def test_every_text_of_a_value_is_looked_at(value: Any, expected: bool) -> None:
    assert all_can_be_kept(value) is expected
    deep = value
    for _ in range(5_000):  # deeper than Python's own recursion goes
        deep = [deep]
    assert all_can_be_kept(deep) is expected


def test_a_text_that_is_too_long_is_told_how_long_it_may_be() -> None:
    assert text_fault("x" * 1_201, 1_200) == "At most 1,200 characters; this has 1,201."


def test_an_address_asks_for_what_a_row_may_hold() -> None:
    assert asked_text(f"  {NUL}  ", 10) == "ab" and asked_text(None, 10) == "" and asked_text("x" * 20, 10) == "x" * 10


def test_nobody_else_looks_for_nul_by_hand() -> None:
    product = ("approvals", "console", "dataplane", "orchestration", "stack")
    files = [path for folder in product for path in (ROOT / folder).rglob("*.py") if path.name != "stored.py"]
    assert len(files) > 300
    assert [str(path.relative_to(ROOT)) for path in files if ASKS_ITSELF.search(path.read_text())] == []
