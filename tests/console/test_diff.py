"""What a reviewer reads as the difference is the difference: every path, exact, marked, and never slow."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from django.template.loader import render_to_string
from hypothesis import given, settings
from hypothesis import strategies as st

from console.text.diff import Change, diff
from tests.effort import effort


def rows(before: Any, after: Any) -> list[tuple[str, str, str | None, str | None]]:
    return [(one.path, one.kind, one.before, one.after) for one in diff(before, after)]


def changed(before: Any, after: Any) -> list[tuple[str, str]]:
    return [(one.path, one.kind) for one in diff(before, after) if one.kind != "same"]


def marked(change: Change) -> tuple[str, str]:
    """Return both sides with what is marked in braces."""
    sides = (change.before_parts, change.after_parts)
    left, right = ("".join(f"{{{p.text}}}" if p.mark != "same" else p.text for p in side) for side in sides)
    return left, right


def html_of(changes: list[Change]) -> str:
    context = {"changes": changes, "before_title": "Proposed", "after_title": "Changed"}
    return str(render_to_string("approvals/_diff.html", context))


def test_each_path_has_its_exact_json_on_both_sides() -> None:
    assert rows({"a": 1, "b": "x", "c": [], "d": {"e": None}}, {"a": 2, "c": [], "d": {"f": True}}) == [
        ("a", "changed", "1", "2"),
        ("b", "removed", '"x"', None),
        ("c", "same", "[]", "[]"),
        ("d.e", "removed", "null", None),
        ("d.f", "added", None, "true"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (1, "1", "changed"),
        (1, True, "changed"),
        (0, False, "changed"),
        ("true", True, "changed"),
        (None, "null", "changed"),
        (1, 1.0, "same"),
        (1, 1.5, "changed"),
        ("é", "e\u0301", "changed"),
        ({}, [], "changed"),
        (2**53 + 1, 2**53 + 2, "changed"),
        (2**53 + 1, 2**53 + 1, "same"),
    ],
)
def test_types_matter_and_canonical_json_decides(before: Any, after: Any, kind: str) -> None:
    assert [one.kind for one in diff({"x": before}, {"x": after})] == [kind]
    assert [one.kind for one in diff({"x": [before]}, {"x": [after]})] == [kind]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ([1, 2, 3], [0, 1, 2, 3], [("[0]", "added")]),
        ([1, 2, 3], [1, 3], [("[1]", "removed")]),
        ([1, 2], [2, 1], [("[0]", "added"), ("[1]", "removed")]),
        ([{"id": 1, "n": 1}, {"id": 2, "n": 1}], [{"id": 9}, {"id": 1, "n": 5}, {"id": 2, "n": 1}], None),
        ([], [1], [("[0]", "added")]),
        ({"a": {}}, {"a": {"b": 1}}, [("a.b", "added")]),
        ({"a.b": 1}, {"a": {"b": 1}}, [('["a.b"]', "removed"), ("a.b", "added")]),
    ],
)
def test_an_inserted_item_is_one_addition(before: Any, after: Any, found: list[tuple[str, str]] | None) -> None:
    if found is None:
        assert changed(before, after) == [("[0].id", "added"), ("[0→1].n", "changed")]
    else:
        assert sorted(changed(before, after)) == sorted(found)


@pytest.mark.parametrize(
    ("before", "after", "left", "right"),
    [
        ("Refund 20 EUR now", "Refund 200 EUR now", '"Refund {20} EUR now"', '"Refund {200} EUR now"'),
        ("to the blue lamp", "to a red lamp", '"to {the blue} lamp"', '"to {a red} lamp"'),
        ("a", "ab", '"{a}"', '"{ab}"'),
        ("", "new", '""', '"{new}"'),
        ('say "x"', 'say "y"', r'"say \"{x}\""', r'"say \"{y}\""'),
    ],
)
def test_changed_words_are_marked_on_both_sides(before: str, after: str, left: str, right: str) -> None:
    [change] = diff({"text": before}, {"text": after})
    assert marked(change) == (left, right)


def test_long_texts_are_compared_by_line_and_far_lines_are_folded_not_cut() -> None:
    lines = [f"Line {number} of the letter." for number in range(60)]
    other = [*lines[:30], "Line 30 of another letter.", *lines[31:], "P.S."]
    [change] = diff({"body": "\n".join(lines)}, {"body": "\n".join(other)})
    assert change.before_parts == ()
    told = [(line.mark, "".join(part.text for part in line.parts)) for block in change.blocks for line in block.lines]
    assert ("removed", lines[30]) in told and ("added", other[30]) in told and ("added", "P.S.") in told
    assert [text for mark, text in told if mark != "added"] == lines
    assert [text for mark, text in told if mark != "removed"] == other
    assert [block.is_folded for block in change.blocks].count(True) == 2
    html = html_of([change])
    assert all(f"Line {number} of" in html for number in range(60))
    assert "<del>" in html and "removed" in html and "added" in html


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("pay ana", "pay\u00a0ana", "⟨U+00A0⟩"),
        ("pay ana", "pay ana\u202e", "⟨U+202E⟩"),
        ("pay ana", "pay an\u0430", "⟨U+0430⟩"),
        ("caf\u00e9", "cafe\u0301", "U+0065 U+0301"),
        ("ana", "ana  ", "2 spaces"),
        ("ana\tb", "ana b", "tab"),
        ("a\nb", "a\nb\n", "empty line"),
        ("a\nb", "a\nb ", "space"),
        ("a\r\nb", "a\nb", "⟨U+000D⟩"),
        ("\u212b", "\u00c5", "U+212B"),
    ],
)
def test_a_difference_that_the_eye_would_miss_is_written_out(before: str, after: str, shown: str) -> None:
    assert shown in html_of(diff({"x": before}, {"x": after}))


def test_what_is_compared_is_inert() -> None:
    bad = "<script>alert(1)</script><img src=x onerror=y>"
    html = html_of(diff({bad: bad, "x": [bad + "\n"]}, {"y": bad, "x": [bad + "\n!"]}))
    assert "<script" not in html and "<img" not in html and "hx-ignore" in html


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([1.0, 0.5, "1", "", "a b", "a\nb", "a c\nb"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc."), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=400, deadline=None)
@given(values, values)
def test_nothing_is_said_to_be_the_same_that_is_not_and_no_text_is_lost(before: Any, after: Any) -> None:
    changes = diff(before, after)
    is_same = rfc8785.dumps(before) == rfc8785.dumps(after)
    assert (changed(before, after) == []) is is_same
    for one in changes:
        for side, parts, mark in ((one.before, one.before_parts, "added"), (one.after, one.after_parts, "removed")):
            assert all(part.mark != mark for part in parts)
            if one.blocks:
                lines = [line for block in one.blocks for line in block.lines if line.mark != mark]
                assert "\n".join("".join(part.text for part in line.parts) for line in lines) == json.loads(side or "")
            else:
                assert "".join(part.text for part in parts) == (side or "")


HUGE = 250_000


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a " * (HUGE // 2), "b " * (HUGE // 2)),
        ("ab" * (HUGE // 2), "ba" * (HUGE // 2)),
        ("a b " * (HUGE // 4), "b a " * (HUGE // 4)),
        ("a\n" * (HUGE // 2), "b\na\n" * (HUGE // 4)),
        ("\n" * HUGE, "\n\n" * (HUGE // 2 - 9) + "x"),
        ("".join(f"word{n} " for n in range(20_000)), "".join(f"word{n} " for n in range(20_000, 0, -1))),
        ("".join(f"line {n}\n" for n in range(20_000)), "".join(f"line {n * 7 % 20_000}\n" for n in range(20_000))),
        ([n % 7 for n in range(15_000)], [n % 5 for n in range(15_000)]),
        ({str(n): [n] for n in range(5_000)}, {str(n): [n, "x y"] for n in range(5_000)}),
        ([{"text": f"a b {n} c"} for n in range(2_000)], [{"text": f"a x {n} c"} for n in range(2_000)]),
    ],
    ids=range(10),
)
def test_huge_values_take_no_longer_than_a_moment(before: Any, after: Any) -> None:
    assert changed({"x": before}, {"x": after})
    assert diff({"x": before}, {"x": after})
    many = isinstance(before, list | dict)  # tens of thousands of rows take their time to be made
    assert effort(lambda: diff({"x": before}, {"x": after})) < (450 if many else 150)


def test_values_nested_too_deep_are_compared_as_a_whole() -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    assert len(diff({"x": deep}, {"x": [deep]})) == 1


@pytest.mark.parametrize(("before", "after"), [("50.00", "12.50"), ("2026-11-24", "2026-12-24"), ("10:30", "10:45")])
def test_an_amount_a_date_and_a_time_change_as_a_whole(before: str, after: str) -> None:
    [change] = diff({"value": before}, {"value": after})
    assert [part.text for part in change.before_parts if part.mark != "same"] == [before]
    assert [part.text for part in change.after_parts if part.mark != "same"] == [after]


def test_what_changed_comes_first_and_the_rest_is_folded_behind_it() -> None:
    before = {f"a{number}": number for number in range(30)}
    page = html_of(diff(before, before | {"a29": "other"}))
    first, folded = page.split("<details", 1)
    assert "a29" in first and "a28" not in first
    assert "29 unchanged arguments" in folded and "a28" in folded and "a29" not in folded
    assert "<details" not in html_of(diff({"a": 1}, {"a": 2}))
    assert "No argument differs." in html_of(diff({"a": 1}, {"a": 1}))
    assert "No arguments." in html_of(diff({}, {"a": 1})[:0])
