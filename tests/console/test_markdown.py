"""Markdown that somebody else wrote: nothing in it acts, and nothing of it is lost."""

from __future__ import annotations

import re

import pytest

from console.text.markdown import to_inert_html

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<b hx-get="/runs/" hx-trigger="load">x</b>',
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:msgbox(1))",
    "![x](javascript:alert(1))",
    '![x"onerror="alert(1)](https://a.example/p.png)',
    '[x](https://a.example "onmouseover=alert(1)")',
    '<https://a.example/"onclick=alert(1)>',
    "<iframe src=https://a.example></iframe>",
    "# <svg onload=alert(1)>",
    "| <script>1</script> |\n|-|\n| <style>*{display:none}</style> |",
    "```html\n<script>alert(1)</script>\n```",
    "`<script>`",
    "<form action=/x><input name=y></form>",
    "<!-- <script>alert(1)</script> -->",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
]
_TAG = re.compile(r"<(/?)([a-zA-Z0-9]+)([^>]*)>")
_MAY_STAY = {"p", "br", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "hr", "a"} | {
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_acts(text: str) -> None:
    for _, name, attributes in _TAG.findall(to_inert_html(text)):
        assert name in _MAY_STAY
        assert re.fullmatch(r'( href="(https?|mailto):[^"]*"| rel="noopener noreferrer nofollow")*', attributes)


def test_what_is_meant_is_drawn() -> None:
    drawn = to_inert_html("# Orders\n\n**10** rows, see [the run](https://a.example/1)\n\n|a|b|\n|-|-|\n|1|2|\n")
    assert "<p><strong>Orders</strong></p>" in drawn and "<h1" not in drawn, "the page has headings of its own"
    assert '<a href="https://a.example/1" rel="noopener noreferrer nofollow">the run</a>' in drawn
    assert "<td>2</td>" in drawn


def test_a_picture_is_a_link_and_what_hides_is_written_out() -> None:
    assert to_inert_html("![sales](https://a.example/p.png)").startswith('<p><a href="https://a.example/p.png"')
    assert "⟨U+202E⟩" in to_inert_html("pay \u202eevil")
