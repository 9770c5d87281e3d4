"""Make text that hides something show it. Every sink that shows untrusted text uses this one function.

Controls, bidirectional marks, zero-width and tag characters, variation selectors, private-use and unusual
spaces become `⟨U+202E⟩`. Newlines and tabs stay, as layout. Escaping for HTML stays the template's work.
"""

from __future__ import annotations

import unicodedata

# Rendered as nothing or as space by most fonts although they are letters or symbols to Unicode.
_BLANK = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\u034f")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def make_visible(text: str) -> str:
    """Return the text with every character that would not show as itself written out."""
    return "".join(f"⟨U+{ord(char):04X}⟩" if _is_hidden(char) else char for char in text)


def _is_hidden(char: str) -> bool:
    if char in " \n\t":
        return False
    category = unicodedata.category(char)
    is_variation_selector = "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
    return category in _HIDDEN_CATEGORIES or category == "Zs" or char in _BLANK or is_variation_selector
