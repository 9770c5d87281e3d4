"""A difference in the order in which it is read: what changed first, the rest folded behind."""

from __future__ import annotations

from django import template

from console.text.diff import Change

register = template.Library()


@register.filter
def changed(changes: list[Change]) -> list[Change]:
    """Return what differs, in its order."""
    return [change for change in changes if change.kind != "same"]


@register.filter
def unchanged(changes: list[Change]) -> list[Change]:
    """Return what is the same on both sides, in its order."""
    return [change for change in changes if change.kind == "same"]
