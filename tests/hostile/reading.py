# ruff: noqa: RUF001
"""Read back what `make_visible` wrote: whoever sees the screen can tell the text exactly."""

from __future__ import annotations

import re

_TIMES = re.compile(r"(U\+[0-9A-F]{4,6}|space|tab|line break) × ([0-9,]+)")
_BLANKS = {"space": " ", "tab": "\t", "line break": "\n"}


def read_back(shown: str) -> str:
    """Return the text that was made visible. Marks that only comment on a word are left out, nested ones with them."""
    text, place = [], 0
    while (start := shown.find("⟨", place)) >= 0:
        text.append(shown[place:start])
        depth, place = 1, start + 1
        while depth:
            depth += {"⟨": 1, "⟩": -1}.get(shown[place], 0)
            place += 1
        text.append(_meant(shown[start + 1 : place - 1]))
    return "".join([*text, shown[place:]])


def _meant(mark: str) -> str:
    if re.fullmatch(r"U\+[0-9A-F]{4,6}", mark):
        return chr(int(mark[2:], 16))
    if found := _TIMES.fullmatch(mark):
        what, times = found[1], int(found[2].replace(",", ""))
        return (_BLANKS[what] if what in _BLANKS else chr(int(what[2:], 16))) * times
    return ""
