"""Untrusted text in templates: whatever would not show as itself is written out."""

from __future__ import annotations

import json
import re
from itertools import pairwise

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe

from console.text.visible import make_visible

register = template.Library()

_UNBROKEN = re.compile(r"\S{400}")


@register.filter
def visible(text: object) -> str:
    """Return the text with hidden characters shown; the template still escapes it."""
    return make_visible(str(text))


@register.filter
def breakable(text: str) -> SafeString:
    """Escape the text and offer a place to break in every 400 characters without a blank.

    Chromium lays out a run of 30,000 letters again from its start for each line, and hangs for minutes at times.
    """
    cuts = [0, *(found.end() for found in _UNBROKEN.finditer(text)), len(text)]
    return format_html_join(mark_safe("<wbr>"), "{}", ((text[start:end],) for start, end in pairwise(cuts)))


@register.filter
def plain_value(exact: str) -> str:
    """Return a JSON text without its quotes and escapes, as a person reads it; other values as they are."""
    value = json.loads(exact)
    return value if isinstance(value, str) else exact


@register.filter
def is_text(exact: str) -> bool:
    """Return whether the exact JSON is a text, so that its quoted form adds something."""
    return exact.startswith('"')
