"""Markdown that somebody else wrote, as HTML in which nothing acts.

Two fences: the parser reads no HTML, so a tag is shown as the text it is; what it writes is then cleaned by a list of
what may stay. Pictures become links: a page of ours fetches nothing from anywhere. Headings become bold lines, for the
page around them has an outline of its own.
"""

from __future__ import annotations

from functools import cache
from html import escape
from typing import Any, Final

import nh3
from markdown_it import MarkdownIt

from console.text.visible import make_visible

MOST_CHARACTERS: Final = 100_000
_TAGS: Final = {
    "p", "br", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "hr", "a",
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
_SCHEMES: Final = {"http", "https", "mailto"}


def to_inert_html(text: str) -> str:
    """Return the text as HTML that may stand in a page; what is longer than 100,000 characters is cut off."""
    drawn = _parser().render(text[:MOST_CHARACTERS])
    cleaned: str = nh3.clean(
        drawn,
        tags=_TAGS,
        attributes={"*": set(), "a": {"href"}},
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer nofollow",
    )
    return cleaned


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.add_render_rule("heading_open", _as("<p><strong>"))
    parser.add_render_rule("heading_close", _as("</strong></p>\n"))
    parser.add_render_rule("image", _image)
    parser.add_render_rule("text", _text)
    return parser


def _as(html: str) -> Any:
    def rule(_self: Any, _tokens: Any, _index: int, _options: Any, _env: Any) -> str:
        return html

    return rule


def _text(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """Draw words with whatever hides in them written out."""
    return escape(make_visible(tokens[index].content))


def _image(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """Draw a picture as a link to it."""
    token = tokens[index]
    address, words = escape(str(token.attrs.get("src", ""))), escape(make_visible(token.content or "picture"))
    return f'<a href="{address}">{words} (a picture)</a>'
