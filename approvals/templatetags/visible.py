"""Untrusted text in templates: whatever would not show as itself is written out."""

from __future__ import annotations

import json

from django import template

from approvals.visible import make_visible

register = template.Library()


@register.filter
def visible(text: object) -> str:
    """Return the text with hidden characters shown; the template still escapes it."""
    return make_visible(str(text))


@register.filter
def plain_value(exact: str) -> str:
    """Return a JSON text without its quotes and escapes, as a person reads it; other values as they are."""
    value = json.loads(exact)
    return value if isinstance(value, str) else exact


@register.filter
def is_text(exact: str) -> bool:
    """Say whether the exact JSON is a text, so that its quoted form adds something."""
    return exact.startswith('"')
