"""What a browser would send for the controls of a page: parsed from its HTML, nothing filled in."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from django.http import QueryDict


def sent_by_a_browser(html: str) -> QueryDict:
    """Return the successful controls of the HTML, values as a browser normalises and encodes them."""
    parser = _Controls()
    parser.feed(html.replace("\r\n", "\n").replace("\r", "\n"))
    query = QueryDict(mutable=True)
    for name, value in parser.found:
        query.appendlist(name, re.sub(r"\r\n|\r|\n", "\r\n", value))
    return QueryDict(query.urlencode(), mutable=True)


class _Controls(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._select: tuple[str, str | None, str | None] | None = None  # name, first option, selected option
        self._area: tuple[str, str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = dict(attrs)
        name = has.get("name") or ""
        if tag == "input":
            if has.get("type") in ("checkbox", "radio") and "checked" not in has:
                return
            value = has.get("value", "on" if has.get("type") == "checkbox" else "") or ""
            self.found.append((name, value if has.get("type") == "hidden" else value.replace("\n", "")))
        elif tag == "select":
            self._select = (name, None, None)
        elif tag == "option" and self._select is not None:
            of, first, selected = self._select
            value = has.get("value") or ""
            self._select = (of, value if first is None else first, value if "selected" in has else selected)
        elif tag == "textarea":
            self._area = (name, "")

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._area = (self._area[0], self._area[1] + data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "select" and self._select is not None:
            of, first, selected = self._select
            self.found.append((of, selected if selected is not None else first or ""))
            self._select = None
        elif tag == "textarea" and self._area is not None:
            self.found.append((self._area[0], self._area[1].removeprefix("\n")))
            self._area = None
