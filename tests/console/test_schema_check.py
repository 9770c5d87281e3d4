"""Values are held against schemas that strangers wrote: in words, exactly, and never for long."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.forms.schema_check import BrokenSchema, check
from console.text.json_text import MOST_KEYS, NotJson, read_exactly, read_json, read_number, write_json
from tests.effort import effort


def told(schema: dict[str, Any], value: Any) -> dict[tuple[str | int, ...], str]:
    return {fault.path: fault.sentence for fault in check(schema, value)}


ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 4},
        "count": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]},
        "price": {"type": "number", "multipleOf": 0.1},
        "state": {"enum": ["new", 1, None]},
        "due": {"type": "string", "format": "date"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}, "uniqueItems": True},
    },
    "required": ["id"],
    "additionalProperties": False,
    "$defs": {"Line": {"type": "object", "required": ["sku"]}},
}


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ({}, ("id",), "needed"),
        ({"id": ""}, ("id",), "needed"),
        ({"id": "12345"}, ("id",), "at most 4 characters; these are 5"),
        ({"id": "1", "count": 1}, ("count",), "greater than or equal to 3"),
        ({"id": "1", "count": "3"}, ("count",), "allowed here, or more"),
        ({"id": "1", "price": 0.35}, ("price",), "multiple of 0.1"),
        ({"id": "1", "state": "1"}, ("state",), "one of: new, 1, null"),
        ({"id": "1", "state": True}, ("state",), "one of"),
        ({"id": "1", "due": "31.01.2026"}, ("due",), "a date like 2026-01-31"),
        ({"id": "1", "lines": [{}]}, ("lines", 0, "sku"), "needed"),
        ({"id": "1", "lines": [{"sku": 1}, {"sku": 1.0}]}, ("lines",), "once only"),
        ({"id": "1", "colour": "red"}, ("colour",), "not known here"),
        ([], (), "an object"),
    ],
)
def test_what_does_not_fit_is_told_where_and_in_words(value: Any, path: tuple[str | int, ...], words: str) -> None:
    assert words in told(ORDER, value)[path]


def test_what_fits_is_not_argued_with() -> None:
    fits = {"id": "1", "count": None, "price": 0.3, "state": 1.0, "due": "2026-02-28", "lines": [{"sku": 1}]}
    assert told(ORDER, fits) == {}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string", "pattern": r"^(\w+\s?)*$"}},
        {"type": "array", "items": {"type": "string", "pattern": r"(x+x+)+y"}},
        {"$defs": {"R": {"anyOf": [{"items": {"$ref": "#/$defs/R"}}] * 3}}, "$ref": "#/$defs/R"},
        {"type": "array", "uniqueItems": True, "items": {"enum": list(range(500))}},
    ],
)
def test_no_schema_keeps_us_waiting(schema: dict[str, Any]) -> None:
    deep: Any = ["x" * 200 + "!"] * 40
    for _ in range(40):
        deep = [deep, "x" * 200 + "!"]
    for value in (["x" * 5_000 + "!"] * 50, [{"a": n} for n in range(5_000)], deep):
        assert effort(partial(check, schema, value), rounds=1) < 1_500


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "#"},
        {"type": 5},
        {"type": "string", "pattern": "(?P<x"},
    ],
)
def test_a_broken_schema_is_called_broken_and_fetches_nothing(
    schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: asked.append(args))
    with pytest.raises(BrokenSchema, match=r"^The schema"):
        check(schema, "x")
    assert asked == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1,", "line 1, column 4"),
        ("NaN", "no number"),
        ('{"a": 1, "a": 2}', "twice"),
        ("0.12345678901234567890123", "exactly"),
        ("1e999", "exactly"),
        ("1e-999", "exactly"),
        ("9" * 301, "300 digits"),
        ("[" * 100_000, "levels"),
        ("[" * 70 + "]" * 70, "levels"),
        ('"\\ud800"', "half of a character"),
        ('{"\\ud800": 1}', "half of a character"),
        ("[" + "1," * MOST_KEYS + "1]", "keys and items"),
        ('"' + "x" * 300_000 + '"', "256 KiB"),
    ],
)
def test_json_that_cannot_be_kept_is_refused_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(NotJson, match=words):
        read_json(text)


def test_a_key_that_stands_twice_is_named_also_among_very_many() -> None:
    """A search that compares each with each would not come back here."""
    text = "{" + "".join(f'"{number}": 0, ' for number in range(300_000)) + '"299999": 1}'
    with pytest.raises(NotJson, match='The key "299999" stands twice'):
        read_exactly(text)


@pytest.mark.parametrize("text", ["0", "-7", "9007199254740993", "1.0", "0.1", "2.50", "1e3", "123456789012345678901"])
def test_a_number_keeps_its_value_and_its_kind(text: str) -> None:
    value = read_number(text)
    assert isinstance(value, int) is text.lstrip("-").isdigit()
    assert float(text) == float(value) and (not isinstance(value, int) or str(value) == text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_written_json_reads_back_the_same_and_hides_nothing(value: Any) -> None:
    text = write_json(value, indent=2)
    assert repr(read_json(text)) == repr(value)
    assert "\u202e" not in text and "\u200b" not in text
