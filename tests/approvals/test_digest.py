"""The exact bytes of a proposal: the same wish gives the same digest, and what is not exact is refused."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approvals.proposal.canonical import LIMIT_BYTES, LIMIT_DEPTH, NotCanonical, canonicalise, digest_of, read_canonical

EXACT = 2**53 - 1
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda it: abs(it) <= EXACT or abs(it) >= 1e21)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-EXACT, EXACT) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
ARGUMENTS = st.dictionaries(TEXTS, VALUES, max_size=6)


def shuffled(value: Any) -> Any:
    """Return the same JSON with every object's keys the other way round."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(ARGUMENTS)
def test_the_order_of_keys_does_not_matter(arguments: dict[str, Any]) -> None:
    assert canonicalise("pay", arguments) == canonicalise("pay", shuffled(arguments))


@given(TEXTS, ARGUMENTS)
def test_the_bytes_hold_the_whole_proposal(tool: str, arguments: dict[str, Any]) -> None:
    read_tool, read = read_canonical(canonicalise(tool, arguments))
    assert (read_tool, read) == (tool, arguments)
    assert canonicalise(tool, read) == canonicalise(tool, arguments)


@given(ARGUMENTS, ARGUMENTS)
def test_two_wishes_share_a_digest_only_when_they_are_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = digest_of(canonicalise("pay", one)) == digest_of(canonicalise("pay", other))
    assert same == (json.loads(canonicalise("pay", one)) == json.loads(canonicalise("pay", other)))


def test_the_digest_is_the_sha256_that_anybody_can_compute() -> None:
    canonical = canonicalise("issue_refund", {"order_id": "8801", "amount": "50.00", "note": "für Ø"})
    expected = '{"arguments":{"amount":"50.00","note":"für Ø","order_id":"8801"},"tool":"issue_refund"}'
    assert canonical == expected.encode()
    assert digest_of(canonical) == hashlib.sha256(expected.encode()).hexdigest()


@pytest.mark.parametrize("value", [1, True, "1", [1], None, 1.5])
def test_values_of_another_kind_have_another_digest(value: Any) -> None:
    others = [1, True, "1", [1], None, 1.5]
    digests = [digest_of(canonicalise("pay", {"a": other})) for other in others]
    assert digests.count(digest_of(canonicalise("pay", {"a": value}))) == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (2**53, "send it as text"),
        (-(2**53), "send it as text"),
        (10**400, "send it as text"),
        (2.0**53, "send it as text"),
        (2.138807255820369e16, "send it as text"),
        (float("nan"), "not-a-number"),
        (float("inf"), "Infinity"),
        (float("-inf"), "Infinity"),
        ("\ud800", "cannot be written as JSON"),
        ("a\udfffb", "cannot be written as JSON"),
        ("a\x00b", "NUL"),
        ({"\x00": 1}, "NUL"),
        ("\\\x00", "NUL"),
        (b"bytes", "cannot be written as JSON"),
        ({1, 2}, "cannot be written as JSON"),
        ({1: "a number as key"}, "cannot be written as JSON"),
        ("x" * LIMIT_BYTES, "bytes; at most 262,144"),
    ],
)
@pytest.mark.parametrize("depth", [0, 2])
def test_what_cannot_be_exact_is_refused_with_what_to_do(value: Any, words: str, depth: int) -> None:
    for _ in range(depth):
        value = {"inside": [value]}
    with pytest.raises(NotCanonical, match=words):
        canonicalise("pay", {"value": value})


def test_a_bottomless_proposal_is_refused_and_not_a_crash() -> None:
    deep: Any = "end"
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotCanonical):
        canonicalise("pay", {"deep": deep})
    while isinstance(deep, list):  # taken apart by hand: Python's own way would go as deep
        deep = deep.pop()


@pytest.mark.parametrize("text", [r"\u0000", r"\\u0000", "\\\\", "\x01", "\u2028", "ﬀ", "é", "e\u0301", "\U0001f600"])
def test_unusual_text_is_kept_as_it_is(text: str) -> None:
    assert read_canonical(canonicalise("pay", {"text": text}))[1] == {"text": text}


def test_text_that_looks_alike_has_another_digest() -> None:
    assert canonicalise("pay", {"to": "é"}) != canonicalise("pay", {"to": "e\u0301"})


@pytest.mark.parametrize("size", [0, 1])
def test_the_limit_is_met_to_the_byte(size: int) -> None:
    empty = len(canonicalise("pay", {"text": ""}))
    text = "x" * (LIMIT_BYTES - empty + size)
    if size:
        with pytest.raises(NotCanonical):
            canonicalise("pay", {"text": text})
    else:
        assert len(canonicalise("pay", {"text": text})) == LIMIT_BYTES


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": value}
    return value


def test_what_is_nested_too_deep_is_refused_in_a_sentence() -> None:
    assert canonicalise("pay", nested(LIMIT_DEPTH))
    for levels in (LIMIT_DEPTH + 1, 200, 50_000):
        with pytest.raises(NotCanonical, match="more than 64 levels deep"):
            canonicalise("pay", nested(levels))
