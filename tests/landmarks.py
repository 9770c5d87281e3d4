"""What a screen reader lists of a page, and what it could not tell apart there."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

#: which elements are landmarks; of those whose role is in NAMED, only the ones that have a name
ROLES = {"section": "region", "form": "form", "nav": "navigation", "aside": "complementary", "main": "main"}
NAMED = {"region", "form"}
EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def not_told_apart(html: str) -> list[str]:
    """Return, in words, each pair of role and name that the page has more than once, and each id given twice."""
    page = _Page()
    page.feed(html)
    named = [(role, " ".join(page.text_of(by).split()) or label) for role, label, by in page.landmarks]
    twice = Counter((role, name) for role, name in named if name or role not in NAMED)
    faults = [f"{count} times {role} “{name}”" for (role, name), count in twice.items() if count > 1]
    return faults + [f"{count} times id {one}" for one, count in Counter(page.ids).items() if count > 1]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.landmarks: list[tuple[str, str, list[str]]] = []  # role, aria-label, ids of what names it
        self.ids: list[str] = []
        self._text: dict[str, str] = {}
        self._open: list[tuple[str, str]] = []  # tag, id

    def text_of(self, ids: list[str]) -> str:
        return " ".join(self._text.get(one, "") for one in ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        named = has.get("id", "") if tag != "hx-partial" else ""  # that one says what it replaces
        is_first = named not in self.ids  # a browser, too, takes the first
        self.ids += [named] if named else []
        role = has.get("role") or ROLES.get(tag, "")
        if role in (*ROLES.values(), "search"):
            self.landmarks.append((role, has.get("aria-label", ""), has.get("aria-labelledby", "").split()))
        if tag not in EMPTY:
            self._open.append((tag, named if is_first else ""))

    def handle_data(self, data: str) -> None:
        for _, one in self._open:
            if one:
                self._text[one] = self._text.get(one, "") + data

    def handle_endtag(self, tag: str) -> None:
        for at in range(len(self._open) - 1, -1, -1):
            if self._open[at][0] == tag:
                del self._open[at:]
                return
