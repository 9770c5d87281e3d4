"""Text that hides something shows it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approvals.visible import make_visible


@pytest.mark.parametrize(
    "char",
    [
        *("\x00", "\x1b", "\r", "\x85", "\u00ad", "\u061c", "\u200b", "\u200d", "\u200e", "\u202e", "\u2066", "\u2069"),
        *("\ufeff", "\u2028", "\u2029", "\u00a0", "\u2003", "\u3000", "\u3164", "\u2800", "\u115f", "\u034f"),
        *("\ufe0f", "\ufe00", "\U000e0100", "\U000e0041", "\ue000", "\U0010fffd", "\ud800", "\uffff"),
    ],
    ids=lambda char: f"U+{ord(char):04X}",
)
def test_what_would_not_show_is_written_out(char: str) -> None:
    assert make_visible(f"a{char}b") == f"a⟨U+{ord(char):04X}⟩b"


@pytest.mark.parametrize(
    "text",
    ["", "plain words", "two\nlines\tand a tab", "Grüße, Ærø", "Ελληνικά", "日本語", "עברית", "€ 5 % — “so”", "😀"],
)
def test_what_shows_as_itself_stays(text: str) -> None:
    assert make_visible(text) == text


def test_a_file_name_that_reads_backwards_is_unmasked() -> None:
    assert make_visible("invoice_\u202efdp.exe") == "invoice_⟨U+202E⟩fdp.exe"


@given(st.text(st.characters()))
def test_nothing_hidden_is_left_and_nothing_shown_is_lost(text: str) -> None:
    shown = make_visible(text)
    assert make_visible(shown) == shown
    for char in shown:
        assert char in "\n\t" or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    if shown == text:
        assert "⟨U+" not in shown or "⟨U+" in text
