"""Text that PostgreSQL can keep: it takes no NUL and no half of a character, and a column only so many characters.

At an endpoint's door `StoredText` refuses, where a sentence stands beside a field `text_fault` says what is wrong, what
an address asks for is read by `asked_text`, and what others say is kept in any case, by `storable`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator

NUL: Final = "\x00"
UNKEPT: Final = "It holds a character that cannot be kept (NUL, or half of one): remove it."
_HALVES = re.compile("[\ud800-\udfff]")


def holds_half(text: str) -> bool:
    """Return whether the text holds half of a character (a lone surrogate), which nothing can write down."""
    return not text.isascii() and _HALVES.search(text) is not None


def can_be_kept(text: str) -> bool:
    """Return whether PostgreSQL takes the text."""
    return NUL not in text and not holds_half(text)


def all_can_be_kept(value: Any) -> bool:
    """Return whether PostgreSQL takes every text of a JSON value, its keys too. Goes level by level, however deep."""
    level = [value]
    while level:
        if not all(can_be_kept(one) for one in level if isinstance(one, str)):
            return False
        level = [below for one in level if isinstance(one, dict | list | tuple) for below in _parts(one)]
    return True


def _parts(nest: Any) -> list[Any]:
    return [*nest, *nest.values()] if isinstance(nest, dict) else list(nest)


def text_fault(text: str, most: int) -> str:
    """Return a sentence when the text has more than `most` characters or one that cannot be kept, else ""."""
    if len(text) > most:
        return f"At most {most:,} characters; this has {len(text):,}."
    return "" if can_be_kept(text) else UNKEPT


def asked_text(typed: str | None, most: int) -> str:
    """Return what an address asks for as it can be looked up: without NUL, which no row holds, and cut at `most`."""
    return (typed or "").replace(NUL, "").strip()[:most]


def storable(text: str) -> str:
    """Return the text as PostgreSQL can keep it: NUL and half a character stand there as ␀ and �."""
    return _HALVES.sub("\N{REPLACEMENT CHARACTER}", text.replace(NUL, "\N{SYMBOL FOR NULL}"))


def _checked(text: str) -> str:
    if not can_be_kept(text):
        raise ValueError(UNKEPT)
    return text


StoredText = Annotated[str, AfterValidator(_checked)]
